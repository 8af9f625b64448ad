"""The changes of one process: committed, applied, announced, and what of it can fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import (
    NotifierError,
    OutcomeUnknown,
    RevisionConflict,
    StoreError,
    StoreUnavailable,
)
from uwsgi_waffle.process.page import is_open
from uwsgi_waffle.snapshot import Delta
from uwsgi_waffle.stores import Committed
from uwsgi_waffle.stores.sqlite import SqliteStore

from ..support.rig import MemoryStore, Rig, StubNotifier


def test_own_change_is_applied_before_it_is_announced(folder: Path) -> None:
    remote = StubNotifier()
    rig = Rig(folder, remote=remote)
    assert rig.update(LIMIT=7) == 1
    assert rig.config["LIMIT"] == 7
    assert remote.announced == [1]
    assert rig.watch_file.mark().revision == 1


@pytest.mark.parametrize("error", [NotifierError("away"), RuntimeError("a bug")])
def test_change_stands_when_announcing_fails(
    folder: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    remote = StubNotifier()
    remote.error = error
    rig = Rig(folder, remote=remote)
    assert rig.update(LIMIT=7) == 1
    assert rig.memory.rows["LIMIT"][0] == "7"
    assert rig.config["LIMIT"] == 7
    assert rig.manager.health.failing() == {"announcing by stub": str(error)}
    assert str(error) in caplog.text
    remote.error = None
    rig.update(LIMIT=8)
    assert remote.announced == [2]
    assert rig.manager.health.state == "VALID"


def test_change_that_the_watch_file_could_not_announce_is_seen_on_the_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    here, there = Rig(folder, store=store), Rig(folder, store=store)
    there.begin_request()
    there.begin_request()
    monkeypatch.setattr(here.watch_file, "announce", StubNotifier.announce)
    here.update(LIMIT=7)
    assert "announcing by watch file" in here.manager.health.failing()
    assert there.begin_request()["LIMIT"] == 7


@pytest.mark.parametrize("error", [RuntimeError("a bug"), StoreUnavailable("RuntimeError: a bug")])
def test_whatever_a_store_raises_in_a_write_is_an_error_of_the_store(
    folder: Path, error: Exception
) -> None:
    rig = Rig(folder)
    rig.memory.errors["write"] = error
    with pytest.raises(StoreError, match="RuntimeError: a bug"):
        rig.update(LIMIT=7)
    assert not is_open(rig.manager.page.words())


@pytest.mark.parametrize("says", [True, False], ids=["before-its-commit", "never"])
def test_outcome_is_unknown_of_what_is_raised_after_a_store_may_have_committed(
    folder: Path, says: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(folder)
    does = rig.memory.write

    def do_and_fail(*given: Any, **more: Any) -> None:
        does(*given, **more)
        raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(rig.memory, "write", do_and_fail)
    monkeypatch.setattr(rig.memory, "calls_before_commit", says)
    with pytest.raises(OutcomeUnknown, match=r"ValueError: I/O .*; the change may have been made"):
        rig.update(LIMIT=7)
    assert rig.begin_request()["LIMIT"] == 7


class Cancelled(BaseException):
    """As gevent.Timeout and asyncio.CancelledError are."""


@pytest.mark.parametrize(
    ("within", "error"),
    [
        ("write", OutcomeUnknown("broke")),
        ("write", Cancelled()),
        ("read_since", Cancelled()),
    ],
)
def test_change_that_was_made_though_it_raised_is_announced_by_the_watcher(
    folder: Path, within: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = StubNotifier()
    rig = Rig(folder, remote=remote)
    rig.begin_request()

    does = getattr(rig.memory, within)

    def do_and_fail(*given: Any, **more: Any) -> None:
        does(*given, **more)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(rig.memory, within, do_and_fail)
        with pytest.raises(type(error)):
            rig.update(LIMIT=7)
    rig.manager.follow(None)
    assert remote.announced == [1]
    assert rig.begin_request()["LIMIT"] == 7
    rig.manager.follow(None)
    assert remote.announced == [1]


def test_failed_write_changes_and_announces_nothing(folder: Path) -> None:
    remote = StubNotifier()
    rig = Rig(folder, remote=remote)
    rig.begin_request()
    mark = rig.watch_file.mark()
    rig.memory.error = StoreUnavailable("down")
    with pytest.raises(StoreUnavailable):
        rig.update(LIMIT=7)
    assert rig.config["LIMIT"] == 10
    assert remote.announced == []
    assert rig.watch_file.mark() == mark


def test_conflict_changes_and_announces_nothing(rig: Rig) -> None:
    rig.update(LIMIT=7)
    mark = rig.watch_file.mark()
    with pytest.raises(RevisionConflict) as caught:
        rig.manager.changes.commit({"LIMIT": "8"}, author=None, reason=None, expected_revision=0)
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    assert rig.config["LIMIT"] == 7
    assert rig.watch_file.mark() == mark


class ReadFails(MemoryStore):
    reading = True

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        if not self.reading:
            raise StoreUnavailable("no read")
        return super().read_since(revision, epoch)


def test_own_change_whose_read_and_announcement_fail_is_seen_after_the_backoff(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ReadFails()
    rig = Rig(folder, store=store)
    rig.begin_request()
    monkeypatch.setattr(rig.watch_file, "announce", StubNotifier.announce)
    store.reading = False
    assert rig.update(LIMIT=7) == 1
    store.reading = True
    rig.clock.advance(2.0)
    assert rig.begin_request()["LIMIT"] == 7


def test_own_change_is_not_read_completely_again(rig: Rig) -> None:
    rig.begin_request()
    rig.update(LIMIT=7)
    rig.update(LIMIT=8)
    rig.begin_request()
    # 0 means all: only while the revision was 0 itself.
    assert rig.memory.read_from == [0, 0, 1, 2]


@pytest.fixture
def rigs(folder: Path) -> tuple[Rig, Rig]:
    """Two processes of one host on one store."""
    one = Rig(folder)
    return one, Rig(folder, store=one.memory)


def test_conflict_names_a_revision_that_is_on_the_page(rigs: tuple[Rig, Rig]) -> None:
    one, other = rigs
    for rig in rigs:
        rig.begin_request()
        rig.begin_request()
    # Another host's change, which nobody here has seen.
    one.changed_silently(LIMIT=7)
    assert other.begin_request()["LIMIT"] == 10
    with pytest.raises(RevisionConflict) as conflict:
        one.manager.changes.commit({"LIMIT": "8"}, author=None, reason=None, expected_revision=0)
    assert conflict.value.actual == 1
    assert other.begin_request().revision == 1


class Plain(MemoryStore):
    """A user's own store, which knows nothing of the page, and no marks."""

    calls_before_commit = False

    def __init__(self) -> None:
        super().__init__()
        self.during_write: Callable[[], object] = lambda: None

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        since = 0 if epoch != self.epoch else revision
        delta = super().read_since(0, "")
        rows = tuple(row for row in delta.rows if self.rows[row.name][1] > since)
        return delta._replace(rows=rows, complete=not since, mark="")

    def write(self, raws: Mapping[str, str | None], **more: Any) -> int:
        assert "before_commit" not in more
        self.during_write()
        return super().write(raws, **more)


def test_page_shows_a_change_of_a_store_that_knows_no_page(folder: Path) -> None:
    store = Plain()
    rig = Rig(folder, store=store)
    rig.begin_request()
    seen: list[bool] = []
    store.during_write = lambda: seen.append(is_open(rig.manager.page.words()))
    rig.update(LIMIT=7)
    assert seen == [True]
    assert not is_open(rig.manager.page.words())


def test_change_that_gets_the_revision_it_had_before_reads_everything(folder: Path) -> None:
    store = Plain()
    rig = Rig(folder, store=store)
    rig.update(LIMIT=7)
    rig.update(SITENAME="lost")
    # A backup is put back, which nobody has noticed yet.
    store.revision, store.rows = 1, {"LIMIT": ("5", 1)}
    assert rig.update(TOKEN="new") == 2
    assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (5, "Shop")


def test_own_change_is_applied_though_the_store_could_not_be_read_just_before(
    settled: Rig,
) -> None:
    settled.memory.error = StoreUnavailable("down")
    with pytest.raises(StoreUnavailable):
        settled.manager.refresh()
    settled.memory.error = None
    settled.update(LIMIT=7)
    assert settled.config["LIMIT"] == 7


@pytest.mark.parametrize("way", ["commit", "recreate"])
def test_process_that_only_read_makes_what_is_missing_for_its_change(
    folder: Path, way: str
) -> None:
    rig = Rig(folder, store=SqliteStore(folder / "waffle.db"))
    manager = rig.manager
    manager.page.may_make = manager.reading.may_make = False
    if way == "commit":
        rig.update(LIMIT=7)
    else:
        manager.changes.recreate(None, [], revision=None)
    assert manager.may_make
    assert rig.watch_file.path.exists()
    rig.store.close()


class Reporting(MemoryStore):
    """A store that reports what it has committed."""

    reports_committed = True

    def __init__(self) -> None:
        super().__init__()
        self.after_commit: Callable[[], object] = lambda: None

    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        committed: Callable[[Committed], None] | None = None,
        **more: Any,
    ) -> int:
        revision = super().write(raws, **more)
        known = revision - 1, self.marks[revision - 1]
        if committed is not None:
            committed(Committed(*known, self._read(known[0], self.epoch, known[1])))
        self.after_commit()
        return revision


@pytest.fixture
def reporting(folder: Path) -> Rig:
    """A process that has read its store, which is at revision 1."""
    rig = Rig(folder, store=Reporting())
    rig.changed_silently(LIMIT=1)
    rig.begin_request()
    return rig


def reads_of(rig: Rig, **values: object) -> int:
    """Return how often the store is read for a change."""
    assert isinstance(rig.store, MemoryStore)
    before = rig.store.calls["read_since"]
    revision = rig.update(**values)
    assert revision == rig.store.revision
    assert rig.config.items() >= values.items()
    assert rig.manager.snapshot.revision == revision
    assert rig.manager.is_current()
    assert not is_open(rig.manager.page.words())
    return rig.store.calls["read_since"] - before


def test_own_change_is_not_read_back_if_nothing_else_happened(reporting: Rig) -> None:
    assert reads_of(reporting, LIMIT=7) == 0
    assert reads_of(reporting, LIMIT=8, SITENAME="Shop") == 0
    assert reporting.begin_request().revision == 3


def test_own_change_is_read_back_with_what_others_changed_before(reporting: Rig) -> None:
    reporting.changed_silently(SITENAME="Other")
    assert reads_of(reporting, LIMIT=7) == 1
    assert reporting.config["SITENAME"] == "Other"


def test_own_change_is_read_back_if_others_marked_the_page_meanwhile(reporting: Rig) -> None:
    store = reporting.store
    assert isinstance(store, Reporting)
    other = Rig(reporting.watch_file.path.parent, store=store)

    def overtake() -> None:
        store.after_commit = lambda: None
        reporting.changed_silently(SITENAME="Other")
        other.manager.refresh()

    store.after_commit = overtake
    assert reporting.update(LIMIT=7) == 2
    assert reporting.manager.snapshot.revision == 3
    assert reporting.config["SITENAME"] == "Other"


@pytest.mark.parametrize("epoch", ["other", "first"])
def test_own_change_to_another_store_is_read_back(reporting: Rig, epoch: str) -> None:
    store = reporting.store
    assert isinstance(store, MemoryStore)
    # At the same revision, by its epoch or its mark alone another one.
    store.epoch = epoch
    store.marks[1] = "another"
    assert reads_of(reporting, LIMIT=7) == 1


def test_own_change_is_read_back_by_a_process_that_has_not_read_or_whose_store_failed(
    folder: Path,
) -> None:
    store = Reporting()
    rig = Rig(folder, store=store)
    assert reads_of(rig, LIMIT=7) == 1
    # At revision 0 there is no mark.
    store.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        rig.manager.refresh()
    store.error = None
    assert reads_of(rig, LIMIT=8) == 1
    assert rig.manager.health.state == "VALID"


def test_touch_of_the_watch_file_is_still_noticed_after_an_own_change(reporting: Rig) -> None:
    store = reporting.store
    assert isinstance(store, MemoryStore)
    # As by hand, without a new revision.
    store.rows["SITENAME"] = '"Corrected"', 1
    later = reporting.watch_file.path.stat().st_mtime_ns + 5_000_000_000
    os.utime(reporting.watch_file.path, ns=(later, later))
    reads_of(reporting, LIMIT=7)
    assert reporting.begin_request()["SITENAME"] == "Corrected"
