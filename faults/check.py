"""What a record must not show; pure functions of its entries."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from .bounds import FAR_S, READ_S, STALE, WRITE_S
from .record import (
    Committed,
    Entry,
    Excuse,
    Fault,
    Problem,
    Read,
    Restored,
    Seen,
    Status,
    Write,
)

#: the host that the writers write to
NEAR = "one"


class Violation(NamedTuple):
    """One thing that must not be.

    :ivar rule: which promise is broken.
    :ivar at: when, of the driver's monotonic clock.
    """

    rule: str
    at: float
    text: str


class Rank(NamedTuple):
    """What a request saw, in an order that holds when a backup was put back, too.

    :ivar era: how many backups had been put back when this was read from the store.
    """

    era: int
    revision: int


NOTHING = Rank(0, 0)


class Log:
    """The entries of a record, sorted by kind."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.reads: list[Read] = []
        self.writes: list[Write] = []
        self.faults: list[Fault] = []
        self.excuses: list[Excuse] = []
        self.statuses: list[Status] = []
        self.committed: list[Committed] = []
        self.problems: list[Problem] = []
        self.seen: list[Seen] = []
        self.restored: list[Restored] = []
        lists = {
            Read: self.reads,
            Write: self.writes,
            Fault: self.faults,
            Excuse: self.excuses,
            Status: self.statuses,
            Committed: self.committed,
            Problem: self.problems,
            Seen: self.seen,
            Restored: self.restored,
        }
        for entry in entries:
            kept = lists.get(type(entry))
            if kept is not None:
                kept.append(entry)  # type: ignore[attr-defined]
        self.numbers = {
            json.loads(row.raw): row.revision for row in self.committed if row.raw is not None
        }
        # No number is used twice, so that it says from which era it is.
        self._gone = {
            json.loads(row.raw): row.gone
            for row in self.committed
            if row.raw is not None and row.gone
        }
        self.restored.sort(key=attrgetter("begin"))
        self.stored = self._histories()
        self.reads.sort(key=attrgetter("begin"))
        self.writes.sort(key=attrgetter("end"))
        self.good = [read for read in self.reads if not read.failure]
        self.acknowledged = [write for write in self.writes if write.outcome == "acknowledged"]
        self.injected = [fault for fault in self.faults if not fault.skipped]
        self._ends = [write.end for write in self.acknowledged]
        self._floors = list(accumulate(map(self.rank, self.acknowledged), max))

    def _histories(self) -> list[dict[int, dict[str, str | None]]]:
        """Return what each era's store held, by revision and name."""
        eras: list[dict[int, dict[str, str | None]]] = [{} for _ in range(len(self.restored) + 1)]
        for era in reversed(range(len(eras))):
            stored: dict[int, dict[str, str | None]] = defaultdict(dict)
            if era < len(self.restored):
                kept = self.restored[era].revision
                stored.update({at: rows for at, rows in eras[era + 1].items() if at <= kept})
            for row in self.committed:
                if row.gone == (era + 1 if era < len(self.restored) else 0):
                    stored[row.revision][row.name] = row.raw
            eras[era] = dict(stored)
        return eras

    def era(self, at: float) -> int:
        """Return how many backups had been put back, or begun to be, at an instant."""
        return sum(restored.begin <= at for restored in self.restored)

    def rank(self, entry: Read | Write) -> Rank:
        """Return what a request saw, or made."""
        number = entry.values[0] if isinstance(entry, Read) else entry.number
        gone = self._gone.get(number)
        # What the backup has, too, is read from it by each that ends after it was put back: the
        # store was far beyond it before.
        return Rank(self.era(entry.end) if gone is None else gone - 1, entry.revision)

    def floor(self, at: float) -> Rank:
        """Return the highest revision that was acknowledged before an instant."""
        count = bisect_right(self._ends, at)
        return self._floors[count - 1] if count else NOTHING

    def fault_at(self, read: Read) -> Fault | None:
        """Return the fault that a request meets, within its bound, too."""
        for fault in self.injected:
            # One that had begun before may have waited for its worker, and look only now.
            if fault.begin <= read.end and read.begin <= fault.end + STALE[fault.stale].after_s:
                return fault
        return None


def check(entries: Iterable[Entry]) -> list[Violation]:
    """Return everything that is wrong, in the order of time."""
    log = Log(entries)
    rules = (lost, torn, backwards, stepped, stale, unseen, failed, slow, dead, vacuous, found)
    return sorted((v for rule in rules for v in rule(log)), key=attrgetter("at"))


def lost(log: Log) -> Iterator[Violation]:
    """No acknowledged change is missing from the store, none that was refused is in it."""
    told: dict[Rank, Write] = {}
    for write in log.writes:
        if write.outcome == "acknowledged":
            raw = json.dumps(write.number)
            rank = log.rank(write)
            stored = log.stored[rank.era].get(rank.revision)
            if stored != {"A": raw, "B": raw}:
                text = f"{write} but the store has {stored}"
                yield Violation("no acknowledged change lost", write.end, text)
            other = told.setdefault(rank, write)
            if other is not write:
                text = f"revision {write.revision} was given twice: {other} and {write}"
                yield Violation("no acknowledged change lost", write.end, text)
        elif is_ambiguous(log, write) and not explained(log, write, "ambiguous"):
            text = f"refused, yet it is revision {log.numbers[write.number]}: {write}"
            yield Violation("nothing refused is written", write.end, text)


def is_ambiguous(log: Log, write: Write) -> bool:
    """Return whether a change was refused, and is stored all the same."""
    return write.outcome == "refused" and write.number in log.numbers


def torn(log: Log) -> Iterator[Violation]:
    """Every request saw A and B of one revision, and what that revision holds."""
    values = [
        {
            at: json.loads(rows["A"] or "0")
            for at, rows in stored.items()
            if rows.get("A") is not None
        }
        for stored in log.stored
    ]
    revisions = [sorted(known) for known in values]
    for read in log.good:
        if len(set(read.values)) != 1:
            yield Violation("no torn change", read.begin, f"{read}")
            continue
        era, revision = log.rank(read)
        at = bisect_right(revisions[era], revision)
        expected = values[era][revisions[era][at - 1]] if at else 0
        if read.values[0] != expected:
            yield Violation("no torn change", read.begin, f"{read}, that holds {expected}")


def backwards(log: Log) -> Iterator[Violation]:
    """The revisions that a process serves never go back."""
    by_pid: dict[int, list[Read]] = defaultdict(list)
    for read in log.good:
        by_pid[read.pid].append(read)
    for reads in by_pid.values():
        seen = sorted((read.end, log.rank(read)) for read in reads)
        for read, highest in _in_order(reads, seen):
            if log.rank(read) < highest:
                text = f"{highest} had been served before {read}"
                yield Violation("revisions never go back", read.begin, text)


def steps_back(log: Log) -> Iterator[tuple[Read, Rank]]:
    """Yield each read that missed what its host had seen before, and the highest of that.

    Seen: by a read that had ended, by a change that was acknowledged, by a command.
    """
    hosts = {read.host for read in log.good}
    for host in sorted(hosts):
        reads = [read for read in log.good if read.host == host]
        seen = [(read.end, log.rank(read)) for read in reads]
        seen += [(write.end, log.rank(write)) for write in log.acknowledged if write.host == host]
        seen += [
            (one.at, Rank(log.era(one.at), one.revision)) for one in log.seen if one.host == host
        ]
        seen.sort()
        for read, highest in _in_order(reads, seen):
            if log.rank(read) < highest:
                yield read, highest


def is_excepted(log: Log, read: Read) -> bool:
    """Return whether a fault takes a read out of the first promise: no store, or no page."""
    return _lag_here_s(log, read) > 0


def stepped(log: Log) -> Iterator[Violation]:
    """No request misses what any process of its host had seen before it began."""
    for read, highest in steps_back(log):
        if not is_excepted(log, read):
            fault = log.fault_at(read)
            where = f"in {fault.name}" if fault else "without a fault"
            text = f"{where}, {highest} had been seen on the host before {read}"
            yield Violation("no step back", read.begin, text)


def _in_order(
    reads: Iterable[Read], seen: Sequence[tuple[float, Rank]]
) -> Iterator[tuple[Read, Rank]]:
    """Yield reads, sorted by their beginning, with the highest that had been seen before it."""
    highest, done = NOTHING, 0
    for read in reads:
        while done < len(seen) and seen[done][0] <= read.begin:
            highest = max(highest, seen[done][1])
            done += 1
        yield read, highest


def lag_s(log: Log, read: Read) -> float:
    """Return how old an acknowledged change may be that a request misses."""
    allowed = _lag_here_s(log, read)
    return allowed if read.host == NEAR else max(allowed, FAR_S)


def _lag_here_s(log: Log, read: Read) -> float:
    fault = log.fault_at(read)
    # A worker that takes itself for up to date has no excuse.
    if fault is None or (fault.stale == "store" and not read.interrupted):
        return 0.0
    return STALE[fault.stale].lag_s


def missed(log: Log, read: Read) -> bool:
    """Return whether a request missed what was acknowledged before it began."""
    return log.rank(read) < log.floor(read.begin)


def stale(log: Log) -> Iterator[Violation]:
    """No request misses what was acknowledged before, but for the lag that a fault allows."""
    for read in log.good:
        if not missed(log, read):
            continue
        allowed_s = lag_s(log, read)
        if math.isinf(allowed_s):
            continue
        floor = log.floor(read.begin - allowed_s)
        if log.rank(read) < floor:
            fault = log.fault_at(read)
            where = f"in {fault.name}" if fault else "without a fault"
            text = f"{where}, more than {allowed_s:g} s behind {floor}: {read}"
            yield Violation("no stale request", read.begin, text)


def unseen(log: Log) -> Iterator[Violation]:
    """What the store held at a fault's end, acknowledged or not, is seen after the bound."""
    for number, fault in enumerate(log.injected):
        begin = fault.end + max(STALE[fault.stale].after_s, FAR_S)
        floor = Rank(log.era(fault.end), fault.floor)
        rest = log.injected[number + 1 :]
        # The next fault has a lag of its own.
        end = rest[0].begin if rest else math.inf
        for read in log.good:
            if begin <= read.begin < end and log.rank(read) < floor:
                text = f"{fault.floor} was stored at the end of {fault.name}: {read}"
                yield Violation("caught up after the bound", read.begin, text)


def explained(log: Log, entry: Read | Write, kind: str) -> bool:
    """Return whether a fault explains the failure of a request."""
    return any(
        kind in excuse.kinds
        and entry.begin <= excuse.end
        and entry.end >= excuse.begin
        and (not excuse.ports or entry.port in excuse.ports)
        for excuse in log.excuses
    )


def failed(log: Log) -> Iterator[Violation]:
    """No request fails that no fault explains."""
    for entry in _requests(log):
        if entry.failure and not explained(log, entry, entry.failure):
            yield Violation("no unexplained failure", entry.begin, f"{entry}")


def slow(log: Log) -> Iterator[Violation]:
    """No request takes longer within a worker than is stated."""
    for entry in _requests(log):
        limit_s = READ_S if isinstance(entry, Read) else WRITE_S
        if entry.took_s > limit_s and not explained(log, entry, "slow"):
            text = f"more than {limit_s:g} s: {entry}"
            yield Violation("no request blocked beyond the bound", entry.begin, text)


def dead(log: Log) -> Iterator[Violation]:
    """Every watcher lives, after each fault and at the end, when all is well again."""
    for status in log.statuses:
        if not status.watcher_alive:
            yield Violation("every watcher alive", status.at, f"{status}")
        elif status.final and status.state != "VALID":
            yield Violation("every worker valid at the end", status.at, f"{status}")
    if not any(status.final for status in log.statuses):
        yield Violation("every watcher alive", 0.0, "no worker was asked at the end")


def vacuous(log: Log) -> Iterator[Violation]:
    """There was something to see: each worker answered after each fault, and changes came."""
    # Not after the last read: the run is over then, and nobody watches.
    targets = {(read.host, read.port) for read in log.good}
    for number, fault in enumerate(log.injected):
        rest = log.injected[number + 1 :]
        end = rest[0].begin if rest else math.inf
        begin = fault.end + STALE[fault.stale].after_s
        after = [read for read in log.good if begin <= read.begin < end]
        silent = targets - {(read.host, read.port) for read in after}
        if silent or not after:
            yield Violation("something was seen", begin, f"nothing from {silent} after {fault}")
        if not any(begin <= write.begin < end for write in log.acknowledged):
            yield Violation("something was seen", begin, f"no change after {fault}")


def found(log: Log) -> Iterator[Violation]:
    """No fault found something wrong itself."""
    for problem in log.problems:
        yield Violation("found by the fault itself", problem.at, f"{problem.fault}: {problem.text}")


def catch_up_s(log: Log, fault: Fault) -> float | None:
    """Return the seconds from a fault's end until each worker had served its floor."""
    first: dict[tuple[str, int], float] = {}
    # A port may be the last to answer anything at all.
    targets = {(read.host, read.port) for read in log.good if read.begin > fault.end}
    floor = Rank(log.era(fault.end), fault.floor)
    for read in log.good:
        if read.begin > fault.end and log.rank(read) >= floor:
            first.setdefault((read.host, read.port), read.end)
    if not targets or first.keys() != targets:
        return None
    return max(first.values()) - fault.end


def _requests(log: Log) -> Iterator[Read | Write]:
    requests: Sequence[Sequence[Read | Write]] = (log.reads, log.writes)
    for entries in requests:
        yield from entries
