"""What the watcher of each process does besides: it reports, counts, and keeps the last good."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from ..config import Options
from ..process.manager import LastKnown, Manager
from ..process.watcher import Chore
from ..runtime import detect, new_threads_may_call
from ..settings.declarations import Declarations
from ..stores.base import Store
from .last_known import Keeper, LastGood
from .reporter import Reporter
from .uwsgi_metrics import UwsgiMetrics


class Chores:
    """Makes the chores of one app, anew for each watcher.

    :param store_name: tells the stores of one app apart; without any password.
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
        self._more: list[Callable[[Manager], Chore]] = []
        self._last_good = LastGood(
            options.watcher_file,
            app=app,
            store=store_name,
            declarations=declarations,
            secrets=options.snapshot_secrets,
        )

    def add(self, make: Callable[[Manager], Chore]) -> None:
        """Have one chore more, in watchers that start from now on."""
        self._more.append(make)

    def last_known(self) -> LastKnown | None:
        """Return what this host kept from the last good read, or ``None``; never raises."""
        return self._last_good.load()

    def make(self, manager: Manager) -> list[Chore]:
        """Return new chores for a watcher of this process."""
        where = detect()
        chores: list[Chore] = []
        if where.worker_id > 0 and new_threads_may_call():
            chores.append(UwsgiMetrics(manager, worker_id=where.worker_id))
        if self._options.report_interval_s:
            chores.append(
                Reporter(
                    manager,
                    self._store,
                    app=self._app,
                    worker_id=where.worker_id,
                    interval_s=self._options.report_interval_s,
                )
            )
        chores.append(Keeper(manager, self._last_good))
        return [*chores, *(make(manager) for make in self._more)]

    def changed(self, manager: Manager) -> None:
        """Keep the last good after a change in a process that has no watcher to do it.

        Blocks for one flush of a small file to the disk.
        """
        with contextlib.suppress(OSError):
            # Root's file, made by a command, could not be read by workers of another user.
            if os.geteuid() != 0 or os.stat(self._last_good.path.parent).st_uid == 0:
                Keeper(manager, self._last_good).turn()
