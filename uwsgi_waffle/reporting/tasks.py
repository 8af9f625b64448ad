"""Periodic tasks on the watcher's thread: reports, metrics, the last known values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..config import Options
from ..process.engine import Engine
from ..process.manager import Manager
from ..process.reading import LastKnown
from ..process.watcher import WatcherTask
from ..runtime import detect, new_threads_may_call
from ..settings.declarations import Declarations
from ..stores.base import Store
from .host_rows import HostReporter
from .last_known import Keeper, LastKnownFile
from .reporter import Reporter
from .uwsgi_metrics import UwsgiMetrics


class WatcherTasks:
    """Makes the periodic tasks of one app, new ones for each watcher.

    :param store_name: identifies the store among those of one app; without any password.
    """

    def __init__(
        self,
        app: str,
        options: Options,
        declarations: Declarations,
        store: Store,
        *,
        store_name: str,
    ) -> None:
        self._app = app
        self._options = options
        self._store = store
        self._more: list[Callable[[Engine], WatcherTask]] = []
        self._last_known_file = LastKnownFile(
            options.watcher_file,
            app=app,
            store=store_name,
            declarations=declarations,
            secrets=options.snapshot_secrets,
        )

    @property
    def last_known_file(self) -> Path:
        """Where the last known values are kept."""
        return self._last_known_file.path

    def add(self, make: Callable[[Engine], WatcherTask]) -> None:
        """Have one task more, in watchers that start from now on."""
        self._more.append(make)

    def last_known(self) -> LastKnown | None:
        """Return what this host kept from the last good read, or ``None``; never raises."""
        return self._last_known_file.load()

    def make(self, engine: Engine) -> list[WatcherTask]:
        """Return new tasks for a watcher of this process."""
        where = detect()
        tasks: list[WatcherTask] = []
        if where.worker_id > 0 and new_threads_may_call():
            tasks.append(UwsgiMetrics(engine.status, worker_id=where.worker_id))
        if self._options.report_interval_s:
            # Also in one that only watches: it may be the ear, which answers for its host.
            tasks.append(
                HostReporter(
                    engine.manager,
                    self._store,
                    app=self._app,
                    interval_s=self._options.report_interval_s,
                )
            )
        if not engine.manager.may_make:
            # One that only watches is no worker, and leaves nothing behind.
            return [*tasks, *(make(engine) for make in self._more)]
        if self._options.report_interval_s:
            tasks.append(
                Reporter(
                    engine.status,
                    self._store,
                    engine.manager.health,
                    app=self._app,
                    interval_s=self._options.report_interval_s,
                )
            )
        tasks.append(Keeper(engine.manager, self._last_known_file))
        return [*tasks, *(make(engine) for make in self._more)]

    def changed(self, manager: Manager) -> None:
        """Keep the last known values after a change in a process that has no watcher to do it.

        Blocks for one flush of a small file to the disk.
        """
        Keeper(manager, self._last_known_file).turn()
