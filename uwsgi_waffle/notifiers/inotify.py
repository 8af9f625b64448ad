"""Waiting for changes of a few files by inotify, where the system has it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterable
from pathlib import Path

# Of the file itself: pwrite and truncate, touch and chmod.
_FILE = 0x00000002 | 0x00000004  # IN_MODIFY, IN_ATTRIB
# Of its folder: a file made, moved to or from, or removed. Not IN_MODIFY: a database or a log in
# the same folder would wake every watcher at each write.
_FOLDER = 0x00000100 | 0x00000080 | 0x00000040 | 0x00000200
_ONLYDIR, _DONT_FOLLOW, _OVERFLOW = 0x01000000, 0x02000000, 0x00004000
# struct inotify_event: wd, mask, cookie, length of the name; then the name.
_HEADER = struct.Struct("iIII")


class Inotify:
    """Watches files that may be written, replaced, removed and made again.

    Belongs to the process that makes it: a forked child would take events from its parent. One
    thread waits; any may :meth:`wake` it. What can't be watched now, as a folder that is not
    there, is tried again by each :meth:`wait`.

    Source: inotify(7): events of identical kind and name are one while they are unread; writes
    through a mapping make none.

    :param paths: the files; they need not exist.
    :raises OSError: the system has no inotify, or no instance is left
        (``fs.inotify.max_user_instances``).
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._descriptor = self._wake = -1
        self._pid = os.getpid()
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not (hasattr(self._libc, "inotify_add_watch") and hasattr(os, "eventfd")):
            raise OSError(errno.ENOSYS, "no inotify here")
        # IN_CLOEXEC and IN_NONBLOCK are the flags of open(2).
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise _error()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        paths = list(paths)
        self._files = [os.fsencode(path) for path in paths]
        self._folders = {os.fsencode(path.absolute().parent) for path in paths}
        self._names = {os.fsencode(path.name) for path in paths}
        self._folder_watches: set[int] = set()
        self._poll = select.poll()
        for descriptor in (self._descriptor, self._wake):
            self._poll.register(descriptor, select.POLLIN)

    def __del__(self) -> None:
        # In whichever thread lets go of it last, so that no one waits for a closed descriptor.
        for descriptor in (self._descriptor, self._wake):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    @property
    def is_own(self) -> bool:
        """Whether this process made it."""
        return self._pid == os.getpid()

    def arm(self) -> None:
        """Watch the files that the paths name now.

        To be called before a look at the files: what changes after that look, or while the next
        :meth:`wait` is prepared, ends that wait at once.
        """
        self._folder_watches = {
            self._add(folder, _FOLDER | _ONLYDIR) for folder in self._folders
        } - {-1}
        for file in self._files:
            self._add(file, _FILE | _DONT_FOLLOW)

    def wait(self, timeout_s: float) -> bool:
        """Return whether a file changed, within a time; all changes until then are taken as one.

        Blocks for at most ``timeout_s``, and until :meth:`wake`.
        """
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        changed = False
        while events := self._read():
            changed = self._concern(events) or changed
        return changed

    def wake(self) -> None:
        """End a wait that is under way, or the next; does nothing in a forked child."""
        if self.is_own:
            os.eventfd_write(self._wake, 1)

    def _add(self, path: bytes, mask: int) -> int:
        # Of an inode that is watched already this changes nothing, and returns its number.
        return int(self._libc.inotify_add_watch(self._descriptor, path, mask))

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 16_384)
        except BlockingIOError:
            return b""

    def _concern(self, events: bytes) -> bool:
        """Return whether one of the files may have changed; others of their folders don't count."""
        offset = 0
        while offset < len(events):
            watch, mask, _, length = _HEADER.unpack_from(events, offset)
            offset += _HEADER.size
            name = events[offset : offset + length].rstrip(b"\0")
            offset += length
            if mask & _OVERFLOW or watch not in self._folder_watches or name in self._names:
                return True
        return False


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
