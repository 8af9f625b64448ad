"""The ear of a host killed, stopped, or cut off from what other hosts announce.

The processes that follow it must not step back, and the next in line takes over.
"""

from __future__ import annotations

import os
import signal

from ..bounds import FAR_S
from ..injection import Steps, fault
from ..load import Target
from ..world import Host, World

POSTGRES = ("postgres", "notify")


@fault(stores=POSTGRES)
def ear_killed(world: World) -> Steps:
    """Kill -9 the ear of each host, three times."""
    for _ in range(3):
        for host in world.hosts:
            _kill(world, host)
    yield


# Its own requests wait for it.
@fault(explains=("slow", "refused"), stores=POSTGRES)
def ear_stopped(world: World) -> Steps:
    """SIGSTOP the ear of the second host, SIGCONT it later; changes go on on the first."""
    pid = _ear(world, world.hosts[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault(stores=POSTGRES)
def ear_cut_off(world: World) -> Steps:
    """Let nothing through to where the second host hears; its connections stay open."""
    with world.relay.silent():
        yield


def _kill(world: World, host: Host) -> None:
    pid = _ear(world, host)
    target = _target_of(world, host, pid)
    world.kill_worker(target, pid)
    world.until("replaced", lambda: world.pid(target) != pid)
    world.until("another ear", lambda: host.ear() not in (0, pid))
    _await_a_change_of_the_other(world, host)


def _ear(world: World, host: Host) -> int:
    world.until(f"an ear on {host.name}", host.ear)
    return host.ear()


def _target_of(world: World, host: Host, pid: int) -> Target:
    def found() -> list[Target]:
        return [target for target in host.targets if world.pid(target) == pid]

    world.until("the ear has answered", found)
    return found()[0]


def _await_a_change_of_the_other(world: World, host: Host) -> None:
    committed = world.look()
    world.await_reads(
        f"every worker at {committed} after the ear of {host.name} died",
        lambda read: read.revision >= committed,
        limit_s=FAR_S,
    )
