"""Reports of this process to the store, from which the list of workers comes."""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
from collections.abc import Callable

from ..backoff import Backoff
from ..masking import shortened
from ..process.health import Health, Status
from ..process.kept_slot import SLOT
from ..process.reading import STORE
from ..process.refresher import PAGE
from ..runtime import at_exit
from ..stores.base import Store, WorkerReport
from .spread import Failures, Spread

logger = logging.getLogger("uwsgi_waffle")

#: the part that fails when the list of workers lacks this process
REPORTS = "reporting to the store"
#: how many intervals without a report a process is taken for alive
LIFETIME_INTERVALS = 3
_LEAST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_SPREAD_S = 0.8
# With the times, at most 300 characters.
_MAX_ERROR_LENGTH = 240


class Reporter:
    """Reports to the store how this process is doing; belongs to one watcher thread.

    It reports at its first turn, within a second when revision, state or last error changed, but
    at most once a second, and in any case once in an interval. A report that fails is dropped, and
    the next one waits for longer; if that fails too, it is shown in the state, and logged.

    :param status: returns how this process is doing; reads nothing but memory.
    :param health: of this process.
    :param app: the Flask app's name.
    :param interval_s: seconds between two reports of which nothing changed.
    :param part: returns for which part of the spread, 0 to 1, a change waits to be reported.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        store: Store,
        health: Health,
        *,
        app: str,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        part: Callable[[], float] = random.random,
    ) -> None:
        self._status = status
        self._store = store
        self._app = app
        self._interval_s = interval_s
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._backoff = Backoff(2 * _LEAST_PAUSE_S, _LONGEST_PAUSE_S)
        self._told: tuple[object, ...] | None = None
        self._earliest = self._due = clock()
        self._spread = Spread(min(_SPREAD_S, interval_s), part)
        self._kept: WorkerReport | None = None
        self._failures = Failures(health, REPORTS)
        # How often the store had been read when it failed and a report with it.
        self._reads: int | None = None
        self._ended = False

    def turn(self) -> None:
        """Report if it is time to; blocks for at most the store's bound.

        Runs in the watcher thread, and costs about a microsecond when there is nothing to report.
        """
        now = self._clock()
        if now < self._earliest and self._reads is None:
            return
        status = self._status()
        if now < self._earliest and status.refreshes == self._reads:
            return
        news = (status.applied_revision, status.state, status.last_error)
        if now < self._due and not self._spread.is_over(news != self._told, now):
            return
        with self._lock:
            if not self._ended:
                self._report(status, news)

    def end(self) -> None:
        """Withdraw the report, so that no reader waits for its lifetime; raises nothing.

        Called when the watcher stops, and at the exit of the process, where that is not skipped.
        Blocks for at most twice the store's bound, and not at all while reports fail.
        """
        atexit.unregister(self.end)
        # At the exit of a child that was forked without an exec, the worker lives on.
        if self._pid != os.getpid() or not self._lock.acquire(timeout=_LEAST_PAUSE_S):
            return
        try:
            kept, self._kept, self._ended = self._kept, None, True
            if kept is not None and not self._failures.failing:
                self._store.retract(kept)
        except Exception as exc:
            logger.debug("the report of this process was not withdrawn: %s", exc)
        finally:
            self._lock.release()

    def _report(self, status: Status, news: tuple[object, ...]) -> None:
        self._spread.end()
        report = make_report(
            status,
            app=self._app,
            lifetime_s=LIFETIME_INTERVALS * self._interval_s,
        )
        try:
            self._store.report(report)
        except Exception as exc:
            self._earliest = self._clock() + self._backoff.next_s()
            self._failures.failed(exc)
            # Failing with the store, it works again with it.
            self._reads = status.refreshes if STORE in status.failing else None
            return
        if self._kept is None:
            at_exit(self.end)
        self._failures.end()
        self._told, self._kept, self._reads = news, report, None
        self._backoff.reset()
        now = self._clock()
        self._earliest = now + min(_LEAST_PAUSE_S, self._interval_s)
        # Not all at once, though they may have begun so.
        self._due = now + self._interval_s * random.uniform(0.9, 1.0)


def make_report(status: Status, *, app: str, lifetime_s: float) -> WorkerReport:
    """Return the report of a process that is doing so."""
    error = status.last_error
    text = None if error is None else error.text(_MAX_ERROR_LENGTH)
    for part in (PAGE, SLOT):
        # First: its host can't speak for this process then.
        if part in status.failing and (error is None or error.part != part):
            said = shortened(f"{part}: {status.failing[part]}", _MAX_ERROR_LENGTH)
            text = f"{said} (since the last report)"
            break
    return WorkerReport(
        app=app,
        host=os.uname().nodename,
        pid=status.pid,
        worker_id=status.worker_id,
        revision=status.applied_revision,
        staleness_s=status.staleness_s,
        state=status.state.value,
        last_error=text,
        lifetime_s=lifetime_s,
    )
