"""Objects of one process are never used by another."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from uwsgi_waffle import forking
from uwsgi_waffle.forking import PerProcess, Undivided, undivided

from .support.rig import Clock, wait_until


def test_same_process_gets_the_same_object() -> None:
    things = PerProcess(object)
    assert things.peek() is None
    assert things.get() is things.get() is things.peek()


def test_another_pid_gets_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    things = PerProcess(object)
    mine = things.get()
    monkeypatch.setattr(os, "getpid", lambda: -7)
    assert things.peek() is None
    assert things.get() is not mine
    monkeypatch.undo()
    assert things.get() is mine


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_forked_child_makes_its_own_also_when_a_lock_was_held() -> None:
    locks = PerProcess(threading.Lock)
    locks.get().acquire()
    child = os.fork()
    if child == 0:
        free = locks.peek() is None and locks.get().acquire(timeout=1)
        os._exit(0 if free else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert locks.get().locked()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_child_may_look_at_the_object_of_its_nearest_ancestor() -> None:
    things = PerProcess(os.getpid)
    assert things.inherited() is None
    things.get()

    def is_inherited(ancestor: int) -> bool:
        return things.inherited() == ancestor and things.get() == os.getpid() != ancestor

    parent = os.getpid()
    child = os.fork()
    if child == 0:
        found, middle = is_inherited(parent), os.getpid()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(not is_inherited(middle))
        found = found and os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
        os._exit(not found)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_all_threads_get_one_object() -> None:
    barrier = threading.Barrier(8)
    found: list[object] = []

    def make() -> object:
        barrier.wait(5)  # all of them are making one now
        return object()

    things = PerProcess(make)
    threads = [threading.Thread(target=lambda: found.append(things.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(thing) for thing in found}) == 1


@pytest.fixture
def work() -> Iterator[Undivided]:
    """Work of which no real fork knows."""
    work = Undivided()
    yield work
    assert not work._forking


def test_fork_waits_until_other_threads_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "LONGEST_S", 30.0)
    begun = threading.Event()
    done: list[bool] = []

    def run() -> None:
        with undivided:
            begun.set()
            wait_until(lambda: undivided._forking, "a fork")
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(not (done and not undivided.was_cut))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()


def test_work_that_would_begin_during_a_fork_waits_for_it(
    work: Undivided, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "LONGEST_S", 30.0)
    began: list[str] = []

    def run() -> None:
        with work:
            began.append("after the fork" if not work._forking else "during the fork")

    work.before_fork()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(0.05)
    work.after_fork()
    thread.join()
    assert began == ["after the fork"]


def test_fork_waits_no_longer_than_its_bound_and_the_child_knows_that(
    work: Undivided, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "LONGEST_S", 0.01)
    begun, end = threading.Event(), threading.Event()

    def run() -> None:
        with work:
            begun.set()
            end.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    work.before_fork()
    work.after_fork()
    # As in the child.
    work.begin_anew()
    assert work.was_cut
    end.set()
    thread.join()
    # Which has no such thread: the next fork is not kept from anything.
    work.before_fork()
    work.begin_anew()
    assert not work.was_cut


def test_work_that_waits_for_a_fork_goes_on_after_the_bound(
    work: Undivided, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "LONGEST_S", 0.01)
    began: list[bool] = []

    def run() -> None:
        with work:
            began.append(True)

    work.before_fork()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    work.after_fork()
    assert began == [True]


def test_thread_that_forks_within_its_own_work_waits_for_nobody(work: Undivided) -> None:
    with work:
        work.before_fork()
        with work:
            work.begin_anew()
            assert not work.was_cut
        assert work._working == [threading.get_ident()]
    assert not work._working


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(
        forking, "time", SimpleNamespace(monotonic=clock, sleep=lambda s: clock.sleep(s))
    )
    return clock


def test_work_that_began_before_a_fork_goes_on_within_itself(work: Undivided, clock: Clock) -> None:
    with work:
        work._forking.append(-1)  # another thread's
        with work:
            assert clock.slept == []
        work._forking.clear()


def test_thread_that_forks_does_its_own_work_meanwhile(work: Undivided, clock: Clock) -> None:
    work.before_fork()
    with work:
        assert clock.slept == []
    work.after_fork()


def test_work_that_waits_for_a_fork_keeps_no_fork_waiting(
    work: Undivided, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def sleep(seconds: float) -> None:
        seen.append(list(work._working))
        clock.advance(seconds)

    monkeypatch.setattr(clock, "sleep", sleep)
    work._forking.append(-1)  # another thread's
    with work:
        assert work._working == [threading.get_ident()]
    work._forking.clear()
    assert len(seen) > 100
    assert not any(seen)


def test_child_of_a_fork_that_called_no_handler_begins_anew(
    work: Undivided, monkeypatch: pytest.MonkeyPatch
) -> None:
    work._working.append(-1)  # another thread's
    found = [work.was_cut]
    monkeypatch.setattr(os, "getpid", lambda: -7)
    found.append(work.was_cut)
    assert found == [False, True]
    with work:
        assert work._working == [threading.get_ident()]
    assert work.was_cut
    # Also where it works before it asks.
    work._working.append(-1)
    monkeypatch.setattr(os, "getpid", lambda: -8)
    with work:
        assert work._working == [threading.get_ident()]
