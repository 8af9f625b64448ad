"""What runs for one app in one process: the manager and its watcher."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from ..notifiers.base import Notifier
from ..runtime import detect
from .health import State
from .manager import Manager
from .watcher import Chore, Watcher


@dataclass(frozen=True, slots=True)
class Status:
    """How the settings of this process are doing.

    :ivar state: see :class:`~uwsgi_waffle.process.health.State`.
    :ivar since: when the state began, in UTC.
    :ivar revision: the newest revision that was read.
    :ivar source: where the settings come from: ``store``, ``defaults``, ``master`` (read before
        the fork), or the path of the file of last known values.
    :ivar staleness_s: seconds since the store was last read with success, or ``None``.
    :ivar last_error: the last thing that failed, also if it works again.
    :ivar failing: mapping of each part that fails now to its error.
    :ivar faults: mapping of setting name to what is wrong with its stored value.
    :ivar notices: ``file`` or ``redis``: how the watcher hears of changes.
    """

    state: State
    since: datetime
    revision: int
    source: str
    staleness_s: float | None
    last_error: str | None
    failing: dict[str, str]
    faults: dict[str, str]
    notices: str
    pid: int
    worker_id: int
    watcher_alive: bool
    watcher_pid: int | None


class Engine:
    """Manager and watcher of one app in one process; made after the fork.

    :param make_notifier: makes the notifier that the watcher waits for.
    :param make_chores: makes what the watcher does besides.
    """

    def __init__(
        self,
        manager: Manager,
        make_notifier: Callable[[], Notifier],
        *,
        poll_interval_s: float,
        make_chores: Callable[[Manager], Iterable[Chore]] = lambda manager: (),
    ) -> None:
        self.manager = manager
        self._make_notifier = make_notifier
        self._poll_interval_s = poll_interval_s
        self._make_chores = make_chores
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._notices = "none"
        self.stopped = False

    @property
    def watching(self) -> bool:
        """Whether the watcher runs in this process."""
        return self._watcher is not None and self._watcher.alive

    def start(self) -> None:
        """Start the watcher unless it runs; at most one per process, whoever calls."""
        with self._lock:
            if self.watching:
                return
            self.stopped = False
            notifier = self._make_notifier()
            self._notices = notifier.name
            self._watcher = Watcher(
                self.manager,
                notifier,
                poll_interval_s=self._poll_interval_s,
                chores=self._make_chores(self.manager),
            )
            self._watcher.start()
            self.manager.health.switch(off=False)

    def add_chore(self, make: Callable[[Manager], Chore]) -> None:
        """Have the watcher, if it runs, do one chore more."""
        with self._lock:
            if self._watcher is not None and self.watching:
                self._watcher.add(make(self.manager))

    def stop(self) -> None:
        """Stop the watcher; it starts again only by :meth:`start`. Blocks for at most 2 s."""
        with self._lock:
            self.stopped = True
            watcher, self._watcher = self._watcher, None
            self.manager.health.switch(off=True)
        if watcher is not None:
            watcher.stop()

    def status(self) -> Status:
        """Return how this process is doing; reads nothing but memory."""
        health = self.manager.health
        watcher = self._watcher
        return Status(
            state=health.state,
            since=health.since,
            revision=self.manager.snapshot.revision,
            source=self.manager.source,
            staleness_s=self.manager.staleness_s,
            last_error=health.last_error,
            failing=health.failing(),
            faults=dict(self.manager.snapshot.faults),
            notices=self._notices,
            pid=os.getpid(),
            worker_id=detect().worker_id,
            watcher_alive=self.watching,
            watcher_pid=None if watcher is None else watcher.pid,
        )
