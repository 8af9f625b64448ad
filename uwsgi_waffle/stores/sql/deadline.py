"""Bounds for calls of a database driver that may wait for its server without an end."""

from __future__ import annotations

import contextlib
import contextvars
import heapq
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ...errors import WaffleError, raise_unheld
from ...forking import PerProcess

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
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        if hasattr(connection, "fileno"):
            # A descriptor of its own: the driver's may be closed, and its number reused.
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
            _timekeepers.get().put(time.monotonic() + timeout_s, self)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be cut."""
        return self._socket is None or self._socket.fileno() < 0

    def cancel(self) -> None:
        """Leave the connection alone from now on."""
        if self._socket is not None:
            with self._lock:
                self._socket.close()

    def fire(self) -> None:
        """Cut the connection, unless that is cancelled; never waits."""
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None and not self.is_over:
                self.happened = True
                self._socket.shutdown(socket.SHUT_RDWR)


class _Timekeeper:
    """Cuts what is due, in one thread that starts with the first and waits for the next.

    A thread for each read, as :class:`threading.Timer` has it, took a fifth of the read's
    processor time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Cut]] = []
        self._numbers = itertools.count()
        # When the thread looks again by itself; there is none yet.
        self._looks_at: float | None = None

    def put(self, at: float, cut: Cut) -> None:
        """Cut at a time by the monotonic clock."""
        with self._changed:
            while self._due and self._due[0][2].is_over:
                heapq.heappop(self._due)
            heapq.heappush(self._due, (at, next(self._numbers), cut))
            if self._looks_at is None:
                threading.Thread(target=self._run, name="waffle-timekeeper", daemon=True).start()
                self._looks_at = at
            elif at < self._looks_at:
                # Seldom: to wake a thread takes longer than the rest of this.
                self._changed.notify()

    def _run(self) -> None:
        while True:
            self._next().fire()

    def _next(self) -> Cut:
        with self._changed:
            while True:
                self._looks_at = self._due[0][0] if self._due else float("inf")
                rest_s = self._looks_at - time.monotonic()
                if rest_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(min(rest_s, threading.TIMEOUT_MAX))


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


def within(timeout_s: float, call: Callable[[], T], discard: Callable[[T], object]) -> T:
    """Return what a function returns that no timeout of its own bounds, as one that connects.

    Looking up a name, trying each address of a host, an event listener of the user's: none of this
    is covered by a driver's timeout, or for at least 2 s each. So it runs in a thread of its own,
    in the caller's context, which is left alone when the time is over.

    :param discard: called in that thread with what was returned too late.
    :raises TimeoutError: the time was over.
    """
    attempt = _Attempt(call, discard)
    context = contextvars.copy_context()
    threading.Thread(
        target=context.run, args=(attempt.run,), name="waffle-connect", daemon=True
    ).start()
    try:
        attempt.ended.wait(timeout_s)
    finally:
        is_over = attempt.give_up()
    if is_over:
        raise TimeoutError("it did not connect in time")
    raise_unheld(attempt.take_error())
    return attempt.result[0]


class _Attempt(Generic[T]):
    """One call that another thread waits for, as long as it likes."""

    def __init__(self, call: Callable[[], T], discard: Callable[[T], object]) -> None:
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._given_up = False
        self.ended = threading.Event()
        self.result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            result = self._call()
        except BaseException as exc:
            self.error = exc
        else:
            with self._lock:
                if not self._given_up:
                    self.result.append(result)
            if not self.result:
                with contextlib.suppress(Exception):
                    self._discard(result)
        self.ended.set()

    def take_error(self) -> BaseException | None:
        """Return what the call raised, and keep it no longer."""
        error, self.error = self.error, None
        return error

    def give_up(self) -> bool:
        """Stop waiting; return whether there is neither a result nor an error."""
        with self._lock:
            self._given_up = True
            return not self.result and self.error is None
