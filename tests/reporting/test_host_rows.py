"""The row of a host: what all its processes serve, written in time and no more often."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from uwsgi_waffle import StoreUnavailable
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.reporting import host_rows
from uwsgi_waffle.reporting.host_rows import (
    KEPT_S,
    ROW,
    HostReporter,
    HostRow,
    address_of,
    ears_of,
    is_host,
    page_of,
    processes,
    row_of,
    silent_hosts,
)
from uwsgi_waffle.stores.soundness import Found
from uwsgi_waffle.testing.forked import children
from uwsgi_waffle.testing.report_contract import a_report

from ..support.host_rows import a_host
from ..support.rig import Clock, Worker, raising, wait_until


@pytest.fixture
def worker(make_worker: Callable[..., Worker]) -> Worker:
    return make_worker()


@pytest.fixture
def reporter(worker: Worker) -> Iterator[HostReporter]:
    worker.get("LIMIT")
    reporter = HostReporter(worker.manager, worker.state.store, app="shop", interval_s=10.0)
    yield reporter
    reporter.leave()


def turn_until(reporter: HostReporter, condition: Callable[[], bool]) -> None:
    """Turn as a watcher does; a row is written at most every 20 ms."""

    def turned() -> bool:
        reporter.turn()
        return condition()

    wait_until(turned)


def rows(worker: Worker) -> list[Any]:
    return [row_of(each) for each in worker.state.store.workers(KEPT_S) if is_host(each)]


def test_row_of_a_host_says_what_all_its_processes_serve(
    worker: Worker, reporter: HostReporter
) -> None:
    worker.update(LIMIT=5)
    reporter.turn()
    (row,) = rows(worker)
    assert (row.identity, row.processes) == (worker.manager.page.identity.hex(), 1)
    assert (row.behind, row.unnamed, row.silent_s) == ([], 0, 30.0)
    assert worker.waffle.workers() == []
    # Its own host is known without it.
    worker.waffle.wait(1, 0.0)
    reporter.leave()
    assert rows(worker) == []


def test_question_is_answered_at_once_and_after_a_read(
    worker: Worker, reporter: HostReporter
) -> None:
    reporter.turn()
    worker.state.store.write({"LIMIT": "7"})
    worker.manager.follow(Notice(1, "", "", ("abc",)))
    turn_until(reporter, lambda: rows(worker)[0].asks == ["abc"])
    assert rows(worker)[0].identity == worker.manager.page.identity.hex()
    assert worker.manager.snapshot.revision == 1


def test_flood_of_questions_costs_a_bounded_number_of_rows(worker: Worker) -> None:
    worker.get("LIMIT")
    store, clock = worker.state.store, Clock()
    written: list[Any] = []
    store.report = written.append  # type: ignore[method-assign,assignment]
    reporter = HostReporter(worker.manager, store, app="shop", interval_s=10.0, clock=clock)
    base = worker.manager.snapshot
    for number in range(1000):
        worker.manager.follow(Notice(base.revision, base.epoch, base.mark, (f"{number:x}",)))
        reporter.turn()
        clock.advance(0.0001)
    # A tenth of a second, and one row in 20 ms.
    assert 1 <= len(written) <= 6


def test_row_that_a_busy_store_drops_once_is_made_again_and_no_fault(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store, clock, health = worker.state.store, Clock(), worker.manager.health
    reporter = HostReporter(worker.manager, store, app="shop", interval_s=10.0, clock=clock)

    def turn() -> None:
        clock.advance(1.0)
        reporter.turn()

    with monkeypatch.context() as patch:
        patch.setattr(store, "report", raising(StoreUnavailable("database is locked")))
        worker.get("LIMIT")
        turn()
        assert ROW not in health.failing()
        for _ in range(2):
            turn()
            # It stays one fault while there is nothing to do.
            reporter.turn()
            assert "locked" in health.failing()[ROW]
        assert rows(worker) == []
    turn()
    assert ROW not in health.failing()
    assert len(rows(worker)) == 1
    reporter.leave()


def test_question_right_after_a_report_is_answered_at_once(worker: Worker) -> None:
    worker.update(LIMIT=5)
    worker.get("LIMIT")
    store, clock = worker.state.store, Clock()
    reporter = HostReporter(worker.manager, store, app="shop", interval_s=10.0, clock=clock)
    worker.get("LIMIT")
    reporter.turn()
    assert [row.asks for row in rows(worker)] == [[]]
    base = worker.manager.snapshot
    worker.manager.follow(Notice(base.revision, base.epoch, base.mark, ("abc",)))
    reporter.turn()
    assert [row.asks for row in rows(worker)] == [["abc"]]
    reporter.leave()


def test_row_that_nobody_asks_for_leaves_the_store_to_those_who_read(worker: Worker) -> None:
    worker.update(LIMIT=5)
    worker.get("LIMIT")
    store, clock = worker.state.store, Clock()
    reporter = HostReporter(
        worker.manager, store, app="shop", interval_s=10.0, clock=clock, part=lambda: 0.9
    )
    worker.get("LIMIT")
    reporter.turn()
    first = rows(worker)[0].identity
    for asked in ((), ("abc",)):
        worker.update(LIMIT=6 if asked else 7)
        clock.advance(1.5)
        worker.get("LIMIT")
        base = worker.manager.snapshot
        worker.manager.follow(Notice(base.revision, base.epoch, base.mark, asked))
        reporter.turn()
        assert (rows(worker)[0].identity == first) is not bool(asked)
        clock.advance(2.0)
        reporter.turn()
        (row,) = rows(worker)
        assert row.identity == worker.manager.page.identity.hex()
        first = row.identity
    reporter.leave()


def test_process_that_is_asked_which_requests_run_does_not_wait_for_its_own_answer(
    worker: Worker, reporter: HostReporter
) -> None:
    worker.update(LIMIT=5)
    worker.manager.follow(Notice(worker.manager.snapshot.revision, "", "", ("a.drained",)))
    wait_until(lambda: not worker.manager.reading.is_asked or worker.manager.follow(None))
    reporter.turn()
    assert [row.asks for row in rows(worker)] == [["a.drained"]]


def test_host_is_known_before_its_first_process_reads_what_it_serves(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = worker.state.store, list[str]()
    for name in ("report", "read_since"):
        call = getattr(store, name)

        def noting(*args: Any, call: Any = call, name: str = name) -> Any:
            calls.append(name)
            return call(*args)

        monkeypatch.setattr(store, name, noting)
    worker.get("LIMIT")
    calls.clear()
    # Another host's change, of which this one hears nothing: it is not known.
    store.write({"LIMIT": "7"})
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    assert worker.get("LIMIT") == 7
    assert calls == ["report", "read_since"]
    assert [slot.known for slot in worker.manager.slots.living()] == [True]
    # Those that come later share its page.
    calls.clear()
    HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    assert worker.get("LIMIT") == 7
    assert "report" not in calls
    reporter.leave()
    assert rows(worker) == []


@pytest.mark.parametrize("error", [StoreUnavailable("down"), ZeroDivisionError()])
def test_host_whose_row_can_not_be_written_serves_and_tries_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = worker.state.store
    worker.get("LIMIT")
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    with monkeypatch.context() as patch:
        patch.setattr(store, "report", raising(error))
        store.write({"LIMIT": "7"})
        assert worker.get("LIMIT") == 7
        assert worker.manager.health.failing() == {}
    assert not worker.manager.slots.living()[0].known
    worker.manager.reading.ask()
    assert worker.get("LIMIT") == 7
    assert worker.manager.slots.living()[0].known
    assert len(rows(worker)) == 1
    reporter.leave()


def test_process_that_can_not_use_the_page_has_no_row_until_it_can(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store = worker.state.store
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    with monkeypatch.context() as patch:
        patch.setattr(worker.manager.page, "problem", "no page")
        patch.setattr(worker.manager.page, "follow_path", lambda: None)
        store.write({"LIMIT": "7"})
        assert worker.get("LIMIT") == 7
        reporter.turn()
        assert rows(worker) == []
    worker.manager.reading.ask()
    assert worker.get("LIMIT") == 7
    assert len(rows(worker)) == 1
    reporter.leave()


def test_row_that_one_took_away_as_another_came_is_written_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store, slots = worker.state.store, worker.manager.slots
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    reporter.turn()
    retract, came = store.retract, list[Any]()

    def late(report: Any) -> None:
        came.append(slots.take(worker.app.name, 2))
        retract(report)

    monkeypatch.setattr(store, "retract", late)
    reporter.leave()
    assert [row.identity for row in rows(worker)] == [""]
    came.clear()


def test_host_without_a_process_that_serves_says_nothing(worker: Worker) -> None:
    worker.update(LIMIT=5)
    reporter = HostReporter(worker.manager, worker.state.store, app="shop", interval_s=10.0)
    worker.manager.follow(Notice(1, "", "", ("abc",)))
    wait_until(lambda: not worker.manager.reading.is_asked or worker.manager.follow(None))
    reporter.turn()
    assert rows(worker) == []
    # One that only watches may be the ear of a host that serves.
    slot = worker.manager.slots.take("shop", 1)
    reporter.turn()
    assert (rows(worker)[0].asks, rows(worker)[0].processes) == (["abc"], 1)
    assert slot.is_there
    del slot
    reporter.leave()
    assert rows(worker) == []


def test_question_which_requests_run_is_answered_when_every_process_has(
    worker: Worker, reporter: HostReporter
) -> None:
    worker.update(LIMIT=5)
    reporter.turn()
    other = worker.manager.slots.take("blog", 0)
    worker.manager.follow(Notice(worker.manager.snapshot.revision, "", "", ("a.drained",)))
    reporter.turn()
    worker.manager.follow(None)
    reporter.turn()
    assert rows(worker)[0].asks == []
    other.answer(worker.manager.page.asked, 0)
    turn_until(reporter, lambda: rows(worker)[0].asks == ["a.drained"])
    assert rows(worker)[0].oldest == 0
    # An earlier answer is none to a later question.
    worker.manager.follow(Notice(worker.manager.snapshot.revision, "", "", ("b.drained",)))
    reporter.turn()
    worker.manager.follow(None)
    reporter.turn()
    assert rows(worker)[0].asks == ["a.drained"]
    other.answer(worker.manager.page.asked, 2**62)
    turn_until(reporter, lambda: rows(worker)[0].asks == ["a.drained", "b.drained"])
    assert rows(worker)[0].oldest == 2**62


def test_question_of_a_barrier_of_this_host_does_not_keep_its_answer_from_another(
    worker: Worker, reporter: HostReporter
) -> None:
    worker.update(LIMIT=5)
    reporter.turn()
    other = worker.manager.slots.take("blog", 0)
    revision = worker.manager.snapshot.revision
    worker.manager.follow(Notice(revision, "", "", ("a.drained",)))
    reporter.turn()
    worker.manager.page.ask()
    worker.manager.follow(None)
    other.answer(worker.manager.page.asked, 0)
    turn_until(reporter, lambda: rows(worker)[0].asks == ["a.drained"])
    # Nor does a page that was replaced, once the question is asked again.
    worker.manager.follow(Notice(revision, "", "", ("b.drained",)))
    reporter.turn()
    worker.manager.page.path.unlink()
    worker.manager.page.follow_path()
    worker.manager.refresh()
    worker.manager.follow(Notice(revision, "", "", ("c.drained",)))
    reporter.turn()
    worker.manager.follow(None)
    other.answer(worker.manager.page.asked, 0)
    turn_until(reporter, lambda: "b.drained" in rows(worker)[0].asks)


def test_hosts_of_one_name_and_path_are_told_apart_by_their_start_and_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, start = tmp_path / "page", tmp_path / "boot_id"
    found = [address_of(path)]
    # Another machine, and one that has none.
    monkeypatch.setattr("uwsgi_waffle.reporting.host_rows._BOOT_ID", start)
    found.append(address_of(path))
    start.write_text("7e1c\n")
    found.append(address_of(path))
    assert address_of(path) == found[-1]
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_dev=-7))
    found.append(address_of(path))
    assert {each.place for each in found} == {found[0].place}
    assert len({each.number for each in found}) == len(found)
    assert max(each.number for each in found) < 0
    assert address_of(path.with_name("other")).place != found[0].place


def test_row_is_removed_where_it_was_written_though_its_folder_is_gone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store, page = worker.state.store, worker.manager.page.path
    reporter = HostReporter(worker.manager, store, app="shop", interval_s=10.0)
    worker.get("LIMIT")
    reporter.turn()
    assert [each.pid for each in store.workers(KEPT_S)] == [address_of(page).number]
    monkeypatch.setattr(os, "stat", raising(FileNotFoundError(2, "gone")))
    assert address_of(page).number < 0
    reporter.leave()
    assert list(store.workers(KEPT_S)) == []


def ask(worker: Worker, *asks: str) -> None:
    """Have another host's question arrive, which names what this process has read."""
    base = worker.manager.snapshot
    worker.manager.follow(Notice(base.revision, base.epoch, base.mark, asks))


@pytest.mark.parametrize("what", ["a read is due", "the store fails", "no page"])
def test_question_is_answered_once_this_process_can_speak_for_its_host(
    worker: Worker, reporter: HostReporter, what: str
) -> None:
    worker.update(LIMIT=5)
    turn_until(reporter, lambda: rows(worker)[0].identity == worker.manager.identity.hex())
    ask(worker, "abc")
    manager = worker.manager
    manager.reading.failing = what == "the store fails"
    manager.page.problem = "can't be opened" if what == "no page" else ""
    if what == "a read is due":
        manager.reading.ask()
    reporter.turn()
    assert rows(worker)[0].asks == []
    manager.page.problem = ""
    manager.refresh()
    turn_until(reporter, lambda: rows(worker)[0].asks == ["abc"])


def written_by(reporter: HostReporter, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of all rows that a reporter writes from now on."""
    written: list[Any] = []
    report = reporter._store.report

    def noting(row: Any) -> None:
        report(row)
        written.append(row_of(row))

    monkeypatch.setattr(reporter._store, "report", noting)
    return written


def test_answer_is_written_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.update(LIMIT=5)
    worker.get("LIMIT")
    clock = Clock()
    reporter = HostReporter(
        worker.manager, worker.state.store, app="shop", interval_s=10.0, clock=clock
    )
    worker.get("LIMIT")
    reporter.turn()
    written = written_by(reporter, monkeypatch)
    ask(worker, "abc")
    for _ in range(10):
        clock.advance(1.0)
        reporter.turn()
    assert [row.asks for row in written] == [["abc"]]
    clock.advance(1.0)
    reporter.turn()
    assert len(written) == 2
    reporter.leave()


def test_row_that_was_dropped_at_first_makes_the_host_known_when_it_is_written(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store, exits = worker.state.store, list[Any]()
    monkeypatch.setattr("atexit.register", exits.append)
    reporter = HostReporter(worker.manager, store, app="shop", interval_s=10.0)
    with monkeypatch.context() as patch:
        patch.setattr(store, "report", raising(StoreUnavailable("down")))
        worker.get("LIMIT")
    assert not any(each.known for each in worker.manager.slots.living())
    reporter.turn()
    assert [each.known for each in worker.manager.slots.living()] == [True]
    ask(worker, "abc")
    reporter.turn()
    assert exits == [reporter.leave]
    reporter.leave()


def test_slots_are_read_once_in_a_second_while_nobody_asks(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    clock, slots, looks = Clock(), worker.manager.slots, list[float]()
    reporter = HostReporter(
        worker.manager, worker.state.store, app="shop", interval_s=10.0, clock=clock
    )
    worker.get("LIMIT")
    living = slots.living

    def noting() -> Any:
        looks.append(clock() - start)
        return living()

    monkeypatch.setattr(slots, "living", noting)
    start = clock()
    for _ in range(10):
        reporter.turn()
        clock.advance(0.25)
    assert looks == [0.0, 1.0, 2.0]
    reporter.leave()


def test_first_row_and_one_that_was_dropped_do_not_wait_for_their_moment(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.update(LIMIT=5)
    worker.get("LIMIT")
    store, clock = worker.state.store, Clock()
    reporter = HostReporter(
        worker.manager, store, app="shop", interval_s=10.0, clock=clock, part=lambda: 1.0
    )
    worker.get("LIMIT")
    written = written_by(reporter, monkeypatch)

    def turn(after_s: float) -> int:
        clock.advance(after_s)
        worker.get("LIMIT")
        reporter.turn()
        return len(written)

    assert turn(0.0) == 1
    worker.update(LIMIT=6)
    assert turn(1.0) == 1
    with monkeypatch.context() as patch:
        patch.setattr(store, "report", raising(StoreUnavailable("database is locked")))
        turn(2.0)
        # What is new since then goes with it.
        worker.update(LIMIT=7)
    assert turn(1.0) == 2
    # Each change waits again.
    worker.update(LIMIT=8)
    assert [turn(1.0), turn(1.0), turn(1.0)] == [2, 2, 3]
    worker.update(LIMIT=9)
    assert [turn(1.0), turn(1.0), turn(1.0)] == [3, 3, 4]
    reporter.leave()


def test_process_that_came_later_leaves_the_row_to_the_first_unless_it_is_asked(
    worker: Worker,
) -> None:
    # Takes the first slot.
    first = worker.manager.slots.take(worker.app.name, 1)
    worker.update(LIMIT=5)
    worker.get("LIMIT")
    store = worker.state.store
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    worker.get("LIMIT")
    reporter.turn()
    assert [row.identity for row in rows(worker)] == [""]
    ask(worker, "abc")
    reporter.turn()
    assert [row.asks for row in rows(worker)] == [["abc"]]
    assert first.is_there
    del first
    reporter.leave()


def test_process_of_a_known_host_shows_that_to_those_that_come_after_it(worker: Worker) -> None:
    worker.get("LIMIT")
    slots, name = worker.manager.slots, worker.app.name
    first = slots.take(name, 1)
    first.show(failing=False, uses_page=True, identity=bytes(8), revision=0, known=True)
    reporter = HostReporter(worker.manager, worker.state.store, app=name, interval_s=10.0)
    # It read before, and need not read again.
    assert not worker.manager.reading.is_asked
    del first
    assert [slot.known for slot in slots.living()] == [True]
    reporter.leave()


def test_process_that_leaves_last_removes_the_row_that_another_wrote(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store, slots, name = worker.state.store, worker.manager.slots, worker.app.name
    exits = list[Any]()
    monkeypatch.setattr("atexit.register", exits.append)
    of_another = HostReporter(worker.manager, store, app=name, interval_s=10.0)
    of_another.introduce()
    reporter = HostReporter(worker.manager, store, app=name, interval_s=10.0)
    assert exits == [of_another.leave, reporter.leave]
    first = slots.take(name, 1)
    assert first.is_there
    reporter.leave()
    assert len(rows(worker)) == 1, "another process of this host serves"
    del first
    reporter.leave()
    assert rows(worker) == []


def test_row_is_not_written_again_by_a_process_that_leaves_meanwhile(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    slots = worker.manager.slots
    reporter = HostReporter(
        worker.manager, worker.state.store, app=worker.app.name, interval_s=10.0
    )
    worker.get("LIMIT")
    reporter.turn()
    living = slots.living()
    ask(worker, "abc")

    def late() -> Any:
        monkeypatch.undo()
        reporter.leave()
        return living

    monkeypatch.setattr(slots, "living", late)
    reporter.turn()
    assert slots.living() == []
    assert rows(worker) == []


def test_process_that_leaves_last_removes_the_reports_of_those_that_were_killed(
    worker: Worker,
) -> None:
    worker.get("LIMIT")
    store, app, host = worker.state.store, worker.app.name, os.uname().nodename
    with children(2, lambda _: signal.pause()) as ((killed, _), (alone, _)):
        pass
    # For this one no row ever spoke.
    error = "page: it can't be written (since 2026-11-27 00:00:00 UTC)"
    kept = [
        a_report(app=app, host=host, pid=alone, last_error=error),
        a_report(app=app, host=host, pid=os.getpid()),
        a_report(app=app, host="web2", pid=killed),
        a_report(app="blog", host=host, pid=killed),
        a_host(3),
    ]
    for report in [*kept, a_report(app=app, host=host, pid=killed)]:
        store.report(report)
    reporter = HostReporter(worker.manager, store, app=app, interval_s=10.0)
    reporter.introduce()
    other = worker.manager.slots.take(app, 2)
    reporter.leave()
    assert other.is_there
    assert len(store.workers(KEPT_S)) == len(kept) + 2
    del other
    reporter.leave()
    assert {each[:3] for each in store.workers(KEPT_S)} == {each[:3] for each in kept}


def test_row_is_removed_though_a_store_of_the_users_lists_a_damaged_report(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    store = worker.state.store
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    reporter.introduce()
    assert len(rows(worker)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(store, "workers", lambda max_age_s: [None])
        reporter.leave()
    assert rows(worker) == []


def test_host_whose_slots_can_not_be_read_is_asked_again_whether_it_is_known(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.get("LIMIT")
    worker.manager.slot.know()
    store, name = worker.state.store, worker.app.name
    with monkeypatch.context() as patch:
        patch.setattr(worker.manager.slots, "living", raising(OSError(5, "not now")))
        reporter = HostReporter(worker.manager, store, app=name, interval_s=10.0)
    assert worker.manager.reading.is_asked
    worker.get("LIMIT")
    assert worker.manager.reading.introduce is None
    assert rows(worker) == []
    reporter.leave()


def test_watcher_does_not_wait_again_for_answers_that_did_not_come_at_once(
    worker: Worker, reporter: HostReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.update(LIMIT=5)
    reporter.turn()
    other = worker.manager.slots.take("blog", 0)
    ask(worker, "a.drained")
    clock = Clock()
    monkeypatch.setattr(host_rows, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    reporter.turn()
    assert sum(clock.slept) == pytest.approx(0.05, abs=0.002)
    clock.slept.clear()
    reporter.turn()
    assert clock.slept == []
    assert other.is_there


def test_number_of_a_row_fits_every_stores_column_and_is_that_of_no_process(
    tmp_path: Path,
) -> None:
    numbers = {address_of(tmp_path / f"{each}.page").number for each in range(200)}
    assert len(numbers) == 200
    assert -(2**31) <= min(numbers) <= max(numbers) < 0
    report = a_report(pid=0)
    assert not is_host(report)
    assert is_host(report._replace(pid=-1))


def test_reports_of_processes_come_without_rows_and_with_the_number_of_damaged_ones() -> None:
    process, host = a_report(pid=5), a_report(pid=-5)
    assert (processes([process, host]), processes([process]).damaged) == ([process], 0)
    found = Found([host, process])
    found.damaged = 2
    assert (processes(found), processes(found).damaged) == ([process], 2)


def test_ears_are_those_that_sound_rows_name() -> None:
    row = msgspec.json.encode(HostRow("", ears=[7, 8])).decode()
    report = a_report(host="web2", pid=-5, last_error=row)
    damaged = report._replace(host="web3", last_error="{nonsense")
    process = report._replace(pid=5)
    assert ears_of([report, damaged, process]) == {("web2", 7), ("web2", 8)}


def test_containers_with_names_of_their_own_that_share_a_page_have_a_row_each(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ["c1"]
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=named[0]))
    first, second = make_worker(), make_worker()
    store, reporters = first.state.store, list[HostReporter]()
    for worker, name in ((first, "c1"), (second, "c2")):
        named[:] = [name]
        worker.get("LIMIT")
        reporters.append(HostReporter(worker.manager, store, app="shop", interval_s=10.0))
        worker.get("LIMIT")
        reporters[-1].turn()
    hosts = {each.host: row_of(each) for each in store.workers(KEPT_S) if is_host(each)}
    assert set(hosts) == {"c1", "c2"}
    assert len({row.page for row in hosts.values() if row is not None}) == 1
    # Neither has to answer the other.
    for worker, name in ((first, "c1"), (second, "c2")):
        named[:] = [name]
        assert worker.state.wait(0, timeout_s=0).served == 2
    reporters[1].leave()
    assert [each.host for each in store.workers(KEPT_S)] == ["c1"]
    named[:] = ["c1"]
    reporters[0].leave()
    assert list(store.workers(KEPT_S)) == []


def test_process_hears_for_others_of_its_page_and_answers_for_them(
    worker: Worker, reporter: HostReporter
) -> None:
    other = worker.manager.slots.take("blog", 1)
    other.show(failing=True, uses_page=True, identity=bytes(8), revision=0)
    worker.get("LIMIT")
    reporter.turn()
    (row,) = rows(worker)
    assert (row.processes, [each[0] for each in row.behind]) == (2, [1])


def test_app_with_a_long_name_is_known_by_its_slot(worker: Worker) -> None:
    name = "ü" * 40
    worker.manager.serve_as(name, 1)
    worker.get("LIMIT")
    reporter = HostReporter(worker.manager, worker.state.store, app=name, interval_s=10.0)
    worker.get("LIMIT")
    reporter.turn()
    assert [row.processes for row in rows(worker)] == [1]
    reporter.leave()
    assert rows(worker) == []


def test_page_is_the_same_for_all_who_share_it_and_for_nobody_else(
    worker: Worker, make_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    own = page_of(worker.manager.page)
    assert page_of(make_worker().manager.page) == own != ""
    (tmp_path / "other").mkdir()
    assert page_of(make_worker(where=tmp_path / "other").manager.page) not in ("", own)


@pytest.mark.parametrize("what", ["page", "start"])
def test_page_that_can_not_be_told_from_others_is_not_named(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    worker.get("LIMIT")
    if what == "page":
        monkeypatch.setattr(worker.manager.page, "problem", "no page")
    else:
        monkeypatch.setattr("uwsgi_waffle.reporting.host_rows._BOOT_ID", tmp_path / "none")
    assert page_of(worker.manager.page) == ""
    # Then each row is about its own app and host, and nobody's else.
    other = worker.manager.slots.take("blog", 7)
    other.show(failing=True, uses_page=True, identity=bytes(8), revision=0)
    reporter = HostReporter(worker.manager, worker.state.store, app="shop", interval_s=10.0)
    worker.get("LIMIT")
    reporter.turn()
    if what == "start":
        (row,) = map(row_of, worker.state.store.workers(KEPT_S))
        assert row is not None
        assert (row.processes, row.unnamed, row.behind, row.page) == (1, 0, [], "")
    reporter.leave()


def test_hosts_that_are_silent_are_found_among_damaged_rows(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [
        a_host(0, processes=3, silent_s=-1.0),
        a_host(0, processes=2)._replace(host="web3"),
        a_host(0)._replace(host="web4", last_error="{nonsense", age_s=1e6),
        a_report(host="web5")._replace(age_s=1e6),
    ]
    assert [each.host for each in silent_hosts(worker.manager, reports)] == ["web2"]
    # No process of this host is known to serve: what was here before counts.
    here = address_of(worker.manager.page.path)
    old = a_host(0, silent_s=-1.0, place=here.place)._replace(host=os.uname().nodename, pid=-9)
    assert [each.pid for each in silent_hosts(worker.manager, [old])] == [0]
    worker.get("LIMIT")
    assert silent_hosts(worker.manager, [old]) == []
    monkeypatch.setattr(worker.manager.slots, "living", raising(OSError(5, "not now")))
    assert len(silent_hosts(worker.manager, [old])) == 1
