"""Objects of one process are never used by another."""

from __future__ import annotations

import os
import threading

import pytest

from uwsgi_waffle.forking import PerProcess


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
