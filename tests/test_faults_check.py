"""The checker of ``python -m faults`` catches every kind of violation, and only those."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from faults import kinds as kinds
from faults.bounds import FAR_S, READ_S, RESYNC_S, STALE, STORE_S, WRITE_S, table
from faults.check import Log, catch_up_s, check
from faults.injection import INJECTIONS
from faults.record import (
    Committed,
    Entry,
    Excuse,
    Fault,
    Problem,
    Read,
    Recorder,
    Restored,
    Run,
    Seen,
    Status,
    Write,
    read_record,
)
from faults.report import describe
from faults.schedule import make_schedule

PORT, OTHER = 1001, 1002
PID, OTHER_PID = 51, 52
# An acknowledged change was also seen, by who was told of it.
STALE_HERE = ["no stale request", "no step back"]
BACK = ["no step back"]
# When all of a good record is over, whatever the machine adds to the bounds.
LATE = 60.0 + STORE_S


def read(begin: float, revision: int, **changed: object) -> Read:
    """Return a read that saw what :func:`good` has at a revision."""
    entry = Read(
        "one",
        PORT,
        begin,
        begin + 0.01,
        pid=PID,
        revision=revision,
        values=(revision * 10,) * 4,
        took_s=0.005,
    )
    return msgspec.structs.replace(entry, **changed)


def interrupted_read(begin: float, revision: int, **changed: object) -> Read:
    """Return a read of another process, which said that it could not read the store."""
    return read(begin, revision, pid=77, interrupted=True, **changed)


def failed_read(begin: float, failure: str, **changed: object) -> Read:
    return msgspec.structs.replace(Read("one", PORT, begin, begin + 0.01, failure), **changed)


def write(end: float, revision: int, **changed: object) -> Write:
    """Return an acknowledged change of A and B to ten times its revision."""
    entry = Write(
        "one", PORT, end - 0.01, end, revision * 10, "acknowledged", pid=PID, revision=revision
    )
    return msgspec.structs.replace(entry, **changed)


def committed(revision: int, number: int | None = None) -> list[Entry]:
    raw = json.dumps(revision * 10 if number is None else number)
    return [Committed(revision, "A", raw), Committed(revision, "B", raw)]


def fault(stale: str = "never", *, begin: float = 10.0, end: float = 12.0, floor: int = 2) -> Fault:
    return Fault("made-up", begin, end, stale, floor=floor)


def good() -> list[Entry]:
    """Return a record of which nothing is wrong: two changes, a fault of 2 s, a third change."""
    after = 12.0 + STORE_S
    return [
        Run(1, "sqlite", []),
        *(row for revision in (1, 2, 3) for row in committed(revision)),
        write(1.0, 1),
        write(2.0, 2),
        read(1.5, 1),
        read(2.5, 2),
        read(2.5, 2, port=OTHER, pid=OTHER_PID),
        write(after + 0.5, 3),
        read(after + 1.0, 3),
        read(after + 1.0, 3, port=OTHER, pid=OTHER_PID),
        Status(after + 2.0, "one", PORT, PID, True, "VALID", {}, final=True),
        Status(after + 2.0, "one", OTHER, OTHER_PID, True, "VALID", {}, final=True),
    ]


def broken(*more: Entry) -> list[str]:
    """Return the rules that a good record breaks with some more entries."""
    return sorted({violation.rule for violation in check([*good(), *more])})


@pytest.mark.parametrize("stale", STALE)
def test_good_record_breaks_no_rule(stale: str) -> None:
    assert broken() == []
    assert broken(fault(stale)) == []


def test_acknowledged_change_that_the_store_lacks_is_lost() -> None:
    assert broken(write(3.0, 4)) == [
        "no acknowledged change lost",
        "no stale request",
        "no step back",
    ]
    # Half of it, or another in its place.
    half = [Committed(4, "A", "40")]
    lost = "no acknowledged change lost"
    end = 30.0 + STORE_S
    assert broken(write(end, 4), *half) == [lost]
    assert broken(write(end, 4), *committed(4, 41)) == [lost]
    assert broken(write(end, 4), *committed(4)) == []


def test_revision_that_was_given_to_two_changes_is_a_loss() -> None:
    assert broken(write(2.1, 2, port=OTHER)) == ["no acknowledged change lost"]


def test_refused_change_that_the_store_has_is_a_violation() -> None:
    refused = write(50.0, 0, number=30, outcome="refused", failure="refused")
    excuse = Excuse("made-up", 49.0, 51.0, ["refused"])
    assert broken(refused, excuse) == ["nothing refused is written"]
    assert broken(msgspec.structs.replace(refused, number=99), excuse) == []
    # Unless its connection was cut within the commit.
    assert broken(refused, Excuse("made-up", 49.0, 51.0, ["refused", "ambiguous"])) == []


def test_unknown_outcome_may_be_stored_or_not() -> None:
    excuse = Excuse("made-up", 49.0, 51.0, ["connection"])
    unknown = write(50.0, 0, number=30, outcome="unknown", failure="connection")
    for number in (30, 99):
        assert broken(msgspec.structs.replace(unknown, number=number), excuse) == []


@pytest.mark.parametrize("place", range(4))
def test_torn_read_is_caught(place: int) -> None:
    values = [20, 20, 20, 20]
    values[place] = 10
    assert broken(read(3.0, 2, values=tuple(values))) == ["no torn change"]


def test_values_of_another_revision_are_caught() -> None:
    assert broken(read(3.0, 2, values=(10,) * 4)) == ["no torn change"]


def test_revision_between_two_changes_has_the_values_of_the_older() -> None:
    # A change of other settings took revision 2.
    entries: list[Entry] = [
        entry for entry in good() if not (isinstance(entry, Committed | Write | Read))
    ]
    entries += [*committed(1), *committed(3), write(1.0, 1), write(4.0, 3)]
    entries += [read(2.0, 2, values=(10,) * 4), read(5.0, 3)]
    assert check(entries) == []


def test_process_that_goes_back_is_caught() -> None:
    assert "revisions never go back" in broken(fault("store"), read(11.0, 2), read(11.5, 1))
    # Another process may be behind, and so may a read that had begun before the other ended.
    assert broken(fault("store"), read(11.0, 2), interrupted_read(11.5, 1)) == []
    entries = [read(11.0, 2, end=11.6, pid=77), interrupted_read(11.5, 1)]
    assert broken(fault("store"), *entries) == []


def test_stale_read_without_a_fault_is_caught() -> None:
    assert broken(read(2.001, 1, pid=77)) == STALE_HERE
    # It had begun before the change was acknowledged.
    assert broken(read(1.999, 1, pid=77)) == []


def test_stale_read_is_caught_in_a_fault_that_permits_none() -> None:
    assert broken(fault("never"), read(11.0, 1, pid=77)) == STALE_HERE


def test_fault_of_the_store_permits_stale_reads_until_its_bound_is_over() -> None:
    for at in (10.5, 12.0 + STORE_S - 0.1):
        assert broken(fault("store", floor=1), interrupted_read(at, 1)) == []
        # A worker that says that all is well has no excuse.
        assert broken(fault("store", floor=1), read(at, 1, pid=77)) == STALE_HERE
    late = interrupted_read(12.0 + STORE_S + 0.1, 1)
    assert broken(fault("store", floor=1), late) == STALE_HERE
    # One that had begun before the fault may have been served only then.
    waiting = interrupted_read(9.9, 1, end=10.1)
    assert broken(fault("store", floor=1), waiting) == []
    # Nor before it began.
    assert broken(fault("store", floor=1), read(9.9, 1, pid=77)) == STALE_HERE


def test_fault_of_announcing_permits_a_lag_of_a_resync() -> None:
    assert broken(fault("resync", begin=1.5, floor=1), read(2.1, 1, pid=77)) == []
    older = read(2.0 + RESYNC_S + 0.1, 1, pid=77)
    assert broken(fault("resync", begin=1.5, floor=1), older) == ["no stale request"]


def test_read_that_misses_what_another_process_served_is_a_step_back() -> None:
    # Revision 4 is committed, and acknowledged only later: its writer is slow, or dead.
    slow = [*committed(4), read(LATE, 4)]
    assert broken(*slow) == []
    assert broken(*slow, read(LATE + 0.02, 3, pid=77, port=OTHER)) == BACK
    # It had begun before the other ended.
    assert broken(*slow, read(LATE + 0.005, 3, pid=77, port=OTHER)) == []
    # What the other host serves is news by a notice only.
    assert broken(*slow, read(LATE + 0.02, 3, pid=77, host="two", port=2001)) == []
    there = read(LATE + 0.02, 4, pid=77, host="two", port=2001)
    assert broken(*slow, there, read(LATE + 0.04, 3, pid=78, host="two", port=2001)) == BACK


def test_read_that_misses_what_a_command_saw_is_a_step_back() -> None:
    seen = [*committed(4), Seen("one", LATE, 4)]
    assert broken(*seen, read(LATE + 0.001, 3)) == BACK
    assert broken(*seen, read(LATE - 0.001, 3)) == []
    assert broken(*seen, read(LATE + 0.001, 4)) == []


@pytest.mark.parametrize("stale", ["store", "resync"])
def test_step_back_is_counted_apart_while_no_store_or_no_page_can_be_used(stale: str) -> None:
    entries: list[Entry] = [read(10.5, 3), interrupted_read(10.6, 2), fault(stale)]
    assert "no step back" not in broken(*entries)
    log = Log([*good(), *entries])
    assert "0 steps back; 1 more while" in describe(log, [])
    entries[-1] = fault("never")
    assert "no step back" in broken(*entries)
    assert "1 steps back; 0 more while" in describe(Log([*good(), *entries]), [])


def after_a_restore(*more: Entry) -> list[str]:
    """Return what is wrong when revision 3 was lost by a backup of 2, and 3 made once more."""
    at = LATE
    entries: list[Entry] = [
        *(entry for entry in good() if entry not in committed(3)),
        *(msgspec.structs.replace(row, gone=1) for row in committed(3)),
        Restored(at, at + 1.0, 2),
        *committed(3, 77),
        write(at + 2.0, 3, number=77),
        read(at + 3.0, 3, values=(77,) * 4),
    ]
    return sorted({violation.rule for violation in check([*entries, *more])})


def test_backup_that_is_put_back_takes_changes_away_and_nothing_else_is_wrong() -> None:
    assert after_a_restore() == []
    # Until somebody has seen it, what is gone may be served; what the backup has, too.
    assert after_a_restore(read(LATE + 1.5, 3, pid=77)) == []
    assert after_a_restore(read(LATE + 1.5, 2, pid=77)) == []


def test_lost_values_that_are_served_after_a_restore_was_seen_are_a_step_back() -> None:
    assert after_a_restore(read(LATE + 1.3, 2), read(LATE + 1.5, 3, pid=77)) == BACK
    # The revision is the same, and the change another: nothing but its values shows that.
    assert after_a_restore(read(LATE + 2.5, 3, pid=77)) == STALE_HERE
    assert after_a_restore(read(LATE + 10.0, 3)) == [
        "no stale request",
        "no step back",
        "revisions never go back",
    ]


def test_lost_values_that_are_served_for_long_after_a_restore_are_caught() -> None:
    put_back = fault("never", begin=LATE, end=LATE + 1.0, floor=2)
    served = read(LATE + 1.0 + FAR_S + 1.0, 3, pid=77)
    assert "caught up after the bound" in after_a_restore(put_back, served)


def test_values_that_no_era_of_the_store_holds_are_torn() -> None:
    assert after_a_restore(read(LATE + 10.0, 3, pid=77, values=(20,) * 4)) == ["no torn change"]


def test_change_that_is_lost_without_a_restore_of_it_is_caught() -> None:
    lost = ["no acknowledged change lost"]
    assert after_a_restore(write(LATE - 1.0, 4, number=99), *committed(4)) == lost


def test_other_host_may_lag_for_a_resync_and_no_longer() -> None:
    entry = read(2.0 + FAR_S - 0.1, 1, pid=77, host="two", port=2001)
    assert broken(entry) == []
    late = msgspec.structs.replace(entry, begin=2.0 + FAR_S + 0.1, end=2.0 + FAR_S + 0.2)
    assert broken(late) == ["no stale request"]


def test_change_that_nobody_acknowledged_is_to_be_seen_after_the_bound() -> None:
    rows = committed(4)
    seen = [
        read(12.0 + FAR_S + 9.0, 4, port=port, pid=pid)
        for port, pid in ((PORT, PID), (OTHER, OTHER_PID))
    ]
    made = write(12.0 + FAR_S + 8.0, 3, outcome="unknown", failure="")
    assert broken(fault(floor=4), *rows, *seen, made) == ["caught up after the bound"]
    entries = [*good()[:11], *rows, *good()[-2:], fault(floor=4), *seen, write(20.0, 4)]
    assert check(entries) == []


@pytest.mark.parametrize("kind", ["connection", "timeout", "refused", "status"])
def test_failure_is_a_violation_unless_explained(kind: str) -> None:
    entry = failed_read(11.0, kind)
    assert broken(entry) == ["no unexplained failure"]
    kinds_ = [kind] if kind != "status" else ["connection", "timeout", "refused", "slow"]
    excuse = msgspec.convert(
        {"type": "excuse", "fault": "x", "begin": 10.5, "end": 11.5, "kinds": kinds_}, Excuse
    )
    explained = kind != "status"
    assert (broken(entry, excuse) == []) is explained


@pytest.mark.parametrize(
    "changed",
    [{"kinds": ["timeout"]}, {"ports": [OTHER]}, {"begin": 11.1}, {"end": 10.9}],
    ids=["kind", "port", "later", "earlier"],
)
def test_excuse_explains_nothing_else(changed: dict[str, object]) -> None:
    excuse = Excuse("made-up", 10.0, 12.0, ["connection"], [PORT])
    assert broken(failed_read(11.0, "connection"), excuse) == []
    other = msgspec.structs.replace(excuse, **changed)
    assert broken(failed_read(11.0, "connection"), other) == ["no unexplained failure"]


def test_request_that_is_blocked_beyond_the_bound_is_caught() -> None:
    rule = "no request blocked beyond the bound"
    assert broken(read(5.0, 2, took_s=READ_S + 0.1)) == [rule]
    assert broken(read(5.0, 2, took_s=READ_S - 0.1)) == []
    excuse = Excuse("made-up", 4.0, 6.0, ["slow"])
    assert broken(read(5.0, 2, took_s=READ_S + 0.1), excuse) == []
    entries = [
        msgspec.structs.replace(entry, took_s=WRITE_S + 0.1) if isinstance(entry, Write) else entry
        for entry in good()
    ]
    assert {violation.rule for violation in check(entries)} == {rule}


def test_dead_watcher_is_caught_at_any_time() -> None:
    status = Status(13.0, "one", PORT, PID, False, "INTERRUPTED", {})
    assert broken(status) == ["every watcher alive"]
    alive = msgspec.structs.replace(status, watcher_alive=True)
    assert broken(alive) == []
    assert broken(msgspec.structs.replace(alive, final=True)) == ["every worker valid at the end"]


def test_run_that_never_asked_at_the_end_is_no_proof() -> None:
    entries = [entry for entry in good() if not isinstance(entry, Status)]
    assert [violation.rule for violation in check(entries)] == ["every watcher alive"]


def test_fault_after_which_nobody_looked_is_no_proof() -> None:
    later = fault("never", begin=LATE + 10.0, end=LATE + 11.0)
    assert broken(later) == ["something was seen"]
    # One worker is silent, or nothing was changed any more.
    one: list[Entry] = [
        write(LATE + 12.0, 3, outcome="unknown"),
        read(LATE + 12.0, 3),
    ]
    assert broken(later, *one) == ["something was seen"]
    skipped = msgspec.structs.replace(later, skipped="not here")
    assert broken(skipped) == []


def test_what_a_fault_found_itself_is_a_violation() -> None:
    assert broken(Problem(11.0, "made-up", "odd")) == ["found by the fault itself"]


def test_catching_up_is_measured_until_the_last_worker() -> None:
    log = Log([*good(), fault(floor=3)])
    assert catch_up_s(log, fault(floor=3)) == pytest.approx(STORE_S + 1.01)
    assert catch_up_s(log, fault(floor=4)) is None


def test_record_survives_the_disk(tmp_path: Path) -> None:
    entries = [*good(), fault("store"), Problem(1.0, "x", "y"), Excuse("x", 1.0, 2.0, ["slow"])]
    recorder = Recorder(tmp_path / "record.jsonl")
    for entry in entries:
        recorder.add(entry)
    recorder.close()
    assert read_record(recorder.path) == entries


def test_report_names_faults_and_violations() -> None:
    entries = [*good(), fault("never"), read(11.0, 1, pid=77)]
    entries.append(Fault("not-here", 90.0, 90.0, "never", skipped="no root"))
    text = describe(Log(entries), check(entries))
    assert "made-up" in text
    assert "skipped: no root" in text
    assert "BROKEN: no stale request: 1 times" in text
    assert "all promises held" in describe(Log(good()), check(good()))
    assert "resync" in table()


def test_schedule_is_decided_by_the_seed() -> None:
    first = make_schedule(7, store="sqlite", rounds=2)
    assert first == make_schedule(7, store="sqlite", rounds=2)
    assert first != make_schedule(8, store="sqlite", rounds=2)
    names = [turn.injection.name for turn in first]
    assert sorted(names) == sorted(
        2 * [name for name, one in INJECTIONS.items() if "sqlite" in one.stores]
    )
    # A fault alone is what it was among the others.
    (alone,) = make_schedule(7, store="sqlite", only=["redis-killed"])
    assert alone in first
    assert all(turn.injection.short for turn in make_schedule(7, store="sqlite", short=True))
    with pytest.raises(KeyError):
        make_schedule(7, store="sqlite", only=["no-such-fault"])


def test_every_fault_declares_a_bound_and_what_it_does() -> None:
    for injection in INJECTIONS.values():
        assert injection.stale in STALE
        assert injection.run.__doc__
