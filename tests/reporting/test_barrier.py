"""The barrier: everybody serves it, or it says who does not."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import Laggard, Laggards, StoreUnavailable
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.reporting.barrier import Barrier
from uwsgi_waffle.reporting.host_rows import KEPT_S, ROW, HostReporter, HostRow, is_host, row_of
from uwsgi_waffle.testing.forked import children
from uwsgi_waffle.testing.report_contract import a_report

from ..support.rig import Clock, MemoryStore, Worker, wait_until

MakeWorker = Callable[..., Worker]
HOST = os.uname().nodename


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    return make_worker()


def laggards(worker: Worker, revision: int, timeout_s: float = 0.0, **more: Any) -> list[Laggard]:
    with pytest.raises(Laggards) as raised:
        worker.waffle.wait(revision, timeout_s, **more)
    assert raised.value.revision == revision
    assert str(raised.value).startswith(f"revision {revision} ")
    return list(raised.value.laggards)


def test_change_that_waits_returns_its_revision(worker: Worker) -> None:
    assert worker.waffle.update({"LIMIT": 5}, wait_s=0) == 1
    assert worker.waffle.reset(["LIMIT"], wait_s=0) == 2
    assert worker.waffle.rollback(1, wait_s=0) == 3
    worker.waffle.wait()
    worker.waffle.wait(2, 0.0)


def test_process_that_serves_counts_and_one_that_only_changes_does_not(worker: Worker) -> None:
    revision = worker.waffle.update({"LIMIT": 5})
    assert worker.state.wait(revision, timeout_s=0).served == 0
    assert worker.get("LIMIT") == 5
    assert worker.state.wait(revision, timeout_s=0).served == 1
    with pytest.raises(Laggards, match="processes expected: 2, known: 1"):
        worker.state.wait(revision, timeout_s=0, expected=2)


def test_revision_that_nobody_has_is_waited_for(worker: Worker) -> None:
    worker.waffle.update({"LIMIT": 5})
    (found,) = laggards(worker, 2)
    assert (found.pid, found.why) == (os.getpid(), "the store has no such revision")
    timer = threading.Timer(0.05, worker.update, kwargs={"LIMIT": 6})
    timer.start()
    worker.waffle.wait(2, 10.0)
    timer.join()


def test_laggards_can_be_sent_to_another_process() -> None:
    error = Laggards(8, (Laggard("web1", 2, 17, 7, 1.5, "why"),), 3, 5)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.laggards, copy.served) == (str(error), error.laggards, 3)
    assert "revision 8 stands, but is served by 3 of 5" in str(error)
    # One that none serves need not be there.
    assert str(Laggards(8, error.laggards, 0)).startswith("revision 8 is served by 0 of 1\n")
    assert "web1 worker 2 (pid 17) at revision 7: why" in str(error)


def test_store_that_fails_is_named(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    revision = worker.waffle.update({"LIMIT": 5})
    store.workers = _raising  # type: ignore[method-assign]  # the reports alone fail
    (found,) = laggards(worker, revision)
    assert "which other hosts there are is not known: gone" in found.why


def _raising(max_age_s: float) -> list[Any]:
    from uwsgi_waffle import StoreUnavailable

    raise StoreUnavailable("gone")


def test_process_for_which_the_store_fails_is_a_laggard_until_it_is_dead(
    worker: Worker, tmp_path: Path
) -> None:
    slots = worker.manager.slots

    def fail(number: int) -> None:
        slot = slots.take("shop", 7)
        slot.show(failing=True, uses_page=True, identity=bytes(8), revision=0)
        signal.pause()

    revision = worker.waffle.update({"LIMIT": 5})
    with children(1, fail) as ((pid, _),):
        wait_until(lambda: any(slot.failing for slot in slots.living()), "the slot")
        (found,) = laggards(worker, revision)
        assert found == Laggard(HOST, 7, pid, 0, 0.0, "the store fails there")
        os.kill(pid, signal.SIGKILL)
        worker.waffle.wait(revision, 10.0)


def test_process_that_shows_what_it_serves_may_lack_page_and_store(worker: Worker) -> None:
    revision = worker.waffle.update({"LIMIT": 5})
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=False, uses_page=False, identity=bytes(8), revision=0)
    assert [each.why for each in laggards(worker, revision)] == ["it can't use the page"]
    identity = worker.manager.page.identity
    slot.show(failing=True, uses_page=False, identity=identity, revision=revision)
    worker.waffle.wait(revision, 0.0)


def test_request_that_began_before_is_waited_for_if_asked(make_worker: MakeWorker) -> None:
    worker = make_worker(WAFFLE_MULTIPROC=True)
    go, began = threading.Event(), threading.Event()

    @worker.app.get("/slow")
    def slow() -> str:
        began.set()
        assert go.wait(10)
        return "done"

    thread = threading.Thread(target=lambda: worker.app.test_client().get("/slow"))
    thread.start()
    try:
        assert began.wait(10)
        revision = worker.update(LIMIT=5)
        worker.waffle.wait(revision, 0.0)
        (found,) = laggards(worker, revision, drained=True)
        assert found.why == "a request runs that began before"
    finally:
        go.set()
        thread.join()
    worker.waffle.wait(revision, 10.0, drained=True)


def test_request_that_waits_itself_is_not_waited_for(worker: Worker) -> None:
    @worker.app.get("/save")
    def save() -> str:
        revision = worker.waffle.update({"LIMIT": 5})
        worker.waffle.wait(revision, 10.0, drained=True)
        return str(revision)

    assert worker.app.test_client().get("/save").text == "1"


def test_other_process_answers_which_requests_run(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker()
    worker.get("LIMIT")

    def serve(number: int) -> None:
        other = make_worker(WAFFLE_MULTIPROC=True)
        with other.app.test_request_context():
            # As a server does: the environment of the request holds its ticket.
            environ: dict[str, Any] = {}
            other.manager.admit(environ, "ticket")
            (tmp_path / "began").touch()
            wait_until(lambda: (tmp_path / "end").exists())
            environ.clear()
        signal.pause()

    with children(1, serve) as ((pid, _),):
        wait_until((tmp_path / "began").exists, "the request")
        revision = worker.update(LIMIT=5)
        wait_until(
            lambda: (
                [each.why for each in laggards(worker, revision, 0.2, drained=True)]
                == ["a request runs that began before"]
            ),
            "the answer",
        )
        (tmp_path / "end").touch()
        worker.waffle.wait(revision, 10.0, drained=True)
        os.kill(pid, signal.SIGSTOP)
        # It looks before it serves; but which requests run there nobody can say.
        later = worker.update(LIMIT=6)
        worker.waffle.wait(later, 10.0)
        assert "it does not say which requests run" in laggards(worker, later, drained=True)[0].why


def test_report_of_a_process_without_a_slot_has_to_show_the_revision(worker: Worker) -> None:
    worker.update(LIMIT=5)
    store = worker.state.store
    store.report(a_report(revision=0))
    # A dead one of this host.
    store.report(a_report(host=HOST, pid=_dead_pid(), revision=0))
    assert [(each.host, each.pid) for each in laggards(worker, 1)] == [("web1", 101)]
    store.report(a_report(revision=1))
    assert worker.state.wait(1, timeout_s=0).served == 1


def _dead_pid() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def a_row(row: HostRow, **more: Any) -> Any:
    import msgspec

    text = msgspec.json.encode(row).decode()
    return a_report(host="web2", pid=-5, state="HOST", last_error=text, **more)._replace(
        lifetime_s=KEPT_S
    )


def test_host_speaks_for_its_processes(worker: Worker) -> None:
    worker.update(LIMIT=5)
    store, identity = worker.state.store, worker.manager.page.identity.hex()
    store.report(a_report(host="web2", pid=102, revision=0))
    store.report(a_row(HostRow("00" * 8, processes=4)))
    assert [each.why for each in laggards(worker, 1)] == ["the host has not answered yet"]
    store.report(a_row(HostRow(identity, processes=4)))
    assert worker.state.wait(1, timeout_s=0).served == 4
    store.report(a_row(HostRow(identity, processes=4, behind=[(2, 9, 0, "the store fails there")])))
    (found,) = laggards(worker, 1)
    assert (found.host, found.worker, found.pid, found.why) == (
        *("web2", 2, 9),
        "the store fails there",
    )
    # One that its host can't speak for.
    store.report(a_row(HostRow(identity, processes=4)))
    store.report(a_report(host="web2", pid=102, revision=0, last_error="page: no (since now)"))
    assert [each.pid for each in laggards(worker, 1)] == [102]


def test_host_that_is_silent_is_a_laggard_until_it_is_removed(worker: Worker) -> None:
    worker.update(LIMIT=5)
    store, identity = worker.state.store, worker.manager.page.identity.hex()
    row = a_row(HostRow(identity, processes=4, silent_s=0.0))
    store.report(row)
    wait_until(lambda: store.workers(KEPT_S)[0].age_s > 0, "its silence")
    (found,) = laggards(worker, 1)
    assert "flask waffle workers --forget web2" in found.why
    store.retract(row)
    worker.waffle.wait(1, 0.0)


def test_damaged_row_is_a_laggard(worker: Worker) -> None:
    worker.update(LIMIT=5)
    worker.state.store.report(a_row(HostRow(""))._replace(last_error="{nonsense"))
    assert [each.why for each in laggards(worker, 1)] == ["its row is damaged"]


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
    assert (row.behind, row.silent_s) == ([], 30.0)
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

    def refuse(report: object) -> None:
        raise StoreUnavailable("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(store, "report", refuse)
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


def asked_at(worker: Worker, *, looks: int, each_s: float) -> list[float]:
    """Return when a barrier asked, from the first time on, that looked so often."""
    clock, asked = Clock(), list[float]()
    worker.manager.ask_hosts = lambda ask: asked.append(clock())  # type: ignore[method-assign]
    barrier = Barrier(worker.manager, worker.state.store, 1, clock=clock)
    for _ in range(looks):
        barrier.look()
        clock.advance(each_s)
    return [at - asked[0] for at in asked]


def test_hosts_that_do_not_answer_are_asked_less_and_less_often(worker: Worker) -> None:
    worker.update(LIMIT=5)
    worker.state.store.report(a_row(HostRow("other", processes=4)))
    asked = asked_at(worker, looks=100, each_s=0.1)
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert gaps[0] < 0.5
    assert 1.9 < gaps[-1] < 2.2


def test_thousand_hosts_have_the_time_to_answer_before_they_are_asked_again(
    worker: Worker,
) -> None:
    worker.update(LIMIT=5)
    for number in range(1000):
        worker.state.store.report(
            a_row(HostRow("other", processes=4))._replace(host=f"web{number}")
        )
    assert asked_at(worker, looks=6, each_s=0.5) == [0.0, 2.0]


def test_barrier_reads_the_store_and_nothing_else_when_all_is_well(worker: Worker) -> None:
    worker.update(LIMIT=5)
    worker.get("LIMIT")
    reads = worker.manager.reading.refreshes
    reach = Barrier(worker.manager, worker.state.store, 1).wait(0.0)
    assert (reach.served, reach.of, reach.laggards) == (1, 1, ())
    assert worker.manager.reading.refreshes == reads


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
    def fail(report: object) -> None:
        raise error

    store = worker.state.store
    worker.get("LIMIT")
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    with monkeypatch.context() as patch:
        patch.setattr(store, "report", fail)
        store.write({"LIMIT": "7"})
        assert worker.get("LIMIT") == 7
        assert worker.manager.health.failing() == {}
    assert not worker.manager.slots.living()[0].known
    worker.manager.reading.ask()
    assert worker.get("LIMIT") == 7
    assert worker.manager.slots.living()[0].known
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


def test_many_barriers_at_once_share_their_questions(worker: Worker) -> None:
    worker.update(LIMIT=5)
    other = worker.manager.slots.take("blog", 0)
    barriers = [worker.state.barrier(1, drained=True) for _ in range(5)]
    for barrier in barriers:
        assert [each.why for each in barrier.look().laggards]
    other.answer(worker.manager.page.asked, 2**62)
    for barrier in barriers:
        assert barrier.look().laggards == ()


def test_drained_host_has_to_answer_and_to_hold_nothing_older(worker: Worker) -> None:
    worker.update(LIMIT=5)
    store, identity = worker.state.store, worker.manager.page.identity.hex()
    barrier = worker.state.barrier(1, drained=True)
    store.report(a_row(HostRow(identity, processes=4, oldest=2**62)))
    assert [each.why for each in barrier.look().laggards] == ["the host has not answered yet"]
    ask = barrier._ask
    store.report(a_row(HostRow(identity, [ask], processes=4, oldest=0)))
    assert [each.why for each in barrier.look().laggards] == ["a request runs that began before"]
    store.report(a_row(HostRow(identity, [ask], processes=4, oldest=1)))
    assert barrier.look() == (4, ())
