"""Processes that are killed or stopped."""

from __future__ import annotations

import os
import signal

from ..bounds import FAR_S
from ..injection import Steps, fault
from ..world import World


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


# One that holds a lock meanwhile keeps the others from writing and from announcing; what it
# had to announce itself, and its own requests, wait for it.
@fault(stale="resync", explains=("slow", "refused"))
def worker_stopped(world: World) -> Steps:
    """SIGSTOP a worker, SIGCONT it later."""
    pid = world.pid(world.victim())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault(hold_s=0.5, short=True)
def writer_killed(world: World) -> Steps:
    """Kill -9 a worker between the commit of a change and its announcement.

    No other writer covers for it: whoever sees its change, learns of it by a resync.
    """
    with world.load.no_writers():
        before = world.database.revision()
        target = world.victim()
        world.one.let_next_writer_die()
        with world.excused("connection", ports=[target.port]):
            entry = world.load.write(target)
        if entry.outcome != "unknown":
            world.problem(f"the writer lived on: {entry}")
        committed = world.database.revision()
        if committed != before + 1:
            world.problem(f"the writer died before it had committed: {before} -> {committed}")
        world.until(
            "every worker at the change that nobody announced",
            lambda: all(
                target in world.load.latest and world.load.latest[target].revision >= committed
                for target in world.targets
            ),
            limit_s=FAR_S,
        )
    yield


@fault(stale="resync", explains=("connection",))
def uwsgi_killed(world: World) -> Steps:
    """Kill -9 the master, a moment later all workers, and start anew."""
    world.one.uwsgi.send(signal.SIGKILL)
    yield
    world.one.uwsgi.kill()
    world.one.uwsgi.start()
