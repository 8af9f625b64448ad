"""Whom the barrier names, with what, and how often it asks."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from uwsgi_waffle import Laggard, Laggards, StoreUnavailable
from uwsgi_waffle.process.pids import is_alive
from uwsgi_waffle.reporting import barrier as barrier_module
from uwsgi_waffle.reporting.barrier import Barrier, Reach
from uwsgi_waffle.reporting.host_rows import (
    KEPT_S,
    HostReporter,
    HostRow,
    address_of,
    page_of,
)
from uwsgi_waffle.testing.report_contract import a_report

from ..support.rig import Clock, Worker, raising

HOST = os.uname().nodename


@pytest.fixture
def worker(make_worker: Callable[..., Worker]) -> Worker:
    """Has changed something, and serves nothing yet."""
    worker = make_worker()
    worker.update(LIMIT=5)
    return worker


def look(worker: Worker, revision: int = 1, **more: Any) -> Reach:
    """Look once; without the ages of other hosts' reports, which are of the store's clock."""
    return ageless(Barrier(worker.manager, worker.state.store, revision, **more).look())


def ageless(found: Reach) -> Reach:
    assert all(0 <= each.age_s < 60 for each in found.laggards)
    return Reach(
        found.served,
        tuple(each._replace(age_s=0.0) if each.host == "web2" else each for each in found.laggards),
    )


def a_row(worker: Worker, **more: Any) -> Any:
    row = HostRow(**{"identity": worker.manager.identity.hex(), "processes": 4, **more})
    text = msgspec.json.encode(row).decode()
    report = a_report(host="web2", worker_id=0, pid=-5, state="HOST", last_error=text, revision=1)
    return report._replace(lifetime_s=KEPT_S)


def test_report_that_does_not_show_it_names_its_process(worker: Worker) -> None:
    worker.state.store.report(a_report(host="web2", worker_id=2, pid=102, revision=0))
    why = "its report does not show it yet"
    assert look(worker) == Reach(0, (Laggard("web2", 2, 102, 0, 0.0, why),))
    worker.state.store.report(a_report(host="web2", worker_id=2, pid=102, revision=1))
    assert look(worker) == Reach(1, ())
    interrupted = a_report(host="web2", worker_id=2, pid=102, revision=1, state="INTERRUPTED")
    worker.state.store.report(interrupted._replace(last_error="store: down"))
    assert look(worker) == Reach(0, (Laggard("web2", 2, 102, 1, 0.0, "store: down"),))


def test_process_that_has_a_slot_or_asks_itself_counts_once(worker: Worker) -> None:
    store = worker.state.store
    store.report(a_report(host=HOST, pid=os.getpid(), revision=0))
    assert look(worker) == Reach(0, ())
    worker.get("LIMIT")
    assert look(worker) == Reach(1, ())
    # One of this host that has none, and is alive.
    store.report(a_report(host=HOST, worker_id=2, pid=os.getppid(), revision=1))
    assert look(worker) == Reach(2, ())
    store.report(a_report(host=HOST, worker_id=2, pid=os.getppid(), revision=0))
    (found,) = look(worker).laggards
    assert (found.host, found.pid) == (HOST, os.getppid())


@pytest.mark.parametrize("host", [HOST, "web2"])
def test_process_without_a_slot_does_not_say_which_requests_run(worker: Worker, host: str) -> None:
    store, report = worker.state.store, a_report(host=host, pid=os.getppid(), revision=1)
    store.report(report)
    assert look(worker).served == 1
    (found,) = look(worker, drained=True).laggards
    assert found[:3] == (host, report.worker_id, os.getppid())
    assert found.why == "it does not say which requests run: no slot of it was found"
    error = "slot: full (since now)"
    store.report(report._replace(last_error=error))
    (found,) = look(worker, drained=True).laggards
    assert found.why == f"it does not say which requests run: {error}"


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        ("page: gone (since now)", True),
        ("slot: gone (since now)", True),
        ("page: gone (from then to now)", False),
        ("store: down (since now)", False),
        (None, False),
    ],
)
@pytest.mark.parametrize("host", [HOST, "web2"])
def test_host_speaks_for_its_process_unless_that_says_that_it_can_not(
    worker: Worker, host: str, error: str | None, alone: bool
) -> None:
    worker.state.store.report(a_row(worker)._replace(host=host))
    # Also if another host has the name of this one, where no process has that pid.
    worker.state.store.report(a_report(host=host, pid=2**22 + 1, revision=1, last_error=error))
    assert look(worker) == Reach(5 if alone else 4, ())


def test_host_that_is_silent_or_has_not_answered_is_named_without_a_pid(worker: Worker) -> None:
    worker.state.store.report(a_row(worker, identity="00" * 8))
    why = "the host has not answered yet"
    assert look(worker) == Reach(0, (Laggard("web2", 0, 0, 1, 0.0, why, 4),))
    assert look(worker).of == 4


def test_host_that_has_said_only_that_it_is_there_counts_as_one_process(worker: Worker) -> None:
    worker.state.store.report(a_row(worker, identity="", processes=0))
    assert look(worker).of == 1


def test_host_counts_its_processes_but_those_that_are_behind(worker: Worker) -> None:
    behind = [(2, 9, 0, "the store fails there"), (3, 8, 0, "it can't use the page")]
    worker.state.store.report(a_row(worker, behind=behind))
    assert look(worker) == Reach(
        2,
        (
            Laggard("web2", 2, 9, 0, 0.0, "the store fails there"),
            Laggard("web2", 3, 8, 0, 0.0, "it can't use the page"),
        ),
    )
    assert look(worker).of == 4
    # A damaged one, which is behind more than there are.
    worker.state.store.report(a_row(worker, processes=1, behind=behind))
    assert look(worker).served == 0


def test_host_counts_also_those_that_are_behind_and_that_it_does_not_name(worker: Worker) -> None:
    worker.get("LIMIT")
    store = worker.state.store
    reporter = HostReporter(worker.manager, store, app=worker.app.name, interval_s=10.0)
    held = [worker.manager.slots.take(worker.app.name, number) for number in range(2, 7)]
    for index in range(len(held)):
        held[index].show(failing=True, uses_page=True, identity=bytes(8), revision=0)
    worker.get("LIMIT")
    reporter.turn()
    (row,) = store.workers(KEPT_S)
    assert row.last_error is not None
    text = row.last_error.replace(page_of(worker.manager.page), "another")
    store.report(row._replace(host="web2", last_error=text))
    held.clear()
    # As another host sees it: this one, the three that are named, and two more.
    reach = look(worker)
    assert (reach.served, reach.of) == (2, 7)
    assert [each.worker for each in reach.laggards] == [2, 3, 4, 0, 0]
    assert reach.laggards[-1].why == "its host names others that do not serve it"
    reporter.leave()


def test_hosts_are_asked_again_a_quarter_of_a_second_later(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(worker.manager, "ask_hosts", asked.append)
    clock = Clock()
    barrier = Barrier(worker.manager, worker.state.store, 1, clock=clock)
    barrier.look()
    # There is no other host.
    assert asked == []
    worker.state.store.report(a_row(worker, identity="00" * 8))
    for seconds, times in [(0.0, 1), (0.2, 1), (0.05, 2), (0.0, 2)]:
        clock.advance(seconds)
        barrier.look()
        assert len(asked) == times
    assert len(set(asked)) == 1
    worker.state.store.report(a_row(worker))
    clock.advance(1.0)
    assert barrier.look() == Reach(4, ())
    assert len(asked) == 2
    drained = Barrier(worker.manager, worker.state.store, 1, drained=True)
    drained.look()
    assert asked[2].endswith(".drained")


def test_who_waits_looks_ever_more_rarely_until_the_time_is_over(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(barrier_module, "time", SimpleNamespace(sleep=clock.sleep))
    barrier = Barrier(worker.manager, worker.state.store, 2, clock=clock)
    with pytest.raises(Laggards):
        barrier.wait(1.0)
    assert sum(clock.slept) == pytest.approx(1.0)
    assert clock.slept[:3] == pytest.approx([0.005, 0.0075, 0.01125])
    assert max(clock.slept) == pytest.approx(0.1)
    assert clock.slept[-1] < 0.1
    with pytest.raises(Laggards) as raised:
        Barrier(worker.manager, worker.state.store, 1, clock=clock).wait(0.0, expected=1)
    assert raised.value.args


def test_no_process_need_serve_unless_some_are_expected(worker: Worker) -> None:
    assert Barrier(worker.manager, worker.state.store, 1).wait(0.0) == Reach(0, ())


def test_what_can_not_be_known_is_said(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, store = worker.manager, worker.state.store
    with monkeypatch.context() as patch:
        patch.setattr(manager.slots, "living", raising(OSError(5, "a broken disk")))
        why = f"{manager.slots.path} can't be read (a broken disk)"
        assert look(worker) == Reach(0, (Laggard(HOST, 0, 0, 0, 0.0, why, 0),))
    worker.get("LIMIT")
    with monkeypatch.context() as patch:
        patch.setattr(store, "workers", raising(StoreUnavailable("down")))
        why = "which other hosts there are is not known: down"
        assert look(worker) == Reach(1, (Laggard("the store", 0, 0, 0, 0.0, why, 0),))
    slot = manager.slots.take("shop", 7)
    slot.show(failing=False, uses_page=True, identity=manager.identity, revision=1)
    with monkeypatch.context() as patch:
        patch.setattr(manager.page, "ask", raising(OSError(5, "a broken disk")))
        reach = look(worker, drained=True)
    assert (reach.served, [each.worker for each in reach.laggards]) == (0, [0, 7])
    assert all("the page can't be written" in each.why for each in reach.laggards)


def test_what_hides_how_many_there_are_is_no_process_and_has_no_revision() -> None:
    why = "which other hosts there are is not known: down"
    error = Laggards(8, (Laggard("the store", 0, 0, 0, 0.0, why, 0),), 3, 5)
    assert str(error) == (
        f"revision 8 stands, but is served by 3 of an unknown number\nthe store: {why}"
    )
    assert (error.known, error.all_known) == (3, False)
    assert pickle.loads(pickle.dumps(error)).all_known is False
    known = Laggards(8, (Laggard("web1", 2, 17, 7, 1.5, "why"),), 3, 5)
    assert (known.known, known.all_known) == (4, True)


@pytest.mark.parametrize("drained", [False, True])
def test_channel_that_stands_still_is_waited_for_once_in_a_look(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, *, drained: bool
) -> None:
    clock = Clock()
    asked: list[str] = []

    def ask(question: str) -> None:
        asked.append(question)
        clock.advance(1.0)

    monkeypatch.setattr(worker.manager, "ask_hosts", ask)
    worker.state.store.report(a_row(worker, identity="00" * 8))
    # It does not say which requests run.
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=False, uses_page=True, identity=worker.manager.identity, revision=1)
    barrier = Barrier(worker.manager, worker.state.store, 1, drained=drained, clock=clock)
    for times in (1, 1, 2):
        barrier.look()
        assert len(asked) == times
        clock.advance(0.2)


def test_who_can_not_speak_for_its_host_names_itself(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def why() -> str:
        reach = look(worker)
        (found,) = reach.laggards
        assert (reach.served, *found[:5]) == (0, HOST, 0, os.getpid(), 1, 0.0)
        return str(found.why)

    with monkeypatch.context() as patch:
        patch.setattr(worker.manager, "is_current", lambda: False)
        assert why() == "other changes are under way"
    with monkeypatch.context() as patch:
        patch.setattr(worker.manager.page, "problem", "no page")
        assert why() == "no page"
    assert look(worker) == Reach(0, ())


def test_process_that_is_behind_is_named_once_though_it_is_busy(worker: Worker) -> None:
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=True, uses_page=True, identity=bytes(8), revision=0)
    (found,) = look(worker, drained=True).laggards
    assert found.why == "the store fails there"
    slot.show(failing=False, uses_page=True, identity=worker.manager.identity, revision=1)
    (found,) = look(worker, drained=True).laggards
    assert found[:5] == (HOST, 7, os.getpid(), 1, 0.0)
    assert found.why.startswith("it does not say which requests run")


def test_process_that_is_behind_does_not_count_among_those_that_serve(worker: Worker) -> None:
    worker.get("LIMIT")
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=True, uses_page=True, identity=bytes(8), revision=0)
    reach = look(worker)
    assert (reach.served, len(reach.laggards), reach.of) == (1, 1, 2)


def test_process_that_was_killed_is_dead_before_its_parent_looks() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    try:
        # Without WNOHANG it returns once the child has ended, and leaves it as it is.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.kill(pid, 0)
        assert not is_alive(pid)
    finally:
        os.waitpid(pid, 0)
    assert not is_alive(pid)


def test_process_of_another_user_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_alive(os.getpid())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", raising(FileNotFoundError(2, "no /proc")))
        assert is_alive(os.getpid())
    monkeypatch.setattr(os, "kill", raising(PermissionError(1, "not yours")))
    assert is_alive(1)


def test_who_can_not_read_says_why(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.manager, "refresh", raising(StoreUnavailable("down")))
    assert [each.why for each in look(worker, 2).laggards] == ["down"]


def test_host_that_can_not_be_counted_counts_for_nobody(worker: Worker) -> None:
    store = worker.state.store
    store.report(a_row(worker)._replace(last_error="{nonsense"))
    assert look(worker) == Reach(0, (Laggard("web2", 0, 0, 1, 0.0, "its row is damaged"),))
    barrier = Barrier(worker.manager, store, 1, drained=True)
    store.report(a_row(worker, asks=[barrier._ask], oldest=0))
    why = "a request runs that began before"
    assert ageless(barrier.look()) == Reach(0, (Laggard("web2", 0, 0, 1, 0.0, why, 4),))


@pytest.mark.parametrize(("age_s", "is_silent"), [(30.0, False), (30.5, True)])
def test_host_is_silent_after_the_time_that_it_names(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, age_s: float, is_silent: bool
) -> None:
    row = a_row(worker, silent_s=30.0)._replace(age_s=age_s)
    monkeypatch.setattr(worker.state.store, "workers", lambda max_age_s: [row])
    reach = look(worker)
    assert reach.served == (0 if is_silent else 4)
    assert ["silent for 30 s" in each.why for each in reach.laggards] == [True] * is_silent


def test_process_of_another_host_with_the_same_pid_counts(worker: Worker) -> None:
    worker.state.store.report(a_report(host="web2", pid=os.getpid(), revision=1))
    assert look(worker) == Reach(1, ())


def test_row_of_the_own_host_counts_for_nothing(worker: Worker) -> None:
    worker.get("LIMIT")
    reporter = HostReporter(worker.manager, worker.state.store, app="shop", interval_s=10.0)
    reporter.turn()
    assert look(worker) == Reach(1, ())
    reporter.leave()


@pytest.mark.parametrize("serves", [True, False])
@pytest.mark.parametrize("same_place", [True, False])
def test_silent_host_of_the_own_name_and_path_is_one_that_was_here_before(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, serves: bool, same_place: bool
) -> None:
    if serves:
        worker.get("LIMIT")
    place = address_of(worker.manager.page.path).place if same_place else "other"
    row = a_row(worker, silent_s=30.0, place=place)._replace(host=HOST, age_s=1.0)
    monkeypatch.setattr(worker.state.store, "workers", lambda max_age_s: [row])
    assert look(worker) == Reach(4 + serves, ())
    row = row._replace(age_s=31.0)
    whys = [each.why[:18] for each in look(worker).laggards]
    assert whys == ([] if serves and same_place else ["the host is silent"])


def test_silent_host_is_not_waited_for_while_another_of_its_name_and_path_reports(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = a_row(worker, silent_s=30.0, place="a")._replace(age_s=31.0, pid=-6)
    rows = [old, a_row(worker, silent_s=30.0, place="a")._replace(age_s=1.0)]
    monkeypatch.setattr(worker.state.store, "workers", lambda max_age_s: rows)
    assert look(worker) == Reach(4, ())
    rows[1] = a_row(worker, silent_s=30.0, place="b")._replace(age_s=1.0)
    assert [each.why[:18] for each in look(worker).laggards] == ["the host is silent"]


def test_process_that_was_drained_once_stays_so(worker: Worker) -> None:
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=False, uses_page=True, identity=worker.manager.identity, revision=1)
    barrier = Barrier(worker.manager, worker.state.store, 1, drained=True)
    assert len(barrier.look().laggards) == 1
    # It holds the revision itself, which is enough.
    slot.answer(worker.manager.page.asked, 1)
    assert barrier.look() == Reach(1, ())
    # Another's question, asked later, which finds a request that began later.
    slot.answer(b"another!", 0)
    assert barrier.look() == Reach(1, ())


@pytest.mark.parametrize("drained", [False, True])
def test_hosts_are_asked_for_their_requests_again_and_again_and_else_ever_more_rarely(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, drained: bool
) -> None:
    asked: list[float] = []
    clock = Clock()
    monkeypatch.setattr(worker.manager, "ask_hosts", lambda ask: asked.append(clock()))
    worker.state.store.report(a_row(worker, identity="00" * 8))
    barrier = Barrier(worker.manager, worker.state.store, 1, drained=drained, clock=clock)
    ends_at = clock() + 6.0
    while clock() < ends_at:
        barrier.look()
        clock.advance(0.0625)
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert gaps[:5] == ([0.25] * 5 if drained else [0.25, 0.5, 1.0, 2.0, 2.0])


def test_ear_of_this_host_is_asked_for_requests_that_run_here(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(worker.manager, "ask_hosts", asked.append)
    look(worker, drained=True)
    assert asked == [], "nobody has to answer"
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=False, uses_page=True, identity=worker.manager.identity, revision=1)
    look(worker)
    assert asked == []
    look(worker, drained=True)
    assert len(asked) == 1


def test_one_answer_speaks_for_all_who_share_a_page(worker: Worker) -> None:
    """Those of another app, or of a container with a name of its own: one ear hears for them."""
    store = worker.state.store
    barrier = Barrier(worker.manager, store, 1, drained=True)
    late = a_row(worker, identity="00" * 8, processes=9, page="a")._replace(host="c2", revision=0)
    store.report(late)
    store.report(a_row(worker, page="a")._replace(app="blog"))
    store.report(a_row(worker, page="b")._replace(host="c3"))
    assert [each.host for each in look(worker).laggards] == []
    assert sorted(each.processes for each in barrier.look().laggards) in ([4, 4], [4, 9])
    asks = [barrier._ask]
    store.report(a_row(worker, page="a", asks=asks, oldest=0)._replace(app="blog"))
    assert len(barrier.look().laggards) == 2
    store.report(a_row(worker, page="a", asks=asks, oldest=1)._replace(app="blog"))
    assert [each.host for each in barrier.look().laggards] == ["c3"]
    store.report(a_row(worker, page="b", asks=asks, oldest=1)._replace(host="c3"))
    assert barrier.look() == Reach(8, ())


def test_silent_row_counts_for_nothing_while_another_of_its_page_reports(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = a_row(worker, page="a")._replace(host="c2", age_s=31.0)
    rows = [old, a_row(worker, page="a")._replace(age_s=1.0)]
    monkeypatch.setattr(worker.state.store, "workers", lambda max_age_s: rows)
    assert look(worker) == Reach(4, ())
    rows[1] = a_row(worker, page="b")._replace(age_s=1.0)
    assert [each.why[:18] for each in look(worker).laggards] == ["the host is silent"]


def test_who_shares_the_own_page_is_known_by_its_slot(worker: Worker) -> None:
    worker.get("LIMIT")
    store, page = worker.state.store, page_of(worker.manager.page)
    # A container that was killed just now.
    store.report(a_row(worker, identity="00" * 8, page=page))
    store.report(a_report(host="web2", pid=102, revision=0))
    assert look(worker) == Reach(1, ())
    # One that has no slot.
    store.report(a_report(host="web2", pid=102, revision=0, last_error="slot: no (since now)"))
    assert [each.pid for each in look(worker).laggards] == [102]


def test_host_that_went_back_with_its_store_is_named(worker: Worker) -> None:
    """A backup was restored meanwhile, and the process that waits has not looked since."""
    barrier = Barrier(worker.manager, worker.state.store, 1)
    row = a_row(worker, identity="00" * 8, asks=[barrier._ask])
    worker.state.store.report(row._replace(revision=0))
    (found,) = barrier.look().laggards
    assert (found.revision, found.why) == (0, "it reads an older revision from the store")
    worker.state.store.report(row)
    assert barrier.look() == Reach(4, ())
