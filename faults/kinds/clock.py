"""The wall clock stepped, in every process of the first host.

Injected in the app: ``time.time`` and ``time.time_ns`` answer what the driver wants. The mtimes
that the kernel itself gives stay true.
"""

from __future__ import annotations

from ..injection import Steps, fault
from ..world import World
from .files import HOUR_NS


@fault()
def clock_ahead(world: World) -> Steps:
    """Step it one hour ahead, then back to the truth."""
    world.one.set_clock(HOUR_NS)
    yield
    world.one.set_clock(0)


@fault(short=True)
def clock_back(world: World) -> Steps:
    """Step it one hour back, then ahead to the truth."""
    world.one.set_clock(-HOUR_NS)
    yield
    world.one.set_clock(0)
