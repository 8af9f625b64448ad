"""The watch file: its stat signature shows the workers of one host that something changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..errors import NotifierError
from ..forking import undivided
from ..ownership import give_to_owner_of_folder, scarcity
from .base import Notice, Notifier

if TYPE_CHECKING:
    from .inotify import Inotify

Signature = tuple[int, int, int]

# How far the mtime is pushed when the file system keeps it more coarsely than nanoseconds:
# a clock tick of most, then the 2 s of the coarsest (FAT).
_MTIME_STEPS_NS = (1, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
_LOCK_TIMEOUT_S = 1.0
_LEAST_ATTEMPTS = 3
# About what a change takes from its first write to a watched file to its last.
_CHANGE_S = 0.001


logger = logging.getLogger("uwsgi_waffle")


def _never() -> bool:
    return False


def _inotify() -> type[Inotify]:
    # Only where something waits: ctypes takes memory. A child would wait for a module that another
    # thread was importing, without an end.
    with undivided:
        from .inotify import Inotify
    return Inotify


class Mark(msgspec.Struct, frozen=True):
    """The state of the watch file at one instant.

    :ivar signature: its inode, mtime and size, or ``None`` if it can't be seen.
    :ivar revision: the revision written in it, or ``None`` if there is none to read.
    :ivar touch: the mtime that another program gave it last, which announcements hand on, so that a
        touch is not lost on who looks only after the next of them.
    """

    signature: Signature | None
    revision: int | None
    touch: int | None


class FileNotifier(Notifier):
    """Announces by changing the stat signature of a file.

    :param path: the watch file; its folder must exist. Never followed if it is a symbolic link.
    :param poll_interval_s: longest time between two looks of :meth:`wait`. Where the system has
        inotify it looks at once; this is what a lost event costs.
    :param also: other files; a change of one ends a wait without a notice.
    :param quiet: while it returns true, more is to come, and a wait that was ended by one of the
        files goes on, for at most ``poll_interval_s``.
    """

    name = "watch file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        poll_interval_s: float = 0.2,
        also: Iterable[Path] = (),
        quiet: Callable[[], bool] = _never,
    ) -> None:
        self.path = Path(path)
        self._watched = [self.path, *also]
        self._quiet = quiet
        # Whether what ends the quiet is an event, too.
        self._hears_quiet = len(self._watched) > 1
        self._events: Inotify | None = None
        self._can_have_events = True
        self._text_path = os.fspath(path)
        self._poll_interval_s = poll_interval_s
        self._closed = threading.Event()
        self._awaited = self.signature()
        # As this instance left the file: what it holds need not be read again then.
        self._left: Mark | None = None

    def __repr__(self) -> str:
        return f"<FileNotifier {self.path}>"

    def signature(self) -> Signature | None:
        """Return the file's signature, or ``None`` if it can't be seen; one ``lstat``."""
        try:
            status = os.lstat(self._text_path)
        except OSError:
            return None
        return _signature(status)

    def mark(self) -> Mark:
        """Return the signature with the revision that the file holds."""
        signature = self.signature()
        left = self._left
        if left is not None and left.signature == signature:
            return left
        try:
            with self._opened(os.O_RDONLY) as descriptor:
                words = _words(descriptor)
        except OSError:
            return Mark(signature, None, signature and signature[1])
        # int() alone would admit signs and underscores that announce() never writes.
        revision = int(words[0]) if words and words[0].isdigit() else None
        if signature is None:
            return Mark(None, revision, None)
        return Mark(signature, revision, _touch(words, signature[1]))

    def ensure(self) -> bool:
        """Create the file (mode 0660) if it is missing; return whether it was.

        :raises NotifierError: it can't be created, or is no regular file.
        """
        try:
            with self._opened(os.O_RDONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                os.fchmod(descriptor, 0o660)
                give_to_owner_of_folder(descriptor, self.path.parent)
            return True
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                self._refuse_irregular()
            return False
        except OSError as exc:
            raise self._failure("be created", exc) from exc

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        """Write the revision and give the file a later mtime than it ever had.

        The mtime is written too, so that a later touch by hand is not taken for an announcement,
        and then that of the last touch by hand. Holds an exclusive ``flock`` while it writes;
        blocks for at most 1 s to get it.

        :raises NotifierError: the file can't be written or locked.
        """
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        try:
            left = _LEAST_ATTEMPTS
            while not self._written(revision, deadline):
                left -= 1
                # A busy machine may stand still for the whole time while the file is made.
                if left <= 0 and time.monotonic() > deadline:
                    raise OSError(errno.ESTALE, "it is replaced again and again")
        except OSError as exc:
            with contextlib.suppress(OSError):
                self._refuse_irregular()
            raise self._failure("be written", exc) from exc

    def prepare(self) -> None:
        """Load what :meth:`wait` needs, before a thread is started that waits.

        glibc gives each thread its own memory. Modules that the thread loads leave gaps in it that
        nothing else fits into: 0.2 MiB of a worker.
        """
        with contextlib.suppress(ImportError):
            _inotify()

    def wait(self, timeout_s: float) -> Notice | None:
        deadline = time.monotonic() + timeout_s
        events = self._listening()
        changed = False
        while not self._closed.is_set():
            if events is not None:
                # Before the look: what changes from here on ends the pause below.
                events.arm()
            signature = self.signature()
            if signature != self._awaited:
                self._awaited = signature
                return Notice(self.mark().revision)
            rest_s = deadline - time.monotonic()
            if changed or rest_s <= 0:
                return None
            changed = self._pause(events, min(rest_s, self._poll_interval_s))
        return None

    def close(self) -> None:
        self._closed.set()
        events, self._events = self._events, None
        if events is not None:
            events.wake()

    def _listening(self) -> Inotify | None:
        """Return what wakes this process's watcher, or ``None`` where it has to poll."""
        if self._events is not None and not self._events.is_own:
            self._events, self._can_have_events = None, True
        if self._events is None and self._can_have_events and not self._closed.is_set():
            try:
                self._events = _inotify()(self._watched)
            except (ImportError, OSError) as exc:
                self._can_have_events = False
                logger.info("%r looks every %g s: %s", self, self._poll_interval_s, exc)
        return self._events

    def _pause(self, events: Inotify | None, timeout_s: float) -> bool:
        """Wait for a change of any of the files; return whether there was one."""
        if events is None:
            self._closed.wait(timeout_s)
            return False
        changed = events.wait(timeout_s)
        until = time.monotonic() + self._poll_interval_s
        pause_s = _CHANGE_S
        while changed and self._quiet() and not self._closed.is_set():
            rest_s = until - time.monotonic()
            if rest_s <= 0:
                break
            # A change writes several times: to wake at each would keep the writer of this process
            # from its own.
            time.sleep(min(rest_s, pause_s))
            if not self._hears_quiet:
                pause_s *= 2
            elif self._quiet():
                events.wait(rest_s)
        return changed

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        # O_NONBLOCK, so that a pipe put in the file's place can't hang the caller.
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._text_path, flags, 0o660)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            if status.st_nlink > 1:
                # Another user's trick: what we write would be written to the other file, too.
                raise OSError(errno.EMLINK, "it has another name, a hard link")
            yield descriptor
        finally:
            os.close(descriptor)

    def _written(self, revision: int, deadline: float) -> bool:
        """Write to the file; return whether it is, afterwards, the one that the path names."""
        try:
            with self._opened(os.O_RDWR) as descriptor:
                self._lock(descriptor, deadline)
                try:
                    before = os.fstat(descriptor)
                    self._write(descriptor, revision, before)
                finally:
                    # A child that was forked in between has the same lock.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                # Replaced while we waited for the lock: nobody looks at this file any more.
                after = self.signature()
                return after is not None and after[0] == before.st_ino
        except FileNotFoundError:
            self.ensure()
            return False

    def _write(self, descriptor: int, revision: int, before: os.stat_result) -> None:
        try:
            touch = self._touch_of(descriptor, before)
            written = _write_later(descriptor, revision, before, touch)
        except PermissionError:
            _write_now(descriptor, revision, before)
        else:
            self._left = Mark(written, revision, touch)

    def _touch_of(self, descriptor: int, status: os.stat_result) -> int:
        left = self._left
        if left is not None and left.touch is not None and left.signature == _signature(status):
            return left.touch
        return _touch(_words(descriptor), status.st_mtime_ns)

    def _lock(self, descriptor: int, deadline: float) -> None:
        # flock(2) has no time limit of its own, and each user who can open the file can hold it.
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
        if status.st_nlink > 1:
            raise NotifierError(
                f"the watch file {self.path} is a hard link to another file, which would be "
                "overwritten: remove it, or name another in WAFFLE_WATCHER_FILE"
            )

    def _failure(self, verb: str, exc: OSError) -> NotifierError:
        reason = exc.strerror or exc
        if fix := scarcity(exc):
            return NotifierError(f"the watch file {self.path} can't {verb} ({reason}): {fix}")
        return NotifierError(
            f"the watch file {self.path} can't {verb} ({reason}): make it and its "
            "folder writable for every worker, or name another in WAFFLE_WATCHER_FILE"
        )


def _signature(status: os.stat_result) -> Signature:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _words(descriptor: int) -> list[bytes]:
    return os.pread(descriptor, 64, 0).split()


def _touch(words: list[bytes], mtime_ns: int) -> int:
    """Return the mtime of the last touch that was no announcement.

    :param words: what the file holds.
    """
    if len(words) == 3 and words[1] == b"%d" % mtime_ns and words[2].isdigit():
        return int(words[2])
    return mtime_ns


def _write_later(descriptor: int, revision: int, before: os.stat_result, touch: int) -> Signature:
    """Write a revision under an mtime strictly greater than the one before, whatever the clock.

    Source: utimensat(2): the file system truncates the time to its own granularity.

    :return: the signature that the file has then.
    """
    now_ns = time.time_ns()
    for step_ns in _MTIME_STEPS_NS:
        wanted_ns = max(now_ns, before.st_mtime_ns + step_ns)
        written = _write(descriptor, revision, wanted_ns, touch, before.st_size)
        if written[1] > before.st_mtime_ns:
            if written[1] != wanted_ns:
                written = _write(descriptor, revision, written[1], touch, written[2])
            return written
    raise OSError(errno.EINVAL, "its mtime can't be set to a later time")


def _write(descriptor: int, revision: int, mtime_ns: int, touch: int, size: int) -> Signature:
    _put(descriptor, b"%d\n%d\n%d\n" % (revision, mtime_ns, touch), size)
    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    return _signature(os.fstat(descriptor))


def _write_now(descriptor: int, revision: int, before: os.stat_result) -> None:
    """Write a revision under another mtime than before, into a file of another user.

    Source: utimensat(2): only the owner may choose a time; who can write may set the present.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    _put(descriptor, b"%d\n" % revision, before.st_size)
    # The kernel's clock ticks every 1 to 10 ms.
    while os.fstat(descriptor).st_mtime_ns == before.st_mtime_ns:
        if time.monotonic() > deadline:
            raise OSError(errno.EPERM, "its mtime can't be changed")
        time.sleep(0.001)
        os.utime(descriptor)


def _put(descriptor: int, text: bytes, size: int) -> None:
    os.pwrite(descriptor, text, 0)
    if size > len(text):
        os.ftruncate(descriptor, len(text))
