"""Each process reports itself, cheaply, and never in anybody's way."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from integration.support.stopwatch import Stopwatch
from uwsgi_waffle import StoreUnavailable
from uwsgi_waffle.reporting.reporter import REPORTS, Reporter, make_report
from uwsgi_waffle.stores import Store, WorkerReport
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing import in_processes

from ..support.rig import MemoryStore, Rig, Worker, wait_until
from ..support.steps import calls_of


class ReportedStore(MemoryStore):
    """Keeps the reports that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[WorkerReport] = []
        self.retracted: list[WorkerReport] = []
        self.report_error: Exception | None = None
        self.tries = 0

    def report(self, report: WorkerReport) -> None:
        self.tries += 1
        if self.report_error is not None:
            raise self.report_error
        self.reports.append(report)

    def retract(self, report: WorkerReport) -> None:
        if self.report_error is not None:
            raise self.report_error
        self.retracted.append(report)


class Reporting:
    """A reporter with everything around it in a test's hand."""

    def __init__(self, folder: Path, interval_s: float = 10.0) -> None:
        self.store = ReportedStore()
        self.part = 0.0
        self.rig = Rig(folder, store=self.store)
        self.manager = self.rig.manager
        self.clock = self.rig.clock
        self.reporter = Reporter(
            lambda: replace(self.rig.status(), worker_id=3),
            self.store,
            self.manager.health,
            app="shop",
            interval_s=interval_s,
            clock=self.clock,
            part=lambda: self.part,
        )

    @property
    def count(self) -> int:
        return len(self.store.reports)

    def turn(self, seconds: float = 0.0) -> int:
        """Let time go by and the reporter have its turn; return how many reports there are."""
        self.clock.advance(seconds)
        self.reporter.turn()
        return self.count


@pytest.fixture
def reporting(folder: Path) -> Reporting:
    return Reporting(folder)


def test_first_turn_reports_who_and_how(reporting: Reporting) -> None:
    reporting.rig.update(SITENAME="New")
    reporting.clock.advance(2)
    assert reporting.turn() == 1
    assert reporting.store.reports[0] == WorkerReport(
        app="shop",
        host=os.uname().nodename,
        pid=os.getpid(),
        worker_id=3,
        revision=1,
        staleness_s=2.0,
        state="VALID",
        last_error=None,
        lifetime_s=30.0,
    )


def test_process_that_never_read_the_store_says_so(reporting: Reporting) -> None:
    reporting.turn()
    report = reporting.store.reports[0]
    assert (report.state, report.staleness_s, report.revision) == ("INITIALIZING", None, 0)


def test_nothing_new_is_reported_once_in_an_interval(reporting: Reporting) -> None:
    reporting.turn()
    assert reporting.turn(8.9) == 1
    assert reporting.turn(1.1) == 2
    assert reporting.turn(8.9) == 2


def test_change_is_reported_at_once_but_at_most_once_a_second(reporting: Reporting) -> None:
    reporting.turn()
    reporting.clock.advance(1.0)
    for number in range(1, 6):
        reporting.rig.update(LIMIT=number)
        reporting.turn(0.15)
    assert [report.revision for report in reporting.store.reports] == [0, 1]
    assert reporting.turn(0.5) == 3
    assert reporting.store.reports[-1].revision == 5


def test_workers_that_see_a_change_together_report_it_one_after_another(
    reporting: Reporting,
) -> None:
    reporting.part = 0.5
    reporting.turn()
    reporting.rig.update(LIMIT=1)
    assert reporting.turn(1.0) == 1
    # The part is drawn once for each change.
    reporting.part = 1.0
    assert reporting.turn(0.3) == 1
    assert reporting.turn(0.11) == 2
    assert reporting.store.reports[-1].revision == 1


def test_fault_is_reported_with_its_state(reporting: Reporting) -> None:
    reporting.manager.refresh()
    reporting.turn()
    reporting.manager.health.failed("store", "gone")
    reporting.turn(1.0)
    reporting.manager.health.works("store")
    reporting.turn(1.0)
    reports = reporting.store.reports
    assert [report.state for report in reports] == ["VALID", "INTERRUPTED", "VALID"]
    assert reports[0].last_error is None
    time = "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"
    assert re.fullmatch(f"store: gone [(]since {time} UTC[)]", reports[1].last_error or "")
    assert re.fullmatch(f"store: gone [(]from {time} to {time} UTC[)]", reports[2].last_error or "")


def test_reported_error_shows_no_password_and_no_secret(reporting: Reporting) -> None:
    reporting.rig.update(TOKEN="top-secret")
    error = "postgresql://ann:pass@db/x refused top-secret and 'hush'" + "x" * 1000
    reporting.manager.health.failed("store", error)
    reporting.turn()
    told = reporting.store.reports[0].last_error
    assert told is not None
    assert told.startswith("store: postgresql://ann:***@db/x refused ********")
    assert "top-secret" not in told
    assert len(told) <= 300
    assert "x… (" in told


def test_revision_is_that_which_requests_are_served(reporting: Reporting) -> None:
    """While a request runs, the watcher has read more than it applied."""
    reporting.manager.refresh()
    reporting.rig.idle = False
    reporting.rig.changed_elsewhere(SITENAME="New")
    reporting.manager.follow(None)
    reporting.turn()
    assert reporting.manager.snapshot.revision == 1
    assert reporting.store.reports[-1].revision == 0
    reporting.rig.begin_request()
    reporting.turn(1.0)
    assert reporting.store.reports[-1].revision == 1


def test_failing_report_is_dropped_logged_once_and_tried_less_and_less_often(
    reporting: Reporting, caplog: pytest.LogCaptureFixture
) -> None:
    reporting.manager.refresh()
    reporting.store.report_error = StoreUnavailable("redis://:pass@host is down")
    for _ in range(6000):
        reporting.turn(0.2)
    # Twenty minutes: the pauses double from 1 to 2 s up to 30 to 60 s.
    assert 20 < reporting.store.tries < 60
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "redis://:***@host is down" in record.getMessage()
    assert reporting.manager.health.state.value == "VALID"
    assert list(reporting.manager.health.failing()) == [REPORTS]
    reporting.store.report_error = None
    assert reporting.turn(60.0) == 1
    assert caplog.messages[1].startswith("reporting to the store works again after ")
    assert reporting.manager.health.failing() == {}


def test_process_reports_as_soon_as_the_store_works_again(reporting: Reporting) -> None:
    reporting.manager.refresh()
    error = StoreUnavailable("down")
    reporting.rig.memory.error = reporting.store.error = reporting.store.report_error = error
    with pytest.raises(StoreUnavailable):
        reporting.manager.refresh()
    for _ in range(6000):
        reporting.turn(0.2)
    reporting.turn(60.0)
    assert reporting.count == 0
    reporting.store.error = reporting.store.report_error = None
    assert reporting.turn(0.01) == 0
    reporting.manager.refresh()
    assert reporting.turn(0.01) == 1
    (report,) = reporting.store.reports
    assert report.state == "VALID"
    assert (report.last_error or "").startswith("store: down")


def test_one_report_that_is_dropped_is_no_fault(
    reporting: Reporting, caplog: pytest.LogCaptureFixture
) -> None:
    reporting.manager.refresh()
    for _ in range(5):
        reporting.store.report_error = StoreUnavailable("busy")
        reporting.turn(60.0)
        reporting.store.report_error = None
        reporting.turn(60.0)
    assert reporting.count == 5
    assert caplog.records == []
    assert reporting.manager.health.last_error is None


def test_any_exception_of_a_users_own_store_is_survived(reporting: Reporting) -> None:
    reporting.store.report_error = ZeroDivisionError()
    assert reporting.turn() == 0


def test_end_withdraws_the_report_and_no_other_follows(reporting: Reporting) -> None:
    reporting.turn()
    reporting.reporter.end()
    assert [report.pid for report in reporting.store.retracted] == [os.getpid()]
    assert reporting.turn(100.0) == 1
    reporting.reporter.end()
    assert len(reporting.store.retracted) == 1


def test_end_without_a_report_asks_nothing_of_the_store(reporting: Reporting) -> None:
    reporting.reporter.end()
    assert reporting.store.retracted == []


def test_end_while_reports_fail_does_not_wait_for_the_store(reporting: Reporting) -> None:
    reporting.turn()
    reporting.store.report_error = StoreUnavailable("down")
    reporting.turn(20.0)
    reporting.store.report_error = None
    reporting.reporter.end()
    assert reporting.store.retracted == []


def test_end_survives_a_store_that_fails(reporting: Reporting) -> None:
    reporting.turn()
    reporting.store.report_error = StoreUnavailable("down")
    reporting.reporter.end()


def test_exit_of_a_forked_child_does_not_withdraw_its_parents_report(
    reporting: Reporting,
) -> None:
    reporting.turn()

    def leave(number: int) -> int:
        reporting.reporter.end()
        return len(reporting.store.retracted)

    assert in_processes(1, leave) == [0]


def test_turn_with_nothing_to_report_does_next_to_nothing(reporting: Reporting) -> None:
    reporting.turn()
    reporting.clock.advance(2.0)
    assert calls_of(reporting.reporter.turn) < 40


# With a watcher.


def test_worker_is_in_the_list_while_its_watcher_runs(
    make_worker: Callable[..., Worker],
) -> None:
    worker = make_worker(WAFFLE_POLL_INTERVAL=0.005)
    worker.waffle.update({"SITENAME": "New"})
    worker.waffle.start()
    wait_until(worker.waffle.workers)
    (report,) = worker.waffle.workers()
    assert report[:5] == ("shop", os.uname().nodename, os.getpid(), 0, 1)
    assert (report.state, report.last_error) == ("VALID", None)
    worker.waffle.stop()
    # stop() waits for the thread for at most 2 s; the list would have it for 90.
    wait_until(lambda: worker.waffle.workers() == [], "withdrawn")


class _Last:
    """A task that counts the turns of all before it."""

    turns = 0

    def turn(self) -> None:
        self.turns += 1

    def end(self) -> None:
        pass


def test_interval_of_zero_reports_nothing(make_worker: Callable[..., Worker]) -> None:
    worker, last = make_worker(WAFFLE_POLL_INTERVAL=0.005, WAFFLE_REPORT_INTERVAL=0), _Last()
    worker.state.add_task(lambda engine: last)
    worker.waffle.start()
    worker.waffle.update({"SITENAME": "New"})
    turns = last.turns
    # The first of them may have begun before the change.
    wait_until(lambda: last.turns > turns + 1)
    assert worker.state.store.workers(60.0) == []


def test_extension_lists_the_workers_of_all_apps(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker()
    other = make_report(worker.waffle.status(), app="other", lifetime_s=30)
    worker.state.store.report(other)
    (report,) = worker.waffle.workers()
    assert report.app == "other"


def test_store_without_reports_has_no_workers(make_worker: Callable[..., Worker]) -> None:
    class Plain(MemoryStore):
        pass

    worker = make_worker(store=Plain(), WAFFLE_POLL_INTERVAL=0.005)
    worker.waffle.start()
    worker.waffle.update({"SITENAME": "New"})
    assert worker.waffle.workers() == []
    assert worker.waffle.status().failing == {}


# In SQLite.


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    return store


def a_report(**more: Any) -> WorkerReport:
    made = WorkerReport("shop", "web1", 7, 1, 3, 0.5, "VALID", None, 30.0)
    return made._replace(**more)


def test_database_of_an_earlier_release_gets_its_table(sqlite: SqliteStore) -> None:
    with contextlib.closing(sqlite3.connect(sqlite.path)) as connection:
        connection.execute("DROP TABLE waffle_workers")
    assert sqlite.workers(60.0) == []
    sqlite.report(a_report())
    assert [report.pid for report in sqlite.workers(60.0)] == [7]
    sqlite.close()


def test_sqlite_report_is_not_kept_up_by_a_writer(sqlite: SqliteStore) -> None:
    sqlite.report(a_report())
    with contextlib.closing(sqlite3.connect(sqlite.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with Stopwatch() as watch, pytest.raises(StoreUnavailable):
            sqlite.report(a_report(pid=8))
        watch.assert_within(0.5)
        writer.execute("ROLLBACK")
    sqlite.close()


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_that_is_set_anew_leaves_no_dead_for_ever(
    sqlite: SqliteStore, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.report(a_report(pid=1))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    assert sqlite.workers(60.0) == []
    sqlite.report(a_report(pid=2))
    monkeypatch.undo()
    with contextlib.closing(sqlite3.connect(sqlite.path)) as connection:
        assert connection.execute("SELECT pid FROM waffle_workers").fetchall() == [(2,)]
    sqlite.close()


def test_report_changes_neither_revision_nor_settings(sqlite: SqliteStore) -> None:
    store: Store = sqlite
    store.write({"A": "1"})
    before = store.read_since(0, ""), store.history()
    store.report(a_report())
    assert (store.read_since(0, ""), store.history()) == before
    store.close()
