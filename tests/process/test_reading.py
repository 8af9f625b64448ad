"""When one process reads its store, and what it knows of that."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import StoreError, StoreUnavailable
from uwsgi_waffle.errors import StoreLost, StoreMissing
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process.health import Health
from uwsgi_waffle.process.page import identity_of
from uwsgi_waffle.process.reading import LastKnown, Reading
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Delta, Row, Snapshot, advance, initial_snapshot
from uwsgi_waffle.stores.epochs import word_of

from ..support.rig import CONFS, Clock, MemoryStore

BASE = initial_snapshot(declare(CONFS))
IDENTITY, OTHER = b"identity", b"anothers"


class KeepingStore(MemoryStore):
    """Knows, as a built-in store does, which stores it stands in for."""

    keeps_replaced = True
    outlives_process = True

    def __init__(self) -> None:
        super().__init__()
        self.stands_for: frozenset[str] = frozenset()

    def replaced(self) -> frozenset[str]:
        return self.stands_for


class Reader:
    """A reading with everything around it in a test's hand."""

    def __init__(self, folder: Path, store: MemoryStore, **more: Any) -> None:
        self.store = store
        self.clock = Clock()
        self.health = Health()
        self.watch_file = FileNotifier(folder / "waffle.watch")
        given: dict[str, Any] = {
            "source": "defaults",
            "may_make": True,
            "host_epoch": lambda: "",
            "last_known": lambda: None,
            "resync_interval_s": 10.0,
        }
        self.reading = Reading(
            store, self.watch_file, self.health, clock=self.clock, **{**given, **more}
        )

    def read(self, base: Snapshot = BASE, *, complete: bool = False) -> Delta:
        look = self.reading.look()
        delta = self.reading.read(base, look, complete=complete)
        self.reading.succeeded(look)
        return delta

    def fail(self, error: StoreError) -> None:
        self.reading.failed(error, IDENTITY, 3)


@pytest.fixture
def reader(folder: Path) -> Reader:
    return Reader(folder, MemoryStore())


def known(epoch: str = "first", revision: int = 5) -> LastKnown:
    return LastKnown(Delta(revision, epoch, (Row("LIMIT", "5"),), complete=True), "a disk")


def after(delta: Delta) -> Snapshot:
    return advance(BASE, delta, declare(CONFS))


def test_process_that_never_read_has_a_read_due(reader: Reader) -> None:
    reading = reader.reading
    assert reading.is_due(0.0)
    assert reading.may_try(IDENTITY)
    assert (reading.begun, reading.done, reading.refreshes, reading.failures) == (0, 0, 0, 0)
    assert (reading.failing, reading.lost, reading.is_asked) == (False, False, False)
    assert (reading.read_at, reading.staleness_s, reading.source) == (None, None, "defaults")


def test_read_that_succeeds_is_noted_and_leaves_nothing_due(reader: Reader) -> None:
    reading = reader.reading
    reader.read()
    assert (reading.begun, reading.done, reading.refreshes, reading.failures) == (1, 1, 1, 0)
    assert (reading.source, reader.health.state) == ("store", "VALID")
    assert not reading.is_due(0.0)
    assert reading.read_at is not None
    reader.clock.advance(9.5)
    assert reading.staleness_s == pytest.approx(9.5)
    assert not reading.is_due(0.0)
    reader.clock.advance(0.5)
    assert reading.is_due(0.0)
    assert not reading.is_due(1.0)
    reader.clock.advance(1.0)
    assert reading.is_due(1.0)
    reader.read()
    assert (reading.begun, reading.done, reading.refreshes) == (2, 2, 2)


def test_store_is_prepared_once_and_read_from_what_is_there(reader: Reader) -> None:
    reader.store.write({"LIMIT": "7"})
    base = after(reader.read())
    assert (reader.store.calls["prepare"], reader.store.read_from) == (1, [0])
    reader.read(base)
    reader.read(base, complete=True)
    assert (reader.store.calls["prepare"], reader.store.read_from) == (1, [0, 1, 0])


def test_first_read_and_one_after_a_touch_are_complete(reader: Reader) -> None:
    reader.store.write({"LIMIT": "7"})
    base = after(reader.store.read_since(0, ""))
    # The master has read it; this process has not.
    reader.read(base)
    reader.read(base)
    os.utime(reader.watch_file.path, ns=(1, 1_700_000_000 * 10**9))
    assert reader.reading.is_due(0.0)
    reader.read(base)
    reader.read(base)
    assert reader.store.read_from[1:] == [0, 1, 0, 1]


def test_lower_revision_of_the_same_store_is_read_completely_once(reader: Reader) -> None:
    reader.store.write({"LIMIT": "7"})
    reader.store.write({"LIMIT": "8"})
    base = after(reader.read())
    reader.store.revision, reader.store.rows = 1, {"LIMIT": ("7", 1)}
    delta = reader.read(base)
    assert (delta.revision, delta.complete) == (1, True)
    assert reader.store.read_from == [0, 2, 0]


def test_notice_asks_until_a_read_that_begins_after_it_succeeds(reader: Reader) -> None:
    reading = reader.reading
    reader.read()
    reading.ask()
    assert reading.is_asked
    assert reading.is_due(0.0)
    look = reading.look()
    reading.ask()
    reading.read(BASE, look, complete=False)
    reading.succeeded(look)
    assert reading.is_asked
    reader.read()
    assert not reading.is_asked


def test_store_that_fails_is_tried_again_ever_more_rarely(reader: Reader) -> None:
    reading = reader.reading
    waits = []
    for number in range(12):
        reader.fail(StoreUnavailable("down"))
        assert (reading.failing, reading.failures, reading.lost) == (True, number + 1, False)
        assert reading.is_due(100.0)
        began = reader.clock.now
        while not reading.may_try(IDENTITY):
            reader.clock.advance(0.01)
        waits.append(reader.clock.now - began)
    assert 0 < waits[0] < 0.2
    assert 0.9 < waits[-1] < 2.1
    text = reader.health.failing()["store"]
    assert text == "down; serving the declared defaults"
    reader.read()
    assert (reading.failing, reading.failures) == (False, 12)
    reader.fail(StoreUnavailable("down"))
    reader.clock.advance(0.2)
    # The back-off begins again.
    assert reading.may_try(IDENTITY)


def test_store_that_another_process_got_through_to_is_tried_at_once(reader: Reader) -> None:
    reading = reader.reading
    assert not reading.is_refuted(IDENTITY)
    reader.fail(StoreUnavailable("down"))
    assert not reading.may_try(IDENTITY)
    assert not reading.is_refuted(IDENTITY)
    assert reading.may_try(OTHER)
    assert reading.is_refuted(OTHER)
    reader.read()
    assert not reading.is_refuted(OTHER)
    assert reading.may_try(IDENTITY)


def test_failure_without_a_text_is_named_by_its_kind(reader: Reader) -> None:
    reader.fail(StoreLost())
    assert reader.reading.lost
    assert reader.health.failing()["store"].startswith("StoreLost; serving")
    reader.read()
    assert not reader.reading.lost


def test_read_of_another_thread_that_hangs_is_a_failure_once(reader: Reader) -> None:
    reading = reader.reading
    reading.blocked(StoreUnavailable("it takes long"), failing=True)
    assert (reading.failing, reading.failures) == (True, 0)
    assert reader.health.failing() == {"store": "it takes long"}
    reading.blocked(StoreUnavailable("another"), failing=False)
    assert (reading.failing, reader.health.failing()) == (True, {"store": "it takes long"})


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x")])
def test_whatever_a_store_raises_is_an_error_of_the_store(reader: Reader, error: Exception) -> None:
    reader.store.errors["read_since"] = error
    with pytest.raises(StoreError, match=type(error).__name__) as raised:
        reader.read()
    assert raised.value.__cause__ is error
    assert reader.reading.begun == 1
    assert reader.reading.done == 0


# --- the watch file -----------------------------------------------------------------------------


def test_watch_file_is_made_unless_the_process_only_reads(folder: Path) -> None:
    reads = Reader(folder, MemoryStore(), may_make=False)
    assert reads.reading.look().signature is None
    assert not reads.watch_file.path.exists()
    makes = Reader(folder, MemoryStore())
    look = makes.reading.look()
    assert look.signature == makes.watch_file.signature() is not None


def test_watch_file_that_was_lost_is_made_again_and_that_is_logged(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    reader.read()
    assert not caplog.messages
    reader.watch_file.path.unlink()
    reader.read()
    assert caplog.messages == [f"{reader.watch_file.path} was gone and was made again"]


def test_watch_file_that_can_not_be_made_fails_until_it_can(reader: Reader) -> None:
    reader.watch_file.path.mkdir()
    reader.watch_file.path.rmdir()
    reader.watch_file.path.symlink_to("nowhere")
    look = reader.reading.look()
    assert look.signature is not None
    reader.watch_file.path.unlink()
    folder = reader.watch_file.path.parent
    moved = folder.rename(folder.with_name("moved"))
    assert reader.reading.look().signature is None
    assert list(reader.health.failing()) == ["watch file"]
    moved.rename(folder)
    reader.read()
    assert reader.health.failing() == {}
    # Nor does a file that did not change hide that it works.
    reader.health.failed("watch file", "of before")
    reader.read()
    assert reader.health.failing() == {}


# --- the last known values ----------------------------------------------------------------------


def asked(answer: LastKnown | None) -> tuple[list[int], Callable[[], LastKnown | None]]:
    times: list[int] = []

    def ask() -> LastKnown | None:
        times.append(1)
        return answer

    return times, ask


def test_last_known_values_are_asked_for_once_and_offered_once(folder: Path) -> None:
    times, ask = asked(known())
    reading = Reader(folder, MemoryStore(), last_known=ask).reading
    assert reading.last_known(BASE, IDENTITY) == known()
    assert reading.source == "a disk"
    assert reading.last_known(BASE, IDENTITY) is None
    assert times == [1]


def test_last_known_values_are_not_asked_for_after_a_good_read(folder: Path) -> None:
    times, ask = asked(known())
    reader = Reader(folder, MemoryStore(), last_known=ask)
    reader.read()
    assert reader.reading.last_known(BASE, IDENTITY) is None
    assert (times, reader.reading.source) == ([], "store")


@pytest.mark.parametrize(
    ("epoch", "revision", "mark", "served_last", "taken"),
    [
        ("first", 4, "", "neither", True),
        ("first", 6, "", "neither", False),
        ("second", 6, "", "neither", True),
        # The same, but the file lacks the secrets.
        ("first", 5, "", "neither", False),
        ("first", 5, "another", "neither", True),
        # A backup was restored, before the master's read or after it.
        ("first", 4, "", "master", False),
        ("first", 6, "", "file", True),
        ("second", 6, "", "master", False),
    ],
)
def test_newer_of_master_and_last_known_values_is_served(
    folder: Path, epoch: str, revision: int, mark: str, served_last: str, taken: bool
) -> None:
    _, ask = asked(known())
    reading = Reader(folder, MemoryStore(), source="master", last_known=ask).reading
    base = after(Delta(revision, epoch, (), complete=True, mark=mark))
    identities = {
        "neither": IDENTITY,
        "master": identity_of(base),
        "file": identity_of(known().delta),
    }
    assert (reading.last_known(base, identities[served_last]) is not None) == taken
    assert reading.source == ("a disk" if taken else "master")


def test_epochs_that_a_host_knows_are_those_of_page_process_and_disk(folder: Path) -> None:
    base = after(Delta(1, "mine", (), complete=True))
    reading = Reader(
        folder, KeepingStore(), host_epoch=lambda: "ab" * 8, last_known=lambda: known("kept")
    ).reading
    assert reading.known_epochs(base) == {"ab" * 8, word_of("mine"), word_of("kept")}
    nothing = Reader(folder, KeepingStore()).reading
    assert nothing.known_epochs(BASE) == frozenset()


# --- stores that are known ----------------------------------------------------------------------


@pytest.mark.parametrize("by", ["page", "process", "disk"])
def test_store_that_is_known_is_neither_made_nor_replaced_by_another(folder: Path, by: str) -> None:
    store = KeepingStore()
    base = after(Delta(1, "known", (), complete=True)) if by == "process" else BASE
    reader = Reader(
        folder,
        store,
        host_epoch=lambda: word_of("known") if by == "page" else "",
        last_known=lambda: known("known") if by == "disk" else None,
    )
    with pytest.raises(StoreLost, match="is not the one that this host knows"):
        reader.read(base)
    assert store.calls["prepare"] == 0
    store.stands_for = frozenset({word_of("known")})
    assert reader.read(base).epoch == "first"
    assert store.calls["prepare"] == 0


@pytest.mark.parametrize("by", ["page", ""])
def test_store_that_is_missing_is_lost_if_it_was_known(folder: Path, by: str) -> None:
    store = KeepingStore()
    store.errors["read_since"] = StoreMissing("no table")
    reader = Reader(folder, store, host_epoch=lambda: word_of("first") if by else "")
    with pytest.raises(StoreLost if by else StoreMissing):
        reader.read()
    # It is made again as soon as none is known.
    before = store.calls["prepare"]
    store.errors.clear()
    reader.read()
    assert store.calls["prepare"] == before + (not by)


def test_process_that_only_reads_takes_a_missing_store_for_empty(folder: Path) -> None:
    store = KeepingStore()
    store.errors["read_since"] = StoreMissing("no table")
    reader = Reader(folder, store, may_make=False)
    assert reader.read() == Delta(0, "", (), complete=True)
    assert store.calls["prepare"] == 0
    users_own = MemoryStore()
    users_own.errors["read_since"] = StoreMissing("no table")
    with pytest.raises(StoreMissing):
        Reader(folder, users_own, may_make=False).read()
    assert users_own.calls["prepare"] == 1


def test_store_in_memory_is_known_by_this_process_alone(folder: Path) -> None:
    store = KeepingStore()
    store.outlives_process = False
    reader = Reader(
        folder, store, host_epoch=lambda: word_of("known"), last_known=lambda: known("kept")
    )
    base = after(reader.read())
    store.epoch = "second"
    with pytest.raises(StoreLost):
        reader.read(base)


def test_store_is_tried_again_as_soon_as_its_pause_is_over(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    reader.fail(StoreUnavailable("down"))
    failed_at = reader.clock.now
    reader.clock.advance(0.0625)
    assert not reader.reading.may_try(IDENTITY)
    reader.clock.now = failed_at + 0.1
    assert reader.reading.may_try(IDENTITY)


@pytest.mark.parametrize("revision", [-1, 2**63, 1.5, "5", None])
def test_revision_that_is_none_is_a_failed_read(folder: Path, revision: Any) -> None:
    store = MemoryStore()
    store.marks[revision] = ""
    store.revision = revision
    with pytest.raises(StoreError, match=f"is at {revision!r}, which is no revision"):
        Reader(folder, store).read()
