"""Workers of two hosts against a model: random histories of changes, faults and lost notices.

Each worker is a manager; those of a host share a watch file, all share a store. What the model
remembers is the log of the states that the store was in, and what each worker must know of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from uwsgi_waffle import NotifierError, StoreError, StoreUnavailable
from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process.reading import LastKnown
from uwsgi_waffle.snapshot import Delta, Row, Snapshot

from ..support.hypothesis_profiles import effort
from ..support.rig import MemoryStore, Rig

# Always changed together, so that half a change shows.
CONFS = {
    "A": {"desc": "one half", "default": 0},
    "B": {"desc": "the other half", "default": 0},
    "C": {"desc": "changed alone", "default": 0},
}
RESYNC_S = 10.0
LONGEST_BACKOFF_S = 2.0
NUMBERS = st.integers(1, 9)
PICK = st.integers(0, 11)
Values = dict[str, Any]


class Entry(NamedTuple):
    """A state that the store was in.

    :ivar at: when it came to be.
    :ivar told: the hosts whose watch file was changed after it.
    """

    revision: int
    values: Values
    at: float
    told: set[int]


class Backup(NamedTuple):
    """What the store held once, and what it meant."""

    revision: int
    marks: dict[int, str]
    rows: dict[str, tuple[str | None, int]]
    values: Values


class Air(Notifier):
    """Takes what is announced to other hosts, and loses it unless a rule delivers it."""

    name = "air"

    def __init__(self, sent: list[Notice]) -> None:
        self.sent = sent
        self.works = True

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        if not self.works:
            raise NotifierError("no air")
        self.sent.append(Notice(revision, epoch, mark))

    def wait(self, timeout_s: float) -> Notice | None:
        return None

    def close(self) -> None:
        pass


class LeakyStore(MemoryStore):
    """Also fails reads alone, and lets others act within a read.

    :ivar after_read: called within each read, after the rows were taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read_error: Exception | None = None
        self.after_read: Callable[[], object] | None = None

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        if self.read_error is not None:
            raise self.read_error
        delta = super().read_since(revision, epoch, mark)
        if self.after_read is not None:
            self.after_read()
        return delta

    @property
    def up(self) -> bool:
        return self.error is None and self.read_error is None


class Process:
    """One worker, and what the model knows of it.

    :ivar floor: place in the log of the newest state that it has served or must serve.
    :ivar lagging: it met a store that fails, and need not have come back yet.
    :ivar expected: ``app.config`` as the request that runs must go on seeing it.
    """

    def __init__(self, machine: WorkersMachine, host: int, **more: Any) -> None:
        self.host = host
        self.air = Air(machine.sent)
        self.rig = Rig(
            machine.folders[host],
            confs=CONFS,
            store=machine.store,
            remote=self.air,
            **more,
        )
        self.rig.clock.now = machine.now
        self.waiter = FileNotifier(self.rig.watch_file.path)
        self.failures = 0
        self.lagging = False
        self.floor = 0
        self.requests = 0
        self.expected: Values | None = None

    @property
    def snapshot(self) -> Snapshot:
        return self.rig.manager.snapshot

    def look(self, machine: WorkersMachine) -> None:
        """Notice whether the last call met a store that failed."""
        manager = self.rig.manager
        if manager.reading.failures > self.failures:
            self.failures = manager.reading.failures
            self.lagging = True
        if machine.store.up and not manager.reading.failing:
            self.lagging = False


class WorkersMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="waffle-model-"))
        self.folders = [self.folder / "first", self.folder / "second"]
        for folder in self.folders:
            folder.mkdir()
        self.now = 1000.0
        self.store = LeakyStore()
        self.sent: list[Notice] = []
        self.log = [Entry(0, dict.fromkeys(CONFS, 0), self.now, {0, 1})]
        self.backups: list[Backup] = []
        self.known: list[Snapshot] = []
        self.touches = 0
        self.restored = False
        self.processes: list[Process] = []

    @initialize(hosts=st.lists(st.booleans(), min_size=2, max_size=4))
    def start(self, hosts: list[bool]) -> None:
        self.processes = [Process(self, int(host)) for host in hosts]

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def one(self, pick: int) -> Process:
        return self.processes[pick % len(self.processes)]

    def path(self, host: int) -> Path:
        return self.folders[host] / "waffle.watch"

    # Requests and the watcher

    def begin(self, process: Process) -> Snapshot:
        """Start a request, and check what it sees."""
        process.requests += 1
        process.rig.idle = False
        needed = self.needed(process)
        first = process.requests == 1
        snapshot = process.rig.begin_request()
        process.look(self)
        self.check_is_whole(snapshot, process)
        if not process.lagging and self.store.up:
            self.check_knows(snapshot, needed, process)
        if first or process.rig.config != process.expected:
            process.expected = dict(process.rig.config)
        assert process.rig.config == snapshot.by_name
        return snapshot

    def needed(self, process: Process) -> int:
        """Return the place in the log that a request must have reached that starts now."""
        patience_s = RESYNC_S * (2 if process.rig.manager.watched else 1)
        places = [
            place
            for place, entry in enumerate(self.log)
            if process.host in entry.told or self.now >= entry.at + patience_s
        ]
        return max(places)

    def check_knows(self, snapshot: Snapshot, needed: int, process: Process) -> None:
        later = [(entry.revision, entry.values) for entry in self.log[needed:]]
        assert (snapshot.revision, snapshot.by_name) in later, (
            f"{snapshot.revision} {snapshot.by_name} served by a worker of host {process.host}, "
            f"needed {later}"
        )

    def check_is_whole(self, snapshot: Snapshot, process: Process) -> None:
        assert snapshot["A"] == snapshot["B"]
        places = [
            place
            for place, entry in enumerate(self.log)
            if (entry.revision, entry.values) == (snapshot.revision, snapshot.by_name)
        ]
        assert places, f"the store never was at {snapshot.revision} with {snapshot.by_name}"
        # A state may have come twice, before and after a backup was restored.
        assert places[-1] >= process.floor, "it went back"
        process.floor = min(place for place in places if place >= process.floor)
        if snapshot not in self.known[-1:]:
            self.known.append(snapshot)

    @rule(pick=PICK)
    def begin_request(self, pick: int) -> None:
        self.begin(self.one(pick))

    @rule(pick=PICK)
    def end_request(self, pick: int) -> None:
        process = self.one(pick)
        process.requests = max(0, process.requests - 1)
        if not process.requests:
            process.rig.idle = True
            process.expected = None

    @rule(pick=PICK)
    def watch(self, pick: int) -> None:
        manager = self.one(pick).rig.manager
        manager.watch(on=not manager.watched)

    @rule(
        pick=PICK,
        notice=st.one_of(
            st.none(),
            st.just(Notice(None)),
            st.builds(Notice, st.integers(-1, 99)),
            st.just("file"),
        ),
    )
    def follow(self, pick: int, notice: Notice | str | None) -> None:
        process = self.one(pick)
        heard = process.waiter.wait(0.0) if isinstance(notice, str) else notice
        process.rig.manager.follow(heard)
        process.look(self)
        self.check_is_whole(process.snapshot, process)

    @precondition(lambda self: self.sent)
    @rule(pick=PICK, which=st.integers(0, 99))
    def deliver(self, pick: int, which: int) -> None:
        """Any message, at any time, as often as it pleases: so they are lost, late and doubled."""
        process = self.one(pick)
        process.rig.manager.follow(self.sent[-1 - which % len(self.sent)])
        process.look(self)
        self.check_is_whole(process.snapshot, process)

    # Changes

    def update(self, process: Process, values: Values) -> None:
        before = self.store.revision
        healed = process.rig.manager.health
        try:
            revision = process.rig.update(**values)
        except StoreError:
            assert self.store.revision == before
            process.look(self)
            return
        assert revision > before
        process.look(self)
        failing = healed.failing()
        told = {process.host} if "announcing by watch file" not in failing else set()
        self.log_state(revision, values, told)
        if not process.lagging:
            self.check_knows(process.snapshot, len(self.log) - 1, process)
            process.floor = len(self.log) - 1
        if process.expected is not None:
            process.expected = dict(process.rig.config)

    def log_state(self, revision: int, values: Values, told: set[int]) -> None:
        # A worker that changes something within a read of another has logged its own state first.
        assert revision == self.log[-1].revision + 1
        self.log.append(Entry(revision, {**self.log[-1].values, **values}, self.now, told))

    @rule(pick=PICK, number=NUMBERS, alone=st.booleans())
    def change(self, pick: int, number: int, alone: bool) -> None:
        self.update(self.one(pick), {"C": number} if alone else {"A": number, "B": number})

    @precondition(lambda self: self.store.up)
    @rule(pick=PICK, other=PICK, number=NUMBERS, late=st.booleans())
    def change_while_another_reads(self, pick: int, other: int, number: int, late: bool) -> None:
        reader, writer = self.one(pick), self.one(other)
        if reader is writer:
            return

        def act() -> None:
            self.store.during_read = self.store.after_read = None
            self.update(writer, {"A": number, "B": number})

        if late:
            self.store.after_read = act
        else:
            self.store.during_read = act
        try:
            self.begin(reader)
        finally:
            self.store.during_read = self.store.after_read = None
        # That request began before the change had returned; the next one sees it.
        self.begin(reader)

    # Faults

    @rule(reads_only=st.booleans(), strange=st.booleans())
    def outage_begins(self, reads_only: bool, strange: bool) -> None:
        error = RuntimeError("strange") if strange and reads_only else StoreUnavailable("down")
        if reads_only:
            self.store.read_error = error
        else:
            self.store.error = error

    @rule()
    def outage_ends(self) -> None:
        self.store.error = self.store.read_error = None

    @rule(host=st.integers(0, 1), how=st.sampled_from(["delete", "truncate", "spoil", "obstruct"]))
    def watch_file_suffers(self, host: int, how: str) -> None:
        path = self.path(host)
        if path.is_dir():
            path.rmdir()
        elif how == "delete":
            path.unlink(missing_ok=True)
        elif how == "obstruct":
            path.unlink(missing_ok=True)
            path.mkdir()
        else:
            path.write_bytes(b"" if how == "truncate" else b"99\nx")

    @rule(host=st.integers(0, 1))
    def touch(self, host: int) -> None:
        # Never the same time twice, as it would be for somebody who types.
        self.touches += 1
        path = self.path(host)
        if not path.exists():
            path.touch()
        os.utime(path, ns=(self.touches, 1_700_000_000 * 10**9 + self.touches))
        self.log[-1].told.add(host)

    @rule(pick=PICK)
    def air_fails_or_works_again(self, pick: int) -> None:
        air = self.one(pick).air
        air.works = not air.works

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 3.0, 9.9, 10.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for process in self.processes:
            process.rig.clock.now = self.now

    # Lives

    @rule(pick=PICK, which=PICK, kept=PICK, forked=st.booleans(), down=st.booleans())
    def respawn(self, pick: int, which: int, kept: int, forked: bool, down: bool) -> None:
        """Replace a worker by one that inherits what its master, or its disk, knew once."""
        host = self.one(pick).host
        more: dict[str, Any] = {}
        if self.known and forked:
            more["snapshot"] = self.known[which % len(self.known)]
        if self.known and kept % 2:
            old = self.known[kept % len(self.known)]
            rows = tuple(Row(name, raw) for name, raw in old.stored.items())
            delta = Delta(old.revision, old.epoch, rows, complete=True)
            more["last_known"] = lambda: LastKnown(delta, "a disk") if delta.epoch else None
        process = Process(self, host, **more)
        self.processes[pick % len(self.processes)] = process
        process.rig.config.update(process.snapshot.by_name)
        if not self.restored:
            # What it knew at its birth, if that is more than the disk did, it does not forget.
            self.check_is_whole(process.snapshot, process)
        before = self.store.error
        if down:
            self.store.error = StoreUnavailable("down")
        with contextlib.suppress(StoreError):
            process.rig.manager.refresh()
        self.store.error = before
        process.look(self)
        self.check_is_whole(process.snapshot, process)

    @precondition(lambda self: len(self.backups) < 3)
    @rule()
    def back_up(self) -> None:
        last = self.log[-1]
        store = self.store
        self.backups.append(
            Backup(store.revision, dict(store.marks), dict(store.rows), dict(last.values))
        )

    @precondition(lambda self: self.backups)
    @rule(which=PICK)
    def restore(self, which: int) -> None:
        """Put a backup in the store's place and touch the watch files, as the manual says."""
        backup = self.backups[which % len(self.backups)]
        self.store.revision = backup.revision
        self.store.marks = dict(backup.marks)
        self.store.rows = dict(backup.rows)
        self.log.append(Entry(backup.revision, dict(backup.values), self.now, set()))
        # What another life of the database announced is in nobody's pipe any more.
        self.sent.clear()
        self.restored = True
        for host in range(2):
            self.touch(host)

    # What always holds

    @invariant()
    def config_stands_still_during_a_request(self) -> None:
        for process in self.processes:
            if process.expected is not None:
                assert process.rig.config == process.expected

    @invariant()
    def config_is_of_one_revision(self) -> None:
        for process in self.processes:
            assert process.rig.config["A"] == process.rig.config["B"]

    @precondition(lambda self: self.processes)
    @rule()
    def everyone_converges_when_faults_end(self) -> None:
        """After a resync interval and the longest backoff, whatever was lost before."""
        self.outage_ends()
        self.time_passes(RESYNC_S + LONGEST_BACKOFF_S)
        for process in self.processes:
            process.rig.manager.follow(None)
            process.look(self)
            assert not process.lagging
            self.check_knows(process.snapshot, len(self.log) - 1, process)
            self.check_is_whole(process.snapshot, process)
        for pick, process in enumerate(self.processes):
            # What a request and ``app.config`` have of it, which the snapshot does not show.
            assert self.begin(process) == process.snapshot
            assert process.rig.config == self.log[-1].values
            self.end_request(pick)


TestWorkersAreLikeTheirModel = WorkersMachine.TestCase
TestWorkersAreLikeTheirModel.settings = effort(150, steps=40)
TestWorkersAreLikeTheirModel = pytest.mark.slow(TestWorkersAreLikeTheirModel)
