"""Connections to the SQLite file: in each process one for reading and one for writing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...errors import OutcomeUnknown, StoreError, StoreMissing, StoreUnavailable
from ...forking import FLOCK, HAS_OFD, PerProcess, undivided

T = TypeVar("T")

#: raised for a text or a number that SQLite does not take
UNSTORABLE = (UnicodeError, OverflowError)
# Between two attempts to get a lock: a commit takes 1 to 3 ms.
_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.02


class _Connection(sqlite3.Connection):
    """A connection that is known to belong to one process."""

    #: of its file
    path: Path

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.pid = os.getpid()
        _open.add(self)

    def close(self) -> None:
        # Not while it is open: closed by a child, it would leave the parent's account of locks.
        _open.discard(self)
        with undivided:
            super().close()


_open: set[_Connection] = set()
# Of other processes: neither used nor collected.
_left: list[_Connection] = []
_closing = PerProcess(threading.Lock)


class _Kept:
    """One connection of a process, opened when it is needed, for one thread at a time.

    :param timeout_s: longest time to wait for other threads and for the file's lock together.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._text_path = os.fspath(path)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, ...] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def close(self) -> None:
        """Close the connection; who needs it next opens it again."""
        with self._lock:
            self._drop()

    def use(self, run: Callable[[sqlite3.Connection, float], T]) -> T:
        """Return what a function makes of the connection, and of the rest of the timeout.

        Plain functions, here and below: contexts made of generators take a tenth of a change.

        :raises StoreUnavailable: another thread keeps it, or the file is not there.
        """
        deadline = time.monotonic() + self._timeout_s
        if not self._lock.acquire(timeout=self._timeout_s):
            raise StoreUnavailable(f"{self._path}: another thread of the process takes too long")
        try:
            return run(self._connected(deadline), max(0.0, deadline - time.monotonic()))
        except BaseException:
            # In what state it is would be a guess.
            self._drop()
            raise
        finally:
            self._lock.release()

    def _connected(self, deadline: float) -> sqlite3.Connection:
        # A file that was replaced would otherwise be used in its old state until a restart.
        try:
            status = os.stat(self._text_path)
        except OSError as exc:
            raise translation(self._path, exc) from exc
        identity = self._identity_of(status)
        if identity != self._identity:
            self._drop()
        if self._connection is None:
            self._connection = self._open(max(0.0, deadline - time.monotonic()))
            self._identity = identity
            # An app that is dropped, as by a test, closes nothing, and Python 3.13 warns of a
            # connection that it collects. By __del__ it might be collected first.
            self._finalizer = weakref.finalize(self, self._connection.close)
            self._finalizer.atexit = False
        return self._connection

    def _identity_of(self, status: os.stat_result) -> tuple[int, ...]:
        return status.st_dev, status.st_ino

    def _open(self, wait_s: float) -> sqlite3.Connection:
        return connect(self._path, wait_s)

    def _drop(self) -> None:
        finalizer, self._finalizer = self._finalizer, None
        self._connection = self._identity = None
        if finalizer is not None:
            finalizer()


class Reader(_Kept):
    """The one reading connection of a process."""

    def query(self, statement: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows of one statement; block for at most the timeout.

        :raises StoreUnavailable: the file can't be read within the bound.
        """

        def read(connection: sqlite3.Connection, wait_s: float) -> list[tuple[Any, ...]]:
            def run() -> list[tuple[Any, ...]]:
                return connection.execute(statement, parameters).fetchall()

            try:
                return patiently(run, wait_s)
            except sqlite3.OperationalError as exc:
                if "decode to UTF-8" not in str(exc):
                    raise
                # One broken value must not keep all others from being read. Only now,
                # because a function in Python is slower than what is built in.
                connection.text_factory = _readable
                return patiently(run, wait_s)

        with translated(self._path), storable(self._path):
            return self.use(read)

    def _open(self, wait_s: float) -> sqlite3.Connection:
        connection = super()._open(wait_s)
        connection.execute("PRAGMA query_only = ON")
        return connection


class Writer(_Kept):
    """The one writing connection of a process: a write that waits holds no reader up.

    Kept, because to open one costs as much as a commit: the file's schema is read again.
    """

    def commit(
        self,
        run: Callable[[sqlite3.Connection], T],
        before_commit: Callable[[], None] | None = None,
    ) -> T:
        """Return what a function returns whose statements are committed in one transaction.

        Blocks for at most the timeout before that begins.

        :param before_commit: see :func:`commit`.
        :raises StoreUnavailable: the write lock can't be had within the bound.
        :raises OutcomeUnknown: see :func:`commit`.
        """
        try:
            return self.use(
                lambda connection, wait_s: commit(
                    connection, run, wait_s=wait_s, before_commit=before_commit
                )
            )
        except sqlite3.Error as exc:
            raise translation(self._path, exc) from exc

    @property
    def identity(self) -> tuple[int, ...] | None:
        """Which file the connection is to; ask within a transaction."""
        return self._identity

    def uses(self, identity: object) -> bool:
        """Return whether the path names the file of a connection now; one ``stat``."""
        try:
            return self._identity_of(os.stat(self._text_path)) == identity
        except OSError:
            return False

    def _open(self, wait_s: float) -> sqlite3.Connection:
        connection = super()._open(wait_s)
        # No text that was broken by hand may keep a change from being made.
        connection.text_factory = _readable
        return connection

    def _identity_of(self, status: os.stat_result) -> tuple[int, ...]:
        # A file that was made read-only is not to be written by who has it open already.
        return *super()._identity_of(status), status.st_mode, status.st_uid, status.st_gid


def connect(path: Path, wait_s: float) -> sqlite3.Connection:
    """Return a new connection to a file that must exist; the caller closes it.

    It never waits for a lock: SQLite sleeps in C, where gevent can't let other requests run. Use
    :func:`patiently`.

    :param wait_s: longest time that connecting may wait, while another connection opens or closes.
    """
    _close_inherited()
    # mode=rw, so that a lost file is reported, not silently replaced by an empty one.
    with undivided:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        connection.path = path
    try:
        # This reads the file, too.
        patiently(lambda: connection.execute("PRAGMA synchronous = FULL"), wait_s)
    except BaseException:
        connection.close()
        raise
    return connection


def _close_inherited() -> None:
    """Close the connections that this process's parent had open when it forked.

    SQLite keeps one account of the locks that a process holds on a file, for all its connections.
    A child inherits that, and not the locks: it would open the file without taking any, read on in
    a log that others have removed by then, and write into it.

    SQLite advises against this, for who closes the last connection writes the log into the file and
    removes it, and an inherited one may remove a log that it has never read. So it is kept from
    taking itself for the last one, by a lock of an open file: one of this process would be none for
    it. Where there is none, it stays open, as one does that another thread was just using.

    Source: SQLite documentation, "How To Corrupt An SQLite Database File", 2.6; measured: without
    the lock, a change was lost whose writer was killed as the only one who had the file open.
    """
    # One thread for all: another would open its own in the account that is inherited.
    with _closing.get():
        _close_all([each for each in list(_open) if each.pid != os.getpid()])


def _close_all(inherited: list[_Connection]) -> None:
    for path in {connection.path for connection in inherited}:
        of_file = [connection for connection in inherited if connection.path == path]
        try:
            if undivided.was_cut or not HAS_OFD:
                raise OSError
            # Never closed: that would end all locks of this process on the file, those of the
            # app's own connections, too.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK))
            for connection in of_file:
                connection.close()
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK))
        except OSError:
            _open.difference_update(of_file)
            _left.extend(of_file)


def _flock(kind: int) -> bytes:
    # What each connection holds that has read a file with a log.
    # Source: SQLite 3.40, os_unix.c: SHARED_FIRST and SHARED_SIZE.
    return FLOCK.pack(kind, os.SEEK_SET, 0x40000002, 510, 0)


def patiently(run: Callable[[], T], wait_s: float) -> T:
    """Return what a function returns that SQLite may refuse because the file is locked.

    Sleeps in Python, so that other greenlets run meanwhile; blocks for at most ``wait_s``.

    :raises sqlite3.OperationalError: it was refused until the time was over, or failed otherwise.
    """
    deadline = time.monotonic() + wait_s
    pause_s = _PAUSE_S
    while True:
        try:
            with undivided:
                return run()
        except sqlite3.OperationalError as exc:
            rest_s = deadline - time.monotonic()
            if rest_s <= 0 or "database is locked" not in str(exc):
                raise
        time.sleep(min(rest_s, pause_s * random.uniform(0.5, 1.0)))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def commit(
    connection: sqlite3.Connection,
    run: Callable[[sqlite3.Connection], T],
    *,
    wait_s: float = 0.0,
    before_commit: Callable[[], None] | None = None,
) -> T:
    """Return what a function returns whose statements are committed in one transaction.

    It has the write lock from its beginning. In WAL mode a commit waits for no one, so all waiting
    is over when the function is called.

    Source: SQLite documentation, "Write-Ahead Logging": readers do not block a writer.

    :param wait_s: longest time to wait for other writers.
    :param before_commit: called immediately before the commit; if it raises, nothing is committed.
    :raises OutcomeUnknown: the commit itself failed in a way that may leave it on the disk.
    """

    def begin() -> None:
        connection.execute("BEGIN IMMEDIATE")
        # Until the end: a child would find the write lock held as long as it lives.
        undivided.begin()

    patiently(begin, wait_s)
    try:
        result = run(connection)
        if before_commit is not None:
            before_commit()
        _commit(connection)
        return result
    except BaseException:
        # The first error is the one to know; what is open ends with the connection.
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    finally:
        undivided.end()


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as exc:
        # The commit's frames are written last, and a disk that is full refuses them. An error of
        # the flush comes after they are written: a recovery may find them.
        # Source: SQLite 3.40, os_unix.c: only a write returns SQLITE_FULL.
        if "full" in str(exc) or "locked" in str(exc):
            raise
        raise OutcomeUnknown(
            f"the commit failed ({exc}), so the change may have been made: read the settings "
            "before you repeat it, and check the disk"
        ) from exc


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite raises as an error of the store."""
    try:
        yield
    except sqlite3.Error as exc:
        raise translation(path, exc) from exc


@contextlib.contextmanager
def storable(path: Path) -> Iterator[None]:
    """Raise as an error of the store that a text or a number is none that SQLite takes."""
    try:
        yield
    except UNSTORABLE as exc:
        raise unstorable(path, exc) from exc


def unstorable(path: Path, exc: Exception) -> StoreError:
    """Return the error of the store for one that is raised of such a text or number."""
    return StoreError(f"{path}: {exc}; SQLite takes no such text or number")


def translation(path: Path, exc: Exception) -> StoreError:
    """Return the error of the store for one of SQLite or the file system."""
    text = f"{path}: {exc}"
    if "readonly" in str(exc):
        # Source: SQLite documentation, "Write-Ahead Logging", "Read-Only Databases".
        return StoreError(
            f"{text}; make the file and its folder writable. Where only reading is meant, another "
            "process that may write must have the database open, such as a worker that runs"
        )
    if "no such table" in str(exc) or _is_gone(path):
        # Which names the path once more.
        reason = exc.strerror if isinstance(exc, OSError) else exc
        return StoreMissing(f"{path} holds no settings: {reason}")
    if "full" in str(exc):
        return StoreUnavailable(f"{text}; make room on the disk of that file")
    if "locked" in str(exc):
        return StoreUnavailable(
            f"{text}; another program has had it open for writing all that time: look for a "
            "transaction that was left open, or allow more with WAFFLE_WRITE_TIMEOUT"
        )
    return StoreUnavailable(
        f"{text}; check that the file and its folder are there and that this process may "
        "write to them"
    )


def _is_gone(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # Of a folder that may not be entered nobody knows what it holds.
        return False
    return False


def _readable(text: bytes) -> str:
    # A backslash followed by an x is no JSON: its declaration refuses what was broken.
    return text.decode(errors="backslashreplace")
