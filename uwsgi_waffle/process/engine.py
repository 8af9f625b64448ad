"""The engine of one app in one process: the manager and its watcher."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from ..notifiers.base import Notifier
from ..runtime import detect
from .health import Status
from .manager import Manager
from .watcher import Watcher, WatcherTask


class Engine:
    """Manager and watcher of one app in one process; made after the fork.

    :param make_notifier: makes the notifier that the watcher waits for.
    :param make_tasks: makes the periodic tasks of the watcher.
    :param started: called when the first watcher was started, in the thread that did it, and by
        :meth:`say_started`.
    """

    def __init__(
        self,
        manager: Manager,
        make_notifier: Callable[[], Notifier],
        *,
        poll_interval_s: float,
        make_tasks: Callable[[Engine], Iterable[WatcherTask]] = lambda engine: (),
        started: Callable[[Status], None] = lambda status: None,
    ) -> None:
        self.manager = manager
        self._make_notifier = make_notifier
        self._poll_interval_s = poll_interval_s
        self._make_tasks = make_tasks
        self._started: Callable[[Status], None] | None = started
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._notifier: Notifier | None = None
        self._where = detect()
        self.stopped = False

    @property
    def watching(self) -> bool:
        """Whether the watcher runs in this process."""
        return self._watcher is not None and self._watcher.alive

    def start(self) -> None:
        """Start the watcher unless it runs; at most one per process."""
        with self._lock:
            if self.watching:
                return
            self.stopped = False
            self._notifier = notifier = self._make_notifier()
            self._watcher = Watcher(
                self.manager,
                notifier,
                poll_interval_s=self._poll_interval_s,
                tasks=self._make_tasks(self),
            )
            self._watcher.start()
            self.manager.health.switch(off=False)
            started, self._started = self._started, None
        if started is not None:
            started(self.status())

    def add_task(self, make: Callable[[Engine], WatcherTask]) -> None:
        """Have the watcher, if it runs, do one task more."""
        with self._lock:
            if (watcher := self._watcher) is not None and watcher.alive:
                watcher.add(make(self))

    def say_started(self) -> None:
        """Say that this process serves, though it has no watcher."""
        if self._started is not None:
            self._started(self.status())

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
        manager, reading, watcher = self.manager, self.manager.reading, self._watcher
        health, notifier = manager.health, self._notifier
        snapshot = manager.snapshot
        return Status(
            state=health.state,
            since=health.since,
            revision=snapshot.revision,
            applied_revision=manager.applied.revision,
            source=reading.source,
            staleness_s=reading.staleness_s,
            read_at=reading.read_at,
            last_error=health.last_error,
            failing=health.failing(),
            faults=dict(snapshot.faults),
            refreshes=reading.refreshes,
            failures=reading.failures,
            notices="none" if notifier is None else notifier.name,
            ear=notifier is not None and notifier.is_ear,
            pid=os.getpid(),
            worker_id=self._worker_id(),
            watcher_alive=self.watching,
            watcher_pid=None if watcher is None else watcher.pid,
        )

    def _worker_id(self) -> int:
        # Without a master the process that loads the app becomes a worker later.
        if self._where.under_uwsgi and not self._where.worker_id:
            self._where = detect()
        return self._where.worker_id
