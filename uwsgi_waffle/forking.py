"""Objects that belong to one process and must not be used across a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


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
