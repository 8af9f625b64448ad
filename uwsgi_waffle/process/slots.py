"""The slots: which processes of a host serve settings, and how each of them does.

They lie in one file beside the page, a record for each process that serves. A process that is
killed leaves at once, because its slot is taken by a lock that the system drops with it.

========  ===========  ==========================================================================
offset    word         meaning
========  ===========  ==========================================================================
0         pid          of the process, in its own namespace; zero in a slot that was left
4         worker       number of the worker, or zero
8         flags        1: the store fails there; 2: it can't use the page; 4: it is the ear;
                       8: other hosts knew this host before the process read
16        identity     of what the process has read and serves, as on the page
24        revision     the same as a number
32        answered     the question that ``oldest`` answers, as it stands on the page
40        oldest       the oldest revision that a running request holds; the highest number if none
48        host         name of the host, as its processes see it
112       app          name of the app
========  ===========  ==========================================================================
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from pathlib import Path

import msgspec

from ..forking import PerProcess
from .locks import is_byte_locked, is_named, lock_byte, open_shared, unlock_byte

FAILING, NO_PAGE, EAR, KNOWN = 1, 2, 4, 8
#: the oldest revision that is held where no request runs
NONE_HELD = 2**62
#: the oldest revision that is held where a request is just looking which it gets
UNKNOWN_HELD = -1
#: how many processes of a host may have one
MOST_SLOTS = 4096

_SIZE = 256
_SHOWN = struct.Struct("=Q8sq")
_RECORD = struct.Struct("=IIQ8sq8sq64s64s")
_SHOWN_AT, _ANSWERED_AT, _OLDEST_AT = 8, 32, 40
_NAME = 64


def as_shown(name: str) -> str:
    """Return the name of a host or an app as its slot shows it: one that is too long is cut."""
    return _name_of(name.encode(errors="replace")[:_NAME])


def _name_of(word: bytes) -> str:
    return word.rstrip(b"\0").decode(errors="replace")


class SlotState(msgspec.Struct, frozen=True):
    """The content of the slot of a living process.

    :ivar failing: the store fails there, so that it serves what it read last.
    :ivar uses_page: it looks at the page when a request starts.
    :ivar ear: it hears for all of its host what other hosts announce.
    :ivar known: other hosts knew this host before the process read what it serves.
    """

    number: int
    host: str
    app: str
    pid: int
    worker: int
    failing: bool
    uses_page: bool
    identity: bytes
    revision: int
    answered: bytes
    ear: bool
    known: bool


class Slot:
    """The slot of one app in this process; left when nothing refers to it any more.

    Any thread may call every method.
    """

    def __init__(self, file: _File, number: int) -> None:
        self._file = file
        self._number = number
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._shown: tuple[int, bytes, int] | None = None
        self.answered = bytes(8)

    def __del__(self) -> None:
        # Of a forked child's copy the lock is the parent's.
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._file.leave(self._number)

    @property
    def is_there(self) -> bool:
        """Whether the path still names the file that this slot is in; two ``stat`` and one read.

        A file that was truncated does not have it any more, even if it has grown again since. The
        lock is taken again if other code of this process has read the file, and so dropped it.
        """
        return self._file.has(self._number)

    @property
    def number(self) -> int:
        """Its place in the file."""
        return self._number

    def show(
        self,
        *,
        failing: bool,
        uses_page: bool,
        identity: bytes,
        revision: int,
        ear: bool = False,
        known: bool = False,
    ) -> None:
        """Show how this process does; writes only what is new.

        :raises OSError: it can't be written.
        """
        flags = FAILING * failing | NO_PAGE * (not uses_page) | EAR * ear | KNOWN * known
        with self._lock:
            shown = flags, identity, revision
            if shown != self._shown:
                self._file.put(self._number, _SHOWN_AT, _SHOWN.pack(*shown))
                self._shown = shown

    def answer(self, asked: bytes, oldest: int) -> None:
        """Answer a question that stands on the page.

        :param oldest: the oldest revision that a running request of this process holds.
        :raises OSError: it can't be written.
        """
        with self._lock:
            # In this order: who finds the answer reads the revision after it.
            self._file.put(self._number, _OLDEST_AT, struct.pack("=q", oldest))
            self._file.put(self._number, _ANSWERED_AT, asked)
            self.answered = asked


class Slots:
    """The slots of the processes that share a page; any thread may call every method."""

    def __init__(self, page: Path) -> None:
        self.path = page.with_name(f"{page.name}.slots")

    def take(self, app: str, worker: int) -> Slot:
        """Take a slot for this process; waits for nobody.

        :raises OSError: the file can't be made, opened or locked, or all slots are taken.
        """
        file = _files.get().opened(self.path, make=True)
        number = file.take()
        # What is too long is cut, and what is too short is filled up with zeros.
        text = (os.uname().nodename.encode(), app.encode(errors="replace"))
        record = (os.getpid(), worker, 0, b"", 0, b"", UNKNOWN_HELD, *text)
        try:
            file.put(number, 0, _RECORD.pack(*record))
        except BaseException:
            file.leave(number)
            raise
        return Slot(file, number)

    def living(self) -> list[SlotState]:
        """Return the slots of the living; the dead are out of it at once.

        Costs one read and two microseconds a slot; makes nothing.

        :raises OSError: the file can't be read.
        """
        try:
            file = _files.get().opened(self.path, make=False)
        except FileNotFoundError:
            return []
        return file.living()

    def oldest(self, number: int) -> int:
        """Return the oldest revision that a running request holds, by the last answer of a slot.

        To be asked after the answer was seen.

        :raises OSError: the file can't be read.
        """
        return _files.get().opened(self.path, make=False).oldest(number)


class _File:
    """The file of slots, open in this process: never closed, or every lock of it would be lost.

    Source: fcntl(2), "record locks": they belong to the process, are not inherited by a child,
    and end when the process closes any descriptor of the file.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._own: set[int] = set()

    @property
    def is_there(self) -> bool:
        """Whether the path still names the file."""
        return is_named(self._path, self._descriptor)

    def has(self, number: int) -> bool:
        """Whether the path still names the file, the slot this process, and it has the lock."""
        place = number * _SIZE
        try:
            record = os.pread(self._descriptor, _RECORD.size, place)
            # One that was truncated may have grown again: then there are zeros.
            is_whole = len(record) == _RECORD.size and _RECORD.unpack(record)[0] == os.getpid()
            return is_whole and self.is_there and lock_byte(self._descriptor, place)
        except OSError:
            return False

    def take(self) -> int:
        with self._lock:
            for number in range(MOST_SLOTS):
                place = number * _SIZE
                if not self._is_held(number) and lock_byte(self._descriptor, place):
                    self._own.add(number)
                    return number
        raise OSError(errno.ENOSPC, "all slots are taken")

    def leave(self, number: int) -> None:
        with self._lock:
            try:
                # Without its lock it may be another process's by now.
                if self.has(number):
                    self.put(number, 0, bytes(_SIZE))
            finally:
                self._own.discard(number)
                unlock_byte(self._descriptor, number * _SIZE)

    def put(self, number: int, offset: int, words: bytes) -> None:
        os.pwrite(self._descriptor, words, number * _SIZE + offset)

    def living(self) -> list[SlotState]:
        found = []
        content = os.pread(self._descriptor, MOST_SLOTS * _SIZE, 0)
        for number in range(-(-len(content) // _SIZE)):
            record = content[number * _SIZE :][: _RECORD.size].ljust(_RECORD.size, b"\0")
            pid, worker, flags, identity, revision, answered, _, host, app = _RECORD.unpack(record)
            if pid and self._is_held(number):
                found.append(
                    SlotState(
                        number,
                        _name_of(host),
                        _name_of(app),
                        pid,
                        worker,
                        bool(flags & FAILING),
                        not flags & NO_PAGE,
                        identity,
                        revision,
                        answered,
                        bool(flags & EAR),
                        bool(flags & KNOWN),
                    )
                )
        return found

    def oldest(self, number: int) -> int:
        word = os.pread(self._descriptor, 8, number * _SIZE + _OLDEST_AT)
        return int(struct.unpack("=q", word.ljust(8, b"\0"))[0])

    def _is_held(self, number: int) -> bool:
        # Its own ones are not always shown to a process, and two apps with an interpreter each,
        # as uWSGI mounts them, have this file each for itself.
        return number in self._own or is_byte_locked(self._descriptor, number * _SIZE)


class _Files:
    """The files of slots that this process has opened; the only place that opens them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}

    def opened(self, path: Path, *, make: bool) -> _File:
        # One name for one file, whichever way leads to its folder.
        name = os.path.join(os.path.realpath(path.parent), path.name)
        with self._lock:
            file = self._files.get(name)
            if file is None or not file.is_there:
                # One that was replaced is not closed: a slot in it may be in use.
                file = self._files[name] = _File(name, open_shared(Path(name), make=make))
            return file


# A child has none of its parent's locks, and opens the file again.
_files: PerProcess[_Files] = PerProcess(_Files)
