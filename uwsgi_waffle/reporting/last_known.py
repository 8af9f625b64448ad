"""The last known values of one host, on its disk: for workers that start while the store is down.

The file holds what is stored, not the defaults. Settings that are secret, or no longer declared,
are left out unless ``WAFFLE_SNAPSHOT_SECRETS`` is set.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec

from ..backoff import Backoff
from ..masking import OwnRepr
from ..ownership import give_to_owner_of_folder, scarcity
from ..process.health import Health
from ..process.manager import Manager
from ..process.reading import STORE, LastKnown
from ..settings.declarations import Declarations
from ..snapshot import MAX_REVISION, Delta, Row, Snapshot

logger = logging.getLogger("uwsgi_waffle")

PART = "the file of last known values"
FORMAT = 2
MAX_BYTES = 16 * 1024 * 1024
_LEAST_PAUSE_S = 1.0
# How long another process may be at the file until that is no longer normal.
_REFUSED_S = 60.0
_UNUSABLE = (OSError, ValueError, RecursionError, msgspec.MsgspecError)
_TAKEN = (errno.EAGAIN, errno.EACCES)


def _always() -> bool:
    return True


class TooMuch(OSError):
    """More is stored than the file may hold: no fault of its folder."""


class _Kept(OwnRepr, frozen=True, forbid_unknown_fields=True):
    """The content of the file.

    :ivar store: identifies the store among those of one app; without any password.
    :ivar raws: mapping of setting name to raw text.
    """

    format: int
    store: str
    revision: Annotated[int, msgspec.Meta(ge=0, le=MAX_REVISION)]
    epoch: str
    mark: str
    raws: dict[str, str]

    def __repr__(self) -> str:
        return f"_Kept(revision={self.revision}, names={sorted(self.raws)})"


class LastKnownFile:
    """Reads and replaces the file; belongs to one process.

    :param watch_file: beside which it lies, as ``<watch file>.<app>.last``.
    :param store: identifies the store among those of one app; without any password.
    :param secrets: also keep the values of secret settings.
    """

    def __init__(
        self,
        watch_file: Path,
        *,
        app: str,
        store: str,
        declarations: Declarations,
        secrets: bool = False,
    ) -> None:
        # Apps may share a folder and a watch file, but not their values.
        self.path = watch_file.with_name(f"{watch_file.name}.{quote(app, safe='')}.last")
        self._store = store
        self._declarations = declarations
        self._secrets = secrets

    def load(self) -> LastKnown | None:
        """Return what the file holds, or ``None`` if there is none that can be trusted.

        Reads at most :data:`MAX_BYTES`. Never raises: it is asked when the store has failed.
        """
        try:
            kept = self._read()
        except FileNotFoundError:
            return None
        except _UNUSABLE as exc:
            logger.warning("%s is ignored: %s", self.path, _reason(exc))
            return None
        if kept.store != self._store:
            logger.warning("%s is ignored: it was kept from another store", self.path)
            return None
        rows = tuple(Row(name, raw) for name, raw in kept.raws.items())
        return LastKnown(
            Delta(kept.revision, kept.epoch, rows, complete=True, mark=kept.mark), str(self.path)
        )

    def keep(self, snapshot: Snapshot, is_current: Callable[[], bool] = _always) -> bool:
        """Replace the file atomically, unless it holds the same already.

        Blocks for one flush of a small file to the disk.

        :param is_current: returns whether this host still serves the snapshot; a lower revision
            that it serves, because a backup was restored, replaces a higher one.
        :return: whether it is settled; ``False`` if another process is at it just now, or serves
            something else.
        :raises OSError: it can't be written.
        """
        kept = self._kept_of(snapshot)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Whose commands root runs, to them it leaves the files.
            user = os.fstat(folder).st_uid if os.geteuid() == 0 else os.geteuid()
            with self._alone(folder, user) as alone:
                if not alone or not is_current():
                    return False
                if not self._holds(kept):
                    self._replace(msgspec.json.encode(kept), folder, user)
        finally:
            os.close(folder)
        return True

    @contextlib.contextmanager
    def _alone(self, folder: int, user: int) -> Iterator[bool]:
        """Give whether no other process of this user is at it, and keep them away until the end.

        The lock is on a file of its own that no other user can open. Who may read the folder could
        lock the folder, and for as long as they like; a lock on the kept file would be lost with
        its replacement.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        lock = os.open(f"{self.path.name}.{user}.lock", flags, 0o600, dir_fd=folder)
        try:
            os.fchmod(lock, 0o600)
            give_to_owner_of_folder(lock, self.path.parent)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(lock)
            if exc.errno not in _TAKEN:
                raise
            yield False
            return
        try:
            yield True
        finally:
            # A child that was forked in between has the same lock.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _kept_of(self, snapshot: Snapshot) -> _Kept:
        raws = {
            name: raw
            for name, raw in snapshot.stored.items()
            if self._secrets or (name in self._declarations and not self._declarations[name].secret)
        }
        return _Kept(FORMAT, self._store, snapshot.revision, snapshot.epoch, snapshot.mark, raws)

    def _holds(self, kept: _Kept) -> bool:
        try:
            return self._read() == kept
        except _UNUSABLE:
            return False

    def _read(self) -> _Kept:
        with self._opened() as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        kept = msgspec.json.decode(data, type=_Kept)
        if kept.format != FORMAT:
            raise ValueError(f"it has format {kept.format}, not {FORMAT}")
        return kept

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        # O_NONBLOCK, so that a pipe put in the file's place can't hang us.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is not a regular file")
            # Its writer decides what every worker of the next start serves. Whose the folder is may
            # put any file there: what root's command makes belongs to that user.
            if status.st_uid not in (os.geteuid(), 0, os.stat(self.path.parent).st_uid):
                raise ValueError(f"it belongs to user {status.st_uid}, not to this process's")
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ValueError("other users may write to it")
            yield descriptor
        finally:
            os.close(descriptor)

    def _replace(self, data: bytes, folder: int, user: int) -> None:
        if len(data) > MAX_BYTES:
            raise TooMuch(errno.EFBIG, f"more than {MAX_BYTES} bytes would have to be kept")
        new = f"{self.path.name}.{user}.new"
        # Ours alone: the lock is held, so what is there was left by a crash.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(new, flags, 0o600, dir_fd=folder)
        try:
            give_to_owner_of_folder(descriptor, self.path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(new, self.path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=folder)
            raise


class Keeper:
    """Keeps the newest good settings in the file; belongs to one process.

    :param file: the file.
    """

    def __init__(
        self,
        manager: Manager,
        file: LastKnownFile,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._file = file
        self._clock = clock
        self._settled: Snapshot | None = None
        self._refused_since: float | None = None
        self._not_before = clock()
        self._backoff = Backoff(2.0, 60.0)

    def turn(self) -> None:
        """Keep the settings if they are new, at most once a second.

        Runs in the watcher thread. A failure is shown in the state, and logged once.
        """
        manager = self._manager
        snapshot = manager.snapshot
        if manager.reading.source != STORE or not snapshot.epoch or self._settled is snapshot:
            return
        now = self._clock()
        if now < self._not_before:
            return
        pause_s = _LEAST_PAUSE_S
        try:
            if self._file.keep(snapshot, manager.is_current):
                self._settled = snapshot
                self._refused_since = None
            elif self._refused_since is None:
                self._refused_since = now
            if self._refused_since is None or now - self._refused_since < _REFUSED_S:
                manager.health.works(PART)
            else:
                manager.health.failed(PART, self._blocked(now), harmless=True)
            self._backoff.reset()
        except OSError as exc:
            pause_s = self._backoff.next_s()
            self._failed(manager.health, exc)
        self._not_before = now + pause_s

    def end(self) -> None:
        """Keep what the last second brought."""
        self._not_before = self._clock()
        self.turn()

    def _blocked(self, now: float) -> str:
        since = now - (self._refused_since or now)
        return (
            f"{self._file.path} has not been replaced for {since:.0f} s, because another process "
            "is at it, or serves something else: see whether one of this user is stopped"
        )

    def _failed(self, health: Health, exc: OSError) -> None:
        if isinstance(exc, TooMuch):
            text = (
                f"{self._file.path} stays as it is: the settings take more than the "
                f"{MAX_BYTES // 2**20} MiB that it may hold, so a worker that starts while the "
                "store is down would serve older values; keep large texts in a table of your own"
            )
            health.failed(PART, text, harmless=True)
            return
        fix = scarcity(exc) or (
            "make its folder writable for every worker, or name another in WAFFLE_WATCHER_FILE"
        )
        text = f"{self._file.path} can't be written ({_reason(exc)}): {fix}"
        health.failed(PART, text, harmless=True)


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
