"""What a fault is, and the list of all."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

from .record import Failure
from .world import World

Steps = Generator[None, None, None]
Run = Callable[[World], Steps]


class Injection(NamedTuple):
    """A fault and what is declared of it.

    :ivar run: injects it up to its ``yield``, and heals it after.
    :ivar stale: which of :data:`faults.bounds.STALE` holds.
    :ivar explains: kinds of failures that it explains from its beginning to its end.
    :ivar hold_s: how long it lasts, about.
    :ivar stores: with which stores it makes sense.
    :ivar short: part of the short run.
    """

    name: str
    run: Run
    stale: str
    explains: tuple[Failure, ...]
    hold_s: float
    stores: tuple[str, ...]
    short: bool


#: all faults, by name
INJECTIONS: dict[str, Injection] = {}


def fault(
    *,
    stale: str = "never",
    explains: tuple[Failure, ...] = (),
    hold_s: float = 2.0,
    stores: tuple[str, ...] = ("sqlite", "postgres"),
    short: bool = False,
) -> Callable[[Run], Run]:
    """Register a fault under the name of its function."""

    def register(run: Run) -> Run:
        name = run.__name__.replace("_", "-")
        INJECTIONS[name] = Injection(name, run, stale, explains, hold_s, stores, short)
        return run

    return register
