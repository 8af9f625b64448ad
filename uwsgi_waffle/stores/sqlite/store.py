"""The embedded store: one SQLite file, safe for all processes of one host."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...errors import RevisionConflict, StoreError, StoreUnavailable
from ...forking import PerProcess
from ...snapshot import Delta
from ..base import Dump, HistoryEntry, Store, WorkerReport, history_row
from ..sql.rows import delta_of

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS waffle_meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL,
        epoch TEXT NOT NULL,
        mark TEXT NOT NULL DEFAULT ''
    )""",
    """CREATE TABLE IF NOT EXISTS waffle_settings (
        name TEXT PRIMARY KEY,
        raw TEXT,
        revision INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS waffle_settings_revision ON waffle_settings (revision)",
    """CREATE TABLE IF NOT EXISTS waffle_history (
        revision INTEGER NOT NULL,
        name TEXT NOT NULL,
        old_raw TEXT,
        new_raw TEXT,
        author TEXT,
        reason TEXT,
        at TEXT NOT NULL,
        mark TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (revision, name)
    ) WITHOUT ROWID""",
)

# One statement, so that revision and rows come from one instant without a transaction. "since" is
# the reader's revision if this history has it under the reader's mark, else 0: everything.
_READ_SINCE = """
    WITH meta AS (
        SELECT revision, epoch, mark, CASE
            WHEN epoch = :epoch AND :mark <> '' AND (
                revision = :since AND mark = :mark
                OR revision > :since AND EXISTS (
                    SELECT 1 FROM waffle_history AS known
                    WHERE known.revision = :since AND known.mark = :mark
                )
            ) THEN :since ELSE 0 END AS since
        FROM waffle_meta
    )
    SELECT meta.revision, meta.epoch, meta.mark, meta.since,
        settings.name, CAST(settings.raw AS TEXT)
    FROM meta LEFT JOIN waffle_settings AS settings ON settings.revision > meta.since
"""

_HISTORY = """
    SELECT revision, name, CAST(old_raw AS TEXT), CAST(new_raw AS TEXT), author, reason, at
    FROM waffle_history
    WHERE :name IS NULL OR name = :name ORDER BY revision DESC, name LIMIT :limit
"""

_WRITE_HISTORY = """
    INSERT INTO waffle_history (revision, name, old_raw, new_raw, author, reason, at, mark)
    SELECT :revision, :name, (SELECT raw FROM waffle_settings WHERE name = :name),
        :raw, :author, :reason, :at, :mark
"""

_LOAD_HISTORY = """
    INSERT INTO waffle_history (revision, name, old_raw, new_raw, author, reason, at, mark)
    VALUES (:revision, :name, :old_raw, :new_raw, :author, :reason, :at, :mark)
"""

_WRITE_SETTING = """
    INSERT INTO waffle_settings (name, raw, revision) VALUES (:name, :raw, :revision)
    ON CONFLICT (name) DO UPDATE SET raw = excluded.raw, revision = excluded.revision
"""

_WORKERS = """CREATE TABLE IF NOT EXISTS waffle_workers (
    app TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    worker_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    staleness_s REAL,
    state TEXT NOT NULL,
    last_error TEXT,
    lifetime_s REAL NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (app, host, pid)
) WITHOUT ROWID"""

# A clock that was set back makes a report of the future, which must not live for ever.
_DROP_DEAD = "DELETE FROM waffle_workers WHERE abs(:now - at) > lifetime_s"

_REPORT = """
    INSERT OR REPLACE INTO waffle_workers VALUES
        (:app, :host, :pid, :worker_id, :revision, :staleness_s, :state, :last_error,
        :lifetime_s, :now)
"""

_RETRACT = "DELETE FROM waffle_workers WHERE app = :app AND host = :host AND pid = :pid"

_LIST_WORKERS = """
    SELECT app, host, pid, worker_id, revision, staleness_s, state, last_error, lifetime_s,
        max(0.0, :now - at)
    FROM waffle_workers WHERE abs(:now - at) <= min(lifetime_s, :max_age_s)
    ORDER BY app, host, worker_id, pid
"""

# A report is not worth waiting for: the next one comes in seconds.
_REPORT_TIMEOUT_S = 0.1


class SqliteStore(Store):
    """Keeps settings in an SQLite file in WAL mode; readers never wait for a writer.

    A commit is on the disk when :meth:`write` returns (``synchronous = FULL``).

    Source: SQLite documentation, "Write-Ahead Logging" (readers do not block) and
    "How To Corrupt" (a connection must not be carried across a fork).

    :param path: the database file; its folder must exist.
    :param timeout_s: longest time that a read may block.
    :param write_timeout_s: longest time that a write may wait for other writers.
    """

    calls_before_commit = True

    def __init__(
        self, path: str | os.PathLike[str], *, timeout_s: float = 1.0, write_timeout_s: float = 5.0
    ) -> None:
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._write_timeout_s = write_timeout_s
        self._reader = PerProcess(lambda: _Reader(self.path, timeout_s))

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    def prepare(self) -> None:
        """Make the file (mode 0660) and its tables, unless they are there.

        :raises StoreUnavailable: the file can't be opened, made or locked.
        """
        with _translated(self.path):
            self._create_file()
            # By the bound of a read: nearly always there is nothing to make.
            with contextlib.closing(_connect(self.path, self._timeout_s)) as connection:
                if _has_schema(connection):
                    return
            with contextlib.closing(_connect(self.path, self._write_timeout_s)) as connection:
                self._switch_to_wal(connection)
                with _transaction(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute(
                        "INSERT OR IGNORE INTO waffle_meta (id, revision, epoch) VALUES (1, 0, ?)",
                        (uuid.uuid4().hex,),
                    )

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        rows = self._reader.get().query(
            _READ_SINCE, {"since": revision, "epoch": epoch, "mark": mark}
        )
        if not rows:
            raise StoreUnavailable(f"{self.path}: the revision is missing from waffle_meta")
        return delta_of(rows)

    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> int:
        # A connection of its own: a write that waits for other writers holds no reader up.
        with (
            _translated(self.path),
            contextlib.closing(_connect(self.path, self._write_timeout_s)) as connection,
            _transaction(connection),
        ):
            row = connection.execute("SELECT revision FROM waffle_meta").fetchone()
            if row is None:
                raise StoreUnavailable(f"{self.path}: the revision is missing from waffle_meta")
            if expected_revision not in (None, row[0]):
                raise RevisionConflict(expected_revision, row[0])
            revision = int(row[0]) + 1
            mark = secrets.token_hex(8)
            connection.execute("UPDATE waffle_meta SET revision = ?, mark = ?", (revision, mark))
            at = datetime.now(timezone.utc).isoformat()
            rows = [
                {
                    "name": name,
                    "raw": raw,
                    "revision": revision,
                    "author": author,
                    "reason": reason,
                    "at": at,
                    "mark": mark,
                }
                for name, raw in raws.items()
            ]
            connection.executemany(_WRITE_HISTORY, rows)
            connection.executemany(_WRITE_SETTING, rows)
            # In WAL mode a commit waits for no one.
            if before_commit is not None:
                before_commit()
            return revision

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        rows = self._reader.get().query(_HISTORY, {"name": name, "limit": limit})
        return [HistoryEntry._make((*row[:6], datetime.fromisoformat(row[6]))) for row in rows]

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        with (
            _translated(self.path),
            contextlib.closing(_connect(self.path, self._write_timeout_s)) as connection,
            _transaction(connection),
        ):
            row = connection.execute("SELECT revision FROM waffle_meta").fetchone()
            if row is None:
                raise StoreUnavailable(f"{self.path}: the revision is missing from waffle_meta")
            if expected_revision not in (None, row[0]):
                raise RevisionConflict(expected_revision, row[0])
            mark = secrets.token_hex(8)
            connection.execute(
                "UPDATE waffle_meta SET revision = ?, epoch = ?, mark = ?",
                (dump.revision, uuid.uuid4().hex, mark),
            )
            connection.execute("DELETE FROM waffle_history")
            connection.execute("DELETE FROM waffle_settings")
            entries = [{**history_row(entry), "mark": mark} for entry in dump.history]
            connection.executemany(_LOAD_HISTORY, entries)
            # Rows of revision 0 would be newer than nothing.
            revision = dump.revision or 1
            connection.executemany(
                _WRITE_SETTING,
                (
                    {"name": name, "raw": raw, "revision": revision}
                    for name, raw in dump.raws.items()
                ),
            )
            if before_commit is not None:
                before_commit()

    def report(self, report: WorkerReport) -> None:
        self._write_report(_DROP_DEAD, _REPORT, report=report)

    def retract(self, report: WorkerReport) -> None:
        self._write_report(_RETRACT, report=report)

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        query = {"now": time.time(), "max_age_s": max_age_s}
        try:
            rows = self._reader.get().query(_LIST_WORKERS, query)
        except StoreUnavailable as exc:
            if _lacks_workers(exc.__cause__):
                return []
            raise
        return [WorkerReport._make(row) for row in rows]

    def close(self) -> None:
        reader = self._reader.peek()
        if reader is not None:
            reader.close()

    def _write_report(self, *statements: str, report: WorkerReport) -> None:
        values = {**report._asdict(), "now": time.time()}
        with (
            _translated(self.path),
            contextlib.closing(_connect(self.path, _REPORT_TIMEOUT_S)) as connection,
        ):
            # Lost with the power it may be, so it need not be flushed.
            connection.execute("PRAGMA synchronous = NORMAL")
            for attempt in range(2):
                try:
                    with _transaction(connection):
                        if attempt:
                            # Made only now, so that a database of an earlier release has it too.
                            connection.execute(_WORKERS)
                        for statement in statements:
                            connection.execute(statement, values)
                    return
                except sqlite3.OperationalError as exc:
                    if attempt or not _lacks_workers(exc):
                        raise

    def _create_file(self) -> None:
        # Never opened if it exists: closing any descriptor of a file drops all of this
        # process's POSIX locks on it, those of other SQLite connections included.
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o660)
        except FileExistsError:
            return
        try:
            os.fchmod(descriptor, 0o660)
        finally:
            os.close(descriptor)

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # Many first starts at once: SQLite reports this lock at once, without its busy handler.
        deadline = time.monotonic() + self._write_timeout_s
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise StoreError(
                f"{self.path} can't be kept in WAL mode (it stays {mode}): "
                "put it on a local disk, not on a network file system"
            )


class _Reader:
    """The one reading connection of a process; opens when it is needed."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._text_path = os.fspath(path)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def __del__(self) -> None:
        # An app that is dropped, as by a test, closes nothing; Python 3.13 warns of that.
        self._drop()

    def query(self, statement: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        if not self._lock.acquire(timeout=self._timeout_s):
            raise StoreUnavailable(f"{self._path}: another thread's read takes too long")
        try:
            connection = self._connected()
            try:
                return connection.execute(statement, parameters).fetchall()
            except sqlite3.OperationalError as exc:
                if "decode to UTF-8" not in str(exc):
                    raise
                # One broken value must not keep all others from being read. Only now,
                # because a function in Python is slower than what is built in.
                connection.text_factory = _readable
                return connection.execute(statement, parameters).fetchall()
        except (sqlite3.Error, OSError) as exc:
            self._drop()
            raise _translation(self._path, exc) from exc
        except BaseException:
            self._drop()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _connected(self) -> sqlite3.Connection:
        # A replaced file would otherwise be read for ever in its old state.
        status = os.stat(self._text_path)
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity:
            self._drop()
        if self._connection is None:
            self._connection = _connect(self._path, self._timeout_s)
            self._connection.execute("PRAGMA query_only = ON")
            self._identity = identity
        return self._connection

    def _drop(self) -> None:
        connection, self._connection, self._identity = self._connection, None, None
        if connection is not None:
            connection.close()


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    # mode=rw, so that a lost file is reported, not silently replaced by an empty one.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _readable(text: bytes) -> str:
    # A backslash followed by an x is no JSON: its declaration refuses what was broken.
    return text.decode(errors="backslashreplace")


def _has_schema(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'waffle_meta'").fetchone()
    return (
        found is not None and connection.execute("SELECT 1 FROM waffle_meta").fetchone() is not None
    )


def _lacks_workers(exc: BaseException | None) -> bool:
    return isinstance(exc, sqlite3.OperationalError) and "no such table: waffle_workers" in str(exc)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise _translation(path, exc) from exc


def _translation(path: Path, exc: Exception) -> StoreError:
    text = f"{path}: {exc}"
    if "readonly" in str(exc):
        return StoreError(f"{text}; make the file and its folder writable")
    return StoreUnavailable(
        f"{text}; check that the file and its folder are there and that this process may "
        "write to them"
    )
