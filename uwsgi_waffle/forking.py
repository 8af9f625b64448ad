"""Objects that belong to one process, and work that a fork must not cut in two."""

from __future__ import annotations

import _thread
import fcntl
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: ``struct flock`` of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid
FLOCK = struct.Struct("hhqqi4x")
#: whether a lock can belong to an open file, which a child inherits, and not to a process
HAS_OFD = hasattr(fcntl, "F_OFD_GETLK") and struct.calcsize("P") == 8
#: the longest time that a fork waits for other threads
LONGEST_S = 1.0
_PAUSE_S = 0.0005


class PerProcess(Generic[T]):
    """Makes one object for each process that asks, known by their pids.

    uWSGI calls no ``os.register_at_fork`` handler by default, so a forked worker can only learn
    by its pid that locks, threads and connections are its parent's. An inherited object is kept,
    unused: to close it could disturb the parent.

    Source: uWSGI 2.0.31, measured: without ``py-call-uwsgi-fork-hooks`` no handler runs.

    :param make: makes the object. Two threads may both call it; one result is kept, so it must
        not start or open anything.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._by_pid: dict[int, T] = {}

    def get(self) -> T:
        """Return this process's object."""
        pid = os.getpid()
        try:
            return self._by_pid[pid]
        except KeyError:
            # No lock could guard this: one taken by another thread at the fork stays taken.
            return self._by_pid.setdefault(pid, self._make())

    def inherited(self) -> T | None:
        """Return the object of the nearest ancestor, to be looked at by who has none yet.

        Its locks may be held by threads that are not here, so that no method may be called that
        takes one.
        """
        return next(reversed(self._by_pid.values()), None)

    def peek(self) -> T | None:
        """Return this process's object if it was made already."""
        return self._by_pid.get(os.getpid())


class Undivided:
    """Work that ``os.fork`` does not cut in two: a context for each piece of it.

    A child has no other thread of its parent, but what that thread held in a library in C: a mutex
    of SQLite or OpenSSL, on which it waits until it is killed, or a lock of SQLite's on its file,
    which it takes for one of its own. So a fork waits until no other thread does such work, for at
    most :data:`LONGEST_S`, and who begins some meanwhile waits for the fork.

    Any thread may call every method; one that forks within its own work does not wait for itself.
    Without locks, for a child might inherit those, too. uWSGI's own forks do not wait: in its
    master no thread of this package is left (:data:`unseen_forks`).

    Source: SQLite documentation, "How To Corrupt An SQLite Database File", 2.6; measured with
    Python 3.11, SQLite 3.40 and OpenSSL 3.0: beside one busy thread, 6 of 155 children waited in
    SQLite without an end, and 21 of 25 found the file locked as long as they lived.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        # One entry for each context that is entered, by thread.
        self._working: list[int] = []
        self._forking: list[int] = []
        self._cut = False

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def begin(self) -> None:
        """Enter the context; each thread may do so several times."""
        self._know_process()
        own = get_ident()
        self._working.append(own)
        # In this order: either this thread sees the fork, or the fork sees this thread.
        if self._forking and self._working.count(own) == 1 and own not in self._forking:
            self._let_fork(own)

    def end(self) -> None:
        """Leave the context."""
        own = get_ident()
        # In a child of another thread it is left already.
        if own in self._working:
            self._working.remove(own)

    @property
    def was_cut(self) -> bool:
        """Whether another thread was within such work when this process was forked."""
        self._know_process()
        return self._cut

    def before_fork(self) -> None:
        """Wait until no other thread works; called in the thread that forks."""
        self._forking.append(get_ident())
        deadline = time.monotonic() + LONGEST_S
        while self._others_work() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)

    def after_fork(self) -> None:
        """Let the others go on; called in the parent."""
        self._forking.remove(get_ident())

    def begin_anew(self) -> None:
        """Forget the parent's other threads; called in the child."""
        own = get_ident()
        self._pid = os.getpid()
        self._cut = self._others_work()
        self._working = [thread for thread in self._working if thread == own]
        self._forking = []

    def _know_process(self) -> None:
        if self._pid != os.getpid():
            self.begin_anew()

    def _let_fork(self, own: int) -> None:
        deadline = time.monotonic() + LONGEST_S
        while self._forking and time.monotonic() < deadline:
            self._working.remove(own)
            try:
                time.sleep(_PAUSE_S)
            finally:
                self._working.append(own)

    def _others_work(self) -> bool:
        own = get_ident()
        return any(thread != own for thread in list(self._working))


class _Unseen:
    """Whether this process may be forked by who calls no handler of ``os.register_at_fork``."""

    def __init__(self) -> None:
        self._pid = 0

    def expect(self, expected: bool) -> None:
        """Say whether that may happen; it says nothing of a child."""
        self._pid = os.getpid() if expected else 0

    def __bool__(self) -> bool:
        return self._pid == os.getpid()


#: of this process: while it is so, no thread may be left that could run
unseen_forks = _Unseen()


def unpatched(name: str) -> Any:
    """Return what ``_thread`` itself has by a name, even if gevent has replaced it there."""
    monkey = sys.modules.get("gevent.monkey")
    return getattr(_thread, name) if monkey is None else monkey.get_original("_thread", name)


class NativeThread:
    """A thread of the system that is a daemon, also where gevent makes threads greenlets.

    A greenlet does not run while another one, or the thread it is in, waits in C, as for psycopg2.

    :param run: called with this; is to use no lock, socket or event of gevent's.
    """

    def __init__(self, run: Callable[[NativeThread], object], name: str) -> None:
        self._run = run
        self._name = name
        self._ended = unpatched("allocate_lock")()
        #: once it runs
        self.native_id: int | None = None

    def start(self) -> None:
        """Start it; once only."""
        self._ended.acquire()
        start = unpatched("start_new_thread")
        if start is _thread.start_new_thread:
            # Which is shown among the threads, with its name.
            threading.Thread(target=self._main, name=self._name, daemon=True).start()
        else:
            start(self._main, ())

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        if self._ended.acquire(timeout=timeout_s):
            self._ended.release()

    def _main(self) -> None:
        self.native_id = threading.get_native_id()
        try:
            self._run(self)
        finally:
            self._ended.release()


def await_end(thread: threading.Thread | NativeThread) -> None:
    """Wait until a thread that is about to end is no more, for at most :data:`LONGEST_S`."""
    deadline = time.monotonic() + LONGEST_S
    thread.join(LONGEST_S)
    number = thread.native_id
    # Libraries in C clean up after it once Python has forgotten it. A greenlet has no thread.
    task = f"/proc/self/task/{number}"
    while number != threading.get_native_id() and os.path.exists(task):
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_S)


#: of this process
undivided = Undivided()
os.register_at_fork(
    before=undivided.before_fork,
    after_in_parent=undivided.after_fork,
    after_in_child=undivided.begin_anew,
)
