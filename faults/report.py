"""The table and the verdict of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from .bounds import STALE
from .check import (
    NEAR,
    Log,
    Violation,
    catch_up_s,
    is_ambiguous,
    is_excepted,
    missed,
    steps_back,
)
from .record import Fault, Read

_EXAMPLES = 3
_COLUMNS = ("requests", "failed", "stale", "back", "lag", "lasted", "caught up")
_HEAD = "fault".ljust(27) + "".join(f"{name:>10}" for name in _COLUMNS)


def describe(log: Log, violations: Sequence[Violation]) -> str:
    """Return the table of all faults, and every rule that was broken."""
    lines = [
        "requests that began in a fault or within its bound: how many, how many failed as it",
        "explains, how many of the others were stale, or behind what their host had seen, as it",
        "permits; times in s",
        "",
        _HEAD,
    ]
    back = [read for read, _ in steps_back(log)]
    for number, fault in enumerate(log.faults):
        rest = log.faults[number + 1 :]
        lines.append(_row(log, fault, rest[0].begin if rest else math.inf, back))
    excepted = sum(is_excepted(log, read) for read in back)
    outcomes = Counter(write.outcome for write in log.writes)
    lines += [
        "",
        f"{len(log.good)} reads, {dict(outcomes)} changes, "
        f"{len({read.pid for read in log.good})} processes, {len(log.injected)} faults",
        f"{len(back) - excepted} steps back; {excepted} more while no store or no page can be used",
        f"{sum(is_ambiguous(log, write) for write in log.writes)} changes were refused when their "
        "connection was cut, and are stored all the same",
    ]
    rules = Counter(violation.rule for violation in violations)
    for rule, count in rules.items():
        lines += ["", f"BROKEN: {rule}: {count} times"]
        shown = [violation for violation in violations if violation.rule == rule][:_EXAMPLES]
        lines += [f"  at {violation.at:.3f}: {violation.text:.1500}" for violation in shown]
    lines += ["", "all promises held" if not violations else f"{len(violations)} VIOLATIONS"]
    return "\n".join(lines)


def _row(log: Log, fault: Fault, until: float, back: Sequence[Read]) -> str:
    if fault.skipped:
        return f"{fault.name:27}  skipped: {fault.skipped}"
    bound = STALE[fault.stale]
    end = min(fault.end + bound.after_s, until)
    reads = [read for read in log.reads if fault.begin <= read.begin <= end]
    writes = [write for write in log.writes if fault.begin <= write.begin <= end]
    failed = sum(bool(read.failure) for read in reads)
    failed += sum(bool(write.failure) for write in writes)
    stale = sum(read.host == NEAR and not read.failure and missed(log, read) for read in reads)
    stepped = sum(fault.begin <= read.begin <= end for read in back)
    caught_up_s = catch_up_s(log, fault)
    caught_up = "never" if caught_up_s is None else f"{caught_up_s:.2f}"
    return (
        f"{fault.name:27}{len(reads) + len(writes):10}{failed:10}{stale:10}{stepped:10}"
        f"{fault.stale:>10}{fault.end - fault.begin:10.1f}{caught_up:>10}"
    )
