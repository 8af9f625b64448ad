"""Bounds for calls of a database driver that may wait for its server without an end."""

from __future__ import annotations

import _socket
import contextlib
import contextvars
import heapq
import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...errors import WaffleError, raise_unheld
from ...forking import NativeThread, PerProcess, await_end, undivided, unpatched, unseen_forks

T = TypeVar("T")


class Cut:
    """Cuts a connection when its time is over; the call that waits for it then fails.

    A timeout of the server's own does not help while the server is stopped or the network is
    gone, and the drivers of PostgreSQL have none on this side.

    Source: PostgreSQL documentation, "Database Connection Control Functions": ``connect_timeout``
    covers connecting only, ``tcp_user_timeout`` only data that the other host does not confirm.

    :param connection: the driver's connection; without ``fileno`` nothing is done.
    """

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self.happened = False
        self._lock = unpatched("allocate_lock")()
        self._socket: _socket.socket | None = None
        if hasattr(connection, "fileno"):
            # Another descriptor: the driver's may be closed, and its number reused. Not a socket of
            # gevent's, which belongs to the loop of one thread.
            self._socket = _socket.socket(fileno=os.dup(connection.fileno()))
            try:
                _timekeepers.get().put(time.monotonic() + timeout_s, self)
            except BaseException:
                # No thread to be had.
                self._socket.close()
                raise

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be cut."""
        return self._socket is None or self._socket.fileno() < 0

    def cancel(self) -> None:
        """Leave the connection alone from now on."""
        if self._socket is not None:
            with self._lock:
                self._socket.close()
            if unseen_forks:
                _timekeepers.get().end()

    def fire(self) -> None:
        """Cut the connection, unless that is cancelled; never waits."""
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None and not self.is_over:
                self.happened = True
                self._socket.shutdown(socket.SHUT_RDWR)


class _Timekeeper:
    """Cuts what is due, in one thread that starts with the first and waits for the next.

    A thread for each read, as :class:`threading.Timer` has it, took a fifth of the read's
    processor time. It is never a greenlet: psycopg2, and psycopg where gevent patched after its
    import, wait in C, and no greenlet of their thread could cut that short.
    """

    def __init__(self) -> None:
        # A signal's handler may come in between.
        self._lock = unpatched("RLock")()
        # Free when the thread is to look.
        self._asleep = unpatched("allocate_lock")()
        self._asleep.acquire()
        self._due: list[tuple[float, int, Cut]] = []
        self._numbers = itertools.count()
        self._thread: NativeThread | None = None
        # When the thread looks again by itself.
        self._looks_at = 0.0

    def put(self, at: float, cut: Cut) -> None:
        """Cut at a time by the monotonic clock."""
        with self._lock:
            while self._due and self._due[0][2].is_over:
                heapq.heappop(self._due)
            heapq.heappush(self._due, (at, next(self._numbers), cut))
            if self._thread is None:
                thread = NativeThread(self._run, "waffle-timekeeper")
                thread.start()
                self._thread, self._looks_at = thread, at
            elif at < self._looks_at:
                # Seldom: to wake a thread takes longer than the rest of this.
                self._wake()

    def end(self) -> None:
        """End the thread, and wait for that, unless something is left to be cut."""
        with self._lock:
            if self._thread is None or not all(cut.is_over for _, _, cut in self._due):
                return
            self._due.clear()
            thread, self._thread = self._thread, None
            self._wake()
        await_end(thread)

    def _wake(self) -> None:
        # It is free already if the thread has not looked since.
        with contextlib.suppress(RuntimeError):
            self._asleep.release()

    def _run(self, thread: NativeThread) -> None:
        while (cut := self._next(thread)) is not None:
            cut.fire()

    def _next(self, thread: NativeThread) -> Cut | None:
        while True:
            with self._lock:
                if self._thread is not thread:
                    return None
                self._looks_at = self._due[0][0] if self._due else float("inf")
                rest_s = self._looks_at - time.monotonic()
                if rest_s <= 0:
                    return heapq.heappop(self._due)[2]
            self._asleep.acquire(timeout=min(rest_s, threading.TIMEOUT_MAX))


_timekeepers = PerProcess(_Timekeeper)


@contextlib.contextmanager
def cut_after(connection: Any, timeout_s: float) -> Iterator[None]:
    """Bound what is done with a driver's connection in this context.

    :raises TimeoutError: the time was over, and the connection was cut.
    """
    cut = Cut(connection, timeout_s)
    try:
        yield
    except WaffleError:
        # It says more than that the time was over.
        raise
    except Exception as exc:
        if cut.happened:
            raise TimeoutError("it did not answer in time") from exc
        raise
    finally:
        cut.cancel()


if TYPE_CHECKING:
    # ``None`` ends the thread.
    _Calls = queue.SimpleQueue[tuple[contextvars.Context, "_Attempt[Any]"] | None]


class _Callers:
    """Threads that run a call each, and wait for the next one.

    A thread that ends cleans up what libraries in C keep of it, with their locks held, while its
    caller goes on: a process that is forked then waits for such a lock until it is killed.

    Source: OpenSSL of CPython 3.10, measured: of 6,680 processes that were forked as such a thread
    ended, beside a load of 5, 5 waited in ``SSL_CTX_new`` without an end.
    """

    def __init__(self) -> None:
        #: the threads that wait, and what they wait for
        self._idle: list[tuple[threading.Thread, _Calls]] = []

    def start(self, attempt: _Attempt[Any]) -> None:
        """Let a thread run it, in a copy of the caller's context."""
        try:
            _, calls = self._idle.pop()
        except IndexError:
            calls = queue.SimpleQueue()
            arguments = (calls, threading.get_native_id())
            threading.Thread(
                target=self._run, args=arguments, name="waffle-connect", daemon=True
            ).start()
        calls.put((contextvars.copy_context(), attempt))

    def end(self) -> None:
        """End the threads that wait for a call, and wait for that."""
        while self._idle:
            thread, calls = self._idle.pop()
            calls.put(None)
            await_end(thread)

    def _run(self, calls: _Calls, callers_id: int) -> None:
        # gevent's, which must not be handed to another thread's loop, ends without a clean-up.
        is_greenlet = threading.get_native_id() == callers_id
        while (call := calls.get()) is not None:
            context, attempt = call
            context.run(attempt.run)
            if not is_greenlet:
                # Before the caller goes on, which finds it then.
                self._idle.append((threading.current_thread(), calls))
            attempt.ended.set()
            if is_greenlet:
                return
            del call, context, attempt


_callers = PerProcess(_Callers)


def within(timeout_s: float, call: Callable[[], T], discard: Callable[[T], object]) -> T:
    """Return what a function returns that no timeout of its own bounds, as one that connects.

    Looking up a name, trying each address of a host, an event listener of the user's: none of this
    is covered by a driver's timeout, or for at least 2 s each. So it runs in another thread, in
    the caller's context, which is left alone when the time is over. Until then no fork cuts it in
    two.

    :param discard: called in that thread with what was returned too late.
    :raises TimeoutError: the time was over.
    """
    attempt = _Attempt(call, discard)
    # OpenSSL has locks that all connections share.
    with undivided:
        _callers.get().start(attempt)
        try:
            attempt.ended.wait(timeout_s)
        finally:
            is_over = attempt.give_up()
            if unseen_forks:
                _callers.get().end()
    if is_over:
        raise TimeoutError("it did not connect in time")
    raise_unheld(attempt.take_error())
    return attempt.result.pop()


class _Attempt(Generic[T]):
    """One call that another thread makes and its caller waits for, as long as it likes."""

    def __init__(self, call: Callable[[], T], discard: Callable[[T], object]) -> None:
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._given_up = False
        #: set by the thread that ran it, when it does nothing for it any more
        self.ended = threading.Event()
        self.result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make the call, and keep what it returns or raises if somebody still waits for it."""
        try:
            result = self._call()
        except BaseException as exc:
            self.error = exc
        else:
            with self._lock:
                is_late = self._given_up
                if not is_late:
                    self.result.append(result)
            if is_late:
                with contextlib.suppress(Exception):
                    self._discard(result)

    def take_error(self) -> BaseException | None:
        """Return what the call raised, and keep it no longer."""
        error, self.error = self.error, None
        return error

    def give_up(self) -> bool:
        """Stop waiting; return whether there is neither a result nor an error."""
        with self._lock:
            self._given_up = True
            return not self.result and self.error is None
