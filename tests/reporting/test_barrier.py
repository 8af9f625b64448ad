"""The barrier: everybody serves it, or it says who does not."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import Laggard, Laggards, StoreUnavailable
from uwsgi_waffle.reporting.barrier import Barrier
from uwsgi_waffle.reporting.host_rows import KEPT_S, HostRow
from uwsgi_waffle.testing.forked import children
from uwsgi_waffle.testing.report_contract import a_report

from ..support.rig import Clock, MemoryStore, Worker, raising, wait_until

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


def test_change_that_no_process_serves_is_said_to_stand(worker: Worker) -> None:
    slot = worker.manager.slots.take("shop", 7)
    slot.show(failing=True, uses_page=True, identity=bytes(8), revision=0)
    with pytest.raises(Laggards, match=r"^revision 1 stands, but is served by 0 of 1\n") as raised:
        worker.waffle.update({"LIMIT": 5}, wait_s=0)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (copy.stands, str(copy)) == (True, str(raised.value))
    # This one may not have been made.
    with pytest.raises(
        Laggards, match=r"^revision 2 is served by 0 of an unknown number\n"
    ) as raised:
        worker.waffle.wait(2, 0)
    assert not raised.value.stands


def test_store_that_fails_is_named(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    revision = worker.waffle.update({"LIMIT": 5})
    gone = raising(StoreUnavailable("gone"))
    store.workers = gone  # type: ignore[method-assign]  # the reports alone fail
    (found,) = laggards(worker, revision)
    assert "which other hosts there are is not known: gone" in found.why


def _raising(max_age_s: float) -> list[Any]:

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


def test_request_that_waited_in_vain_is_over_though_its_errors_are_kept(worker: Worker) -> None:
    kept: list[Exception] = []

    def gone(max_age_s: float) -> list[Any]:
        kept.append(StoreUnavailable("gone"))
        raise kept[-1]

    @worker.app.get("/save")
    def save() -> str:
        try:
            worker.waffle.wait(timeout_s=0.0, drained=True)
        except Laggards as exc:
            kept.append(exc)
        return "saved"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.state.store, "workers", gone)
        response = worker.app.test_client().get("/save")
        # As a server does.
        response.close()
    assert (response.text, len(kept)) == ("saved", 2)
    revision = worker.update(LIMIT=5)
    worker.waffle.wait(revision, 0.0, drained=True)


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
