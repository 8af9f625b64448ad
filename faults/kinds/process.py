"""Processes that are killed or stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from ..app import INSTANTS
from ..bounds import FAR_S
from ..injection import Steps, fault
from ..load import Target
from ..world import World

RANDOM_KILLS = 2
#: about as long as a request that changes something, with a machine that is busy
CHANGE_S = 0.015


@fault(short=True)
def worker_killed(world: World) -> Steps:
    """Kill -9 three workers, one after the other."""
    for _ in range(3):
        _kill_and_await_another(world)
    yield


def _kill_and_await_another(world: World) -> None:
    target = world.victim()
    pid = world.kill_worker(target)
    world.until("replaced", lambda: world.pid(target) != pid)


# Its own requests wait for it, and so does a change while it holds the store's write lock.
@fault(explains=("slow", "refused"))
def worker_stopped(world: World) -> Steps:
    """SIGSTOP a worker, SIGCONT it later."""
    pid = world.pid(world.victim())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault(hold_s=0.5, stores=("sqlite", "postgres", "notify"), short=True)
def writer_killed(world: World) -> Steps:
    """Kill -9 a writer at each step of its change, then others at random instants.

    No other writer covers for it. What it committed is to be served from then on by everybody,
    whether anybody was told of it or not.
    """
    with world.load.no_writers():
        for at in INSTANTS:
            before = world.look()
            world.one.let_next_writer_die(at)
            _kill_writer(world, lambda target: _lives_on(world, target))
            committed = world.look()
            if committed != before + (at != "opened"):
                world.problem(f"a writer that died when it had {at}: {before} -> {committed}")
            _await_revision(world, committed)
        for _ in range(RANDOM_KILLS):
            _kill_writer(world, lambda target: _kill_at_random(world, target))
            _await_revision(world, world.look())
    yield


def _kill_writer(world: World, kill: Callable[[Target], None]) -> None:
    target = world.victim()
    pid = world.pid(target)
    with world.excused("connection", ports=[target.port]):
        kill(target)
        world.until("another worker", lambda: world.pid(target) != pid)


def _lives_on(world: World, target: Target) -> None:
    entry = world.load.write(target)
    if entry.outcome != "unknown":
        world.problem(f"the writer lived on: {entry}")


def _kill_at_random(world: World, target: Target) -> None:
    pid = world.pid(target)
    writer = threading.Thread(target=world.load.write, args=(target,))
    writer.start()
    time.sleep(world.random.uniform(0.0, CHANGE_S))
    world.kill_worker(target, pid)
    writer.join()


def _await_revision(world: World, committed: int) -> None:
    world.await_reads(
        "every worker at a change of a writer that died",
        lambda read: read.revision >= committed,
        limit_s=FAR_S,
    )


@fault(explains=("connection",))
def uwsgi_killed(world: World) -> Steps:
    """Kill -9 the master, a moment later all workers, and start it again."""
    world.one.uwsgi.send(signal.SIGKILL)
    yield
    world.one.uwsgi.kill()
    world.one.uwsgi.start()
