"""The part of the stores' contract that is about the reports of workers."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ..errors import StoreError
from ..stores.base import Store, WorkerReport
from .assertions import skip
from .forked import in_processes

_DEADLINE_S = 10.0
_LONG_S = 3600.0


def a_report(**more: Any) -> WorkerReport:
    """Return a report of worker 1 on ``web1``, with some fields set otherwise."""
    made = WorkerReport("shop", "web1", 101, 1, 7, 0.25, "VALID", None, _LONG_S)
    return made._replace(**more)


class ReportContract:
    """The contract of a store that keeps reports and apps; skipped for one that does not."""

    #: longest time that one call may block while the store is out of reach, in seconds
    bound_s = 4.0

    def outage(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the store can't be reached, and works again after it."""
        raise NotImplementedError

    def test_nobody_reported_to_a_prepared_store(self, store: Store) -> None:
        store.prepare()
        assert store.workers(_LONG_S) == []

    def test_report_comes_back_as_it_was_told(self, store: Store) -> None:
        _prepared(store)
        told = [
            a_report(),
            a_report(pid=102, worker_id=2, staleness_s=None, state="INITIALIZING"),
            a_report(host="web2", last_error="Åse's 🧇: %s ? :name " + "x" * 250, revision=2**40),
        ]
        for report in told:
            store.report(report)
        listed = store.workers(_LONG_S)
        assert all(0 <= report.age_s < _DEADLINE_S for report in listed)
        assert [report._replace(age_s=0.0) for report in listed] == told

    def test_report_replaces_the_earlier_one_of_its_process(self, store: Store) -> None:
        _prepared(store)
        store.report(a_report())
        store.report(a_report(pid=102))
        store.report(a_report(revision=8, state="INTERRUPTED", last_error="store: gone"))
        listed = store.workers(_LONG_S)
        assert [(each.pid, each.revision) for each in listed] == [(101, 8), (102, 7)]
        assert (listed[0].state, listed[0].last_error) == ("INTERRUPTED", "store: gone")

    def test_workers_are_listed_by_app_host_and_number(self, store: Store) -> None:
        _prepared(store)
        told = [
            a_report(app="blog", host="web2", pid=9, worker_id=1),
            a_report(app="shop", host="web1", pid=9, worker_id=1),
            a_report(app="shop", host="web1", pid=3, worker_id=2),
            a_report(app="shop", host="web2", pid=1, worker_id=1),
        ]
        for report in reversed(told):
            store.report(report)
        assert [report[:4] for report in store.workers(_LONG_S)] == [each[:4] for each in told]

    def test_retracted_report_is_gone_and_others_stay(self, store: Store) -> None:
        _prepared(store)
        store.report(a_report())
        store.report(a_report(pid=102))
        store.retract(a_report(revision=9))
        store.retract(a_report(host="never seen"))
        assert [report.pid for report in store.workers(_LONG_S)] == [102]

    def test_dead_vanish_after_their_lifetime(self, store: Store) -> None:
        _prepared(store)
        store.report(a_report(pid=1, lifetime_s=0.3))
        store.report(a_report(pid=2))
        deadline = time.monotonic() + _DEADLINE_S
        while [report.pid for report in store.workers(_LONG_S)] != [2]:
            assert time.monotonic() < deadline, store.workers(_LONG_S)
            time.sleep(0.02)
        store.report(a_report(pid=3))
        assert [report.pid for report in store.workers(_LONG_S)] == [2, 3]

    def test_age_is_told_and_limits_the_list(self, store: Store) -> None:
        _prepared(store)
        store.report(a_report())
        deadline = time.monotonic() + _DEADLINE_S
        while not (store.workers(_LONG_S)[0].age_s >= 0.3):
            assert time.monotonic() < deadline, store.workers(_LONG_S)
            time.sleep(0.02)
        store.report(a_report(pid=102))
        assert [report.pid for report in store.workers(0.3)] == [102]
        assert len(store.workers(_LONG_S)) == 2

    def test_reports_of_many_processes_at_once_are_all_kept(self, store: Store) -> None:
        _prepared(store)
        store.report(a_report(pid=1))

        def report(number: int) -> int:
            for revision in range(10):
                # A report may be dropped, and comes again.
                with contextlib.suppress(StoreError):
                    store.report(a_report(pid=100 + number, revision=revision))
            _reported(store, a_report(pid=100 + number, revision=99))
            return number

        assert in_processes(8, report) == [*range(8)]
        listed = store.workers(_LONG_S)
        assert [each.pid for each in listed] == [1, *range(100, 108)]
        assert {each.revision for each in listed[1:]} == {99}

    def test_first_reports_of_many_processes_at_once_are_all_kept(self, store: Store) -> None:
        _prepared(store)
        in_processes(8, lambda number: _reported(store, a_report(pid=100 + number)))
        assert [each.pid for each in store.workers(_LONG_S)] == [*range(100, 108)]

    def test_reports_change_nothing_else(self, store: Store) -> None:
        _prepared(store)
        store.write({"A": "1"}, author="ann")
        before = store.read_since(0, ""), store.history()
        store.report(a_report())
        store.retract(a_report())
        assert (store.read_since(0, ""), store.history()) == before
        store.prepare()
        assert store.write({"A": "2"}) == 2

    def test_report_during_an_outage_fails_within_the_bound(self, store: Store) -> None:
        _prepared(store)
        store.report(a_report())
        with self.outage():
            for call in (store.report, store.retract):
                began = time.monotonic()
                try:
                    call(a_report(revision=8))
                except StoreError:
                    pass
                else:
                    raise AssertionError("the report was not refused")
                assert time.monotonic() - began < self.bound_s
        _reported(store, a_report(revision=9))
        assert [each.revision for each in store.workers(_LONG_S)] == [9]

    def test_apps_are_kept_by_their_names(self, store: Store) -> None:
        _prepared(store)
        store.write({"A": "1"})
        before = store.read_since(0, ""), store.history()
        assert store.apps() == {}
        store.enroll("shop", '{"a": "Ä 🧇 \' = ? %s"}')
        store.enroll("blog", "{}")
        store.enroll("shop", '{"b": "x"}')
        assert store.apps() == {"shop": '{"b": "x"}', "blog": "{}"}
        assert (store.read_since(0, ""), store.history()) == before
        store.write({"A": "2"})
        store.prepare()
        assert store.apps().keys() == {"shop", "blog"}

    def test_apps_of_many_processes_at_once_are_all_kept(self, store: Store) -> None:
        _prepared(store)
        in_processes(8, lambda number: store.enroll(f"app {number}", "{}"))
        assert store.apps() == {f"app {number}": "{}" for number in range(8)}


def _prepared(store: Store) -> None:
    if type(store).report is Store.report:
        skip("this store keeps no reports")
    store.prepare()


def _reported(store: Store, report: WorkerReport) -> None:
    """Report, again and again until it is taken."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            return store.report(report)
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
