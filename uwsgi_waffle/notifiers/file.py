"""The watch file: its stat signature tells the workers of one host that something changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import NotifierError
from .base import Notice, Notifier

Signature = tuple[int, int, int]

# How far the mtime is pushed when the file system keeps it more coarsely than nanoseconds:
# a clock tick of most, then the 2 s of the coarsest (FAT).
_MTIME_STEPS_NS = (1, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
_LOCK_TIMEOUT_S = 1.0


class Mark(NamedTuple):
    """What the watch file showed at one instant.

    :ivar signature: its inode, mtime and size, or ``None`` if it can't be seen.
    :ivar revision: the revision written in it, or ``None`` if there is none to read.
    """

    signature: Signature | None
    revision: int | None


class FileNotifier(Notifier):
    """Announces by changing the stat signature of a file.

    :param path: the watch file; its folder must exist. Never followed if it is a symbolic link.
    :param poll_interval_s: seconds between two looks of :meth:`wait`.
    """

    name = "watch file"

    def __init__(self, path: str | os.PathLike[str], *, poll_interval_s: float = 0.2) -> None:
        self.path = Path(path)
        self._text_path = os.fspath(path)
        self._poll_interval_s = poll_interval_s
        self._closed = threading.Event()
        self._awaited = self.signature()

    def __repr__(self) -> str:
        return f"<FileNotifier {self.path}>"

    def signature(self) -> Signature | None:
        """Return the file's signature, or ``None`` if it can't be seen; one ``lstat``."""
        try:
            status = os.lstat(self._text_path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def mark(self) -> Mark:
        """Return the signature with the revision that the file holds."""
        signature = self.signature()
        try:
            with self._opened(os.O_RDONLY) as descriptor:
                text = os.pread(descriptor, 32, 0)
        except OSError:
            return Mark(signature, None)
        # int() alone would admit signs, spaces and underscores that announce() never writes.
        return Mark(signature, int(text) if text.strip().isdigit() else None)

    def ensure(self) -> bool:
        """Create the file (mode 0660) if it is missing; return whether it was.

        :raises NotifierError: it can't be created, or is no regular file.
        """
        try:
            with self._opened(os.O_RDONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                os.fchmod(descriptor, 0o660)
            return True
        except FileExistsError:
            self._refuse_irregular()
            return False
        except OSError as exc:
            raise self._failure("be created", exc) from exc

    def announce(self, revision: int) -> None:
        """Write the revision and give the file a later mtime than it ever had.

        Holds an exclusive ``flock`` meanwhile; blocks for at most 1 s to get it.

        :raises NotifierError: the file can't be written or locked.
        """
        try:
            while not self._written(b"%d\n" % revision):
                pass
        except OSError as exc:
            raise self._failure("be written", exc) from exc

    def wait(self, timeout_s: float) -> Notice | None:
        deadline = time.monotonic() + timeout_s
        while not self._closed.is_set():
            signature = self.signature()
            if signature != self._awaited:
                self._awaited = signature
                return Notice(self.mark().revision)
            rest_s = deadline - time.monotonic()
            if rest_s <= 0:
                return None
            self._closed.wait(min(rest_s, self._poll_interval_s))
        return None

    def close(self) -> None:
        self._closed.set()

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        # O_NONBLOCK, so that a pipe put in the file's place can't hang the caller.
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._text_path, flags, 0o660)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _written(self, text: bytes) -> bool:
        """Write to the file; return whether it still is the one that the path names."""
        self.ensure()
        with self._opened(os.O_RDWR) as descriptor:
            self._lock(descriptor)
            before = os.fstat(descriptor)
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
            _push_mtime(descriptor, before.st_mtime_ns)
            # Replaced while we waited for the lock: nobody looks at this file any more.
            after = self.signature()
            return after is not None and after[0] == before.st_ino

    def _lock(self, descriptor: int) -> None:
        # flock(2) has no time limit of its own, and whoever can open the file can hold it.
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def _refuse_irregular(self) -> None:
        status = os.lstat(self._text_path)
        if stat.S_ISLNK(status.st_mode):
            raise NotifierError(
                f"the watch file {self.path} is a symbolic link, which is never followed: "
                "remove it, or name the real file in WAFFLE_WATCHER_FILE"
            )
        if not stat.S_ISREG(status.st_mode):
            raise NotifierError(
                f"the watch file {self.path} is not a regular file: "
                "remove it, or name another in WAFFLE_WATCHER_FILE"
            )

    def _failure(self, verb: str, exc: OSError) -> NotifierError:
        return NotifierError(
            f"the watch file {self.path} can't {verb} ({exc.strerror or exc}): make it and its "
            "folder writable for every worker, or name another in WAFFLE_WATCHER_FILE"
        )


def _push_mtime(descriptor: int, before_ns: int) -> None:
    """Set an mtime strictly greater than the one before, whatever the clock says.

    Source: utimensat(2): the file system truncates the time to its own granularity.
    """
    wanted_ns = time.time_ns()
    for step_ns in _MTIME_STEPS_NS:
        wanted_ns = max(wanted_ns, before_ns + step_ns)
        os.utime(descriptor, ns=(wanted_ns, wanted_ns))
        if os.fstat(descriptor).st_mtime_ns > before_ns:
            return
    raise OSError(errno.EINVAL, "its mtime can't be set to a later time")
