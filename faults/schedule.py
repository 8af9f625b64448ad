"""In which order the faults come, and one run of them all."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from integration.support.waiting import NotInTime

from .bounds import STALE, VALID_S
from .client import Failed, ask
from .injection import INJECTIONS, Injection
from .load import Target
from .record import Fault, Status
from .servers import FaultFailed, ServerFailed
from .world import FaultSkipped, World

CALM_S = 0.5
#: how long it is watched, at least, that all is well after a fault and its bound
PROOF_S = 1.0
#: how long is waited, beyond the bound, for a worker that does not follow
_LIMIT_S = 15.0


class Turn(NamedTuple):
    """One fault of a run.

    :ivar seed: of all that is random in it, whatever else the run injects.
    """

    injection: Injection
    hold_s: float
    seed: str


def make_schedule(
    seed: int, *, store: str, rounds: int = 1, only: Iterable[str] = (), short: bool = False
) -> list[Turn]:
    """Return the faults of a run; the same for the same arguments.

    :raises KeyError: names a fault that there is not.
    """
    wanted = [INJECTIONS[name] for name in only] or [
        injection for injection in INJECTIONS.values() if injection.short or not short
    ]
    order = random.Random(f"{seed}")
    turns = []
    for number in range(rounds):
        chosen = [injection for injection in wanted if store in injection.stores]
        order.shuffle(chosen)
        for injection in chosen:
            # Of its own, so that a fault alone is what it was among others.
            name = f"{seed} {number} {injection.name}"
            factor = random.Random(name).uniform(0.8, 1.2)
            turns.append(Turn(injection, injection.hold_s * factor, name))
    return turns


def play(world: World, turns: Iterable[Turn]) -> Iterator[Fault]:
    """Inject the faults one after the other; yield each when it is over."""
    for turn in turns:
        time.sleep(CALM_S)
        try:
            fault = _play_one(world, turn)
        except Exception as exc:
            # What it has harmed may be harmed still, so that nothing more can be learnt.
            trace = "" if isinstance(exc, ServerFailed) else traceback.format_exc()
            world.problem(f"the run ends here: {exc}\n{trace}")
            return
        world.recorder.add(fault)
        if not fault.skipped:
            _await_all(world, fault)
        yield fault
    _ask_all(world, limit_s=VALID_S)


def _play_one(world: World, turn: Turn) -> Fault:
    injection = turn.injection
    world.fault = injection.name
    world.random = random.Random(turn.seed)
    skipped = ""
    begin = time.monotonic()
    run = injection.run(world)
    try:
        with world.excused(*injection.explains):
            next(run)
            time.sleep(turn.hold_s)
            # It ends after its one yield.
            for _ in run:
                raise AssertionError(f"{injection.name} yields twice")
    except FaultSkipped as exc:
        skipped = str(exc)
    except ServerFailed:
        raise
    except (FaultFailed, NotInTime) as exc:
        world.problem(str(exc))
    finally:
        run.close()
    end = time.monotonic()
    return Fault(
        injection.name,
        begin,
        end,
        injection.stale,
        floor=world.database.revision(),
        skipped=skipped,
    )


def _await_all(world: World, fault: Fault) -> None:
    """Wait until each worker is at the fault's floor, and its bound is over; then see them."""
    bound_s = STALE[fault.stale].after_s
    deadline = fault.end + bound_s + _LIMIT_S
    while time.monotonic() < deadline:
        latest = world.load.latest
        if all(
            target in latest
            and latest[target].begin > fault.end
            and latest[target].revision >= fault.floor
            for target in world.targets
        ):
            break
        time.sleep(0.01)
    time.sleep(max(fault.end + bound_s - time.monotonic(), 0.0) + PROOF_S)
    for target in world.targets:
        world.recorder.add(_status(target))


def _ask_all(world: World, *, limit_s: float) -> None:
    """Record the last status of every worker, once it is valid or the time is over."""
    deadline = time.monotonic() + limit_s
    for target in world.targets:
        status = _status(target, final=True)
        while status.state != "VALID" and time.monotonic() < deadline:
            time.sleep(0.1)
            status = _status(target, final=True)
        world.recorder.add(status)


def _status(target: Target, *, final: bool = False) -> Status:
    at = time.monotonic()
    try:
        data = ask(target.port, "/status").data
    except Failed as exc:
        return Status(at, *target, 0, False, "UNREACHABLE", {"request": str(exc)}, final)
    pid, alive = data["pid"], data["watcher_alive"]
    return Status(at, *target, pid, alive, data["state"], data["failing"], final)
