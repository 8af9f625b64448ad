"""A host keeps its last good settings, and serves them while the store can't be read."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import StoreUnavailable, setting_changed
from uwsgi_waffle.process.reading import LastKnown
from uwsgi_waffle.reporting import last_known
from uwsgi_waffle.reporting.last_known import PART, Keeper, LastKnownFile
from uwsgi_waffle.snapshot import Delta, Row, Snapshot
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing import in_processes

from ..support.children import child_that
from ..support.rig import NOBODY, MemoryStore, Rig, Worker, ordinary_user, wait_until


@pytest.fixture
def rig(folder: Path) -> Rig:
    return Rig(folder)


def make_file(rig: Rig, **options: Any) -> LastKnownFile:
    made: dict[str, Any] = {"app": "shop", "store": "sqlite:///x", **options}
    return LastKnownFile(rig.watch_file.path, declarations=rig.declarations, **made)


@pytest.fixture
def file(rig: Rig) -> LastKnownFile:
    return make_file(rig)


def snapshot_at(revision: int, epoch: str = "first", **stored: str) -> Snapshot:
    return Snapshot(revision, epoch, {}, stored)


def known(file: LastKnownFile) -> dict[str, str | None]:
    found = file.load()
    assert found is not None
    assert found.delta.complete
    return dict(found.delta.rows)


# The file.


def test_file_lies_beside_the_watch_file_and_belongs_to_one_app(rig: Rig) -> None:
    assert make_file(rig).path.name == "waffle.watch.shop.last"
    assert make_file(rig, app="../a/b").path.parent == rig.watch_file.path.parent


def test_what_was_kept_is_loaded(file: LastKnownFile) -> None:
    assert file.load() is None
    assert file.keep(snapshot_at(7, SITENAME='"Zürich"', LIMIT="5"))
    rows = (Row("SITENAME", '"Zürich"'), Row("LIMIT", "5"))
    assert file.load() == LastKnown(Delta(7, "first", rows, complete=True), str(file.path))


def test_file_is_for_its_owner_only(file: LastKnownFile) -> None:
    old = os.umask(0)
    try:
        file.keep(snapshot_at(1))
        file.keep(snapshot_at(2))
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    names = ["waffle.page", file.path.name, lock_of(file).name]
    assert sorted(os.listdir(file.path.parent)) == names


def test_secret_and_undeclared_settings_are_left_out(rig: Rig, file: LastKnownFile) -> None:
    snapshot = snapshot_at(1, TOKEN='"top"', LIMIT="5", GONE='"once a secret"')
    file.keep(snapshot)
    assert known(file) == {"LIMIT": "5"}
    text = file.path.read_text()
    assert "top" not in text
    assert "once" not in text
    asked = make_file(rig, secrets=True)
    asked.keep(snapshot)
    assert known(asked) == {"TOKEN": '"top"', "LIMIT": "5", "GONE": '"once a secret"'}
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_what_this_host_no_longer_serves_is_not_kept(file: LastKnownFile) -> None:
    file.keep(snapshot_at(5, LIMIT="5"))
    assert not file.keep(snapshot_at(4, LIMIT="4"), lambda: False)
    assert known(file) == {"LIMIT": "5"}


def test_lower_revision_that_this_host_serves_replaces_a_higher_one(folder: Path) -> None:
    # A backup was restored: a start without the store must not serve what was lost.
    store = MemoryStore()
    one, two = Rig(folder, store=store), Rig(folder, store=store)
    keepers = [Keeper(rig.manager, make_file(rig), clock=rig.clock) for rig in (one, two)]
    one.update(LIMIT=5)
    one.update(LIMIT=6)
    keepers[0].turn()
    assert known(make_file(one)) == {"LIMIT": "6"}
    store.revision, store.rows = 1, {"LIMIT": ("5", 1)}
    two.begin_request()
    for keeper in keepers:
        keeper.end()
    assert known(make_file(one)) == {"LIMIT": "5"}


def test_file_that_holds_it_already_is_not_written_again(file: LastKnownFile) -> None:
    file.keep(snapshot_at(5, LIMIT="5"))
    before = file.path.stat()
    file.keep(snapshot_at(5, LIMIT="5"))
    after = file.path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_release_that_declares_more_completes_the_same_revision(
    rig: Rig, file: LastKnownFile
) -> None:
    file.keep(snapshot_at(5))
    file.keep(snapshot_at(5, LIMIT="5"))
    assert known(file) == {"LIMIT": "5"}


def test_many_processes_leave_what_the_host_serves(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "settings.db"

    def keep(number: int) -> int:
        rig = Rig(folder, store=SqliteStore(path))
        rig.begin_request()
        keeper = Keeper(rig.manager, make_file(rig), clock=rig.clock)
        for step in range(10):
            rig.update(LIMIT=1 + number * 10 + step)
            keeper.end()
        return number

    assert sorted(in_processes(4, keep)) == [0, 1, 2, 3]
    rig = Rig(folder, store=SqliteStore(path))
    rig.begin_request()
    last = Keeper(rig.manager, make_file(rig), clock=rig.clock)
    last.end()
    assert known(make_file(rig)) == rig.manager.snapshot.stored
    rig.store.close()


def lock_of(file: LastKnownFile) -> Path:
    return file.path.with_name(f"{file.path.name}.{file.path.parent.stat().st_uid}.lock")


def test_another_process_at_the_file_is_not_waited_for(file: LastKnownFile) -> None:
    lock = os.open(lock_of(file), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not file.keep(snapshot_at(1))
        assert not file.path.exists()
    finally:
        os.close(lock)
    assert file.keep(snapshot_at(1))


def test_lock_of_another_user_on_the_folder_stops_nothing(file: LastKnownFile) -> None:
    folder = os.open(file.path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert file.keep(snapshot_at(1))
    finally:
        os.close(folder)
    assert stat.S_IMODE(lock_of(file).stat().st_mode) == 0o600


def test_file_that_is_not_replaced_for_long_is_reported(rig: Rig, file: LastKnownFile) -> None:
    keeper = Keeper(rig.manager, file, clock=rig.clock)
    rig.update(LIMIT=5)
    lock = os.open(lock_of(file), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(60):
            keeper.turn()
            assert PART not in rig.manager.health.failing()
            rig.clock.advance(1)
        keeper.turn()
        assert "has not been replaced for 60 s" in rig.manager.health.failing()[PART]
    finally:
        os.close(lock)
    rig.clock.advance(2)
    keeper.turn()
    assert PART not in rig.manager.health.failing()
    assert known(file) == {"LIMIT": "5"}


def test_leftover_of_a_crash_and_a_planted_link_are_replaced(
    file: LastKnownFile, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    new = lock_of(file).with_suffix(".new")
    new.symlink_to(target)
    file.path.symlink_to(target)
    assert file.keep(snapshot_at(1, LIMIT="5"))
    assert target.read_text() == "precious"
    assert not file.path.is_symlink()
    assert known(file) == {"LIMIT": "5"}


def test_failed_write_leaves_the_old_file_and_no_other(
    file: LastKnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.keep(snapshot_at(1, LIMIT="5"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.keep(snapshot_at(2, LIMIT="6"))
    assert known(file) == {"LIMIT": "5"}
    names = ["waffle.page", file.path.name, lock_of(file).name]
    assert sorted(os.listdir(file.path.parent)) == names


GOOD: dict[str, Any] = {
    "format": 2,
    "store": "sqlite:///x",
    "revision": 3,
    "epoch": "first",
    "mark": "",
    "raws": {"LIMIT": "5"},
}


def test_good_file_by_hand_is_loaded(file: LastKnownFile) -> None:
    file.path.write_text(json.dumps(GOOD))
    file.path.chmod(0o600)
    assert known(file) == {"LIMIT": "5"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1, 2]",
        b"null",
        b"[" * 100_000,
        json.dumps({**GOOD, "format": 3}).encode(),
        json.dumps({**GOOD, "revision": -1}).encode(),
        json.dumps({**GOOD, "revision": "3"}).encode(),
        json.dumps({**GOOD, "revision": 2**63}).encode(),
        json.dumps({**GOOD, "raws": {"LIMIT": 5}}).encode(),
        json.dumps({**GOOD, "store": "sqlite:///other"}).encode(),
        json.dumps({**GOOD, "more": 1}).encode(),
        json.dumps(GOOD).encode()[:-5],
    ],
)
def test_unusable_file_is_ignored_with_a_warning(
    file: LastKnownFile, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.path.write_bytes(text)
    file.path.chmod(0o600)
    assert file.load() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(file.path) in record.getMessage()
    # And a good one takes its place.
    assert file.keep(snapshot_at(1, LIMIT="6"))
    assert known(file) == {"LIMIT": "6"}


def test_oversized_file_is_neither_read_nor_written(
    file: LastKnownFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file.keep(snapshot_at(1, LIMIT="5"))
    monkeypatch.setattr(last_known, "MAX_BYTES", 50)
    assert file.load() is None
    assert "larger than 50 bytes" in caplog.text
    with pytest.raises(OSError, match="more than 50 bytes"):
        file.keep(snapshot_at(2, LIMIT="5"))
    monkeypatch.setattr(last_known, "MAX_BYTES", file.path.stat().st_size)
    assert known(file) == {"LIMIT": "5"}
    assert file.keep(snapshot_at(2, LIMIT="6"))
    assert known(file) == {"LIMIT": "6"}


def _as_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        *(_as_link, _as_pipe, _as_folder),
        *(lambda path: path.chmod(0o620), lambda path: path.chmod(0o602)),
    ],
)
def test_file_that_others_may_have_made_is_ignored(
    file: LastKnownFile, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    file.keep(snapshot_at(1, LIMIT="5"))
    spoil(file.path)
    assert file.load() is None
    assert "is ignored" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_file_of_another_user_is_ignored(
    file: LastKnownFile, caplog: pytest.LogCaptureFixture
) -> None:
    file.keep(snapshot_at(1, LIMIT="5"))
    os.chown(file.path, NOBODY, NOBODY)
    assert file.load() is None
    assert "it belongs to user" in caplog.text


def test_unreadable_file_is_ignored_and_replaced(open_folder: Path) -> None:
    """As after a command of root's."""
    file = make_file(Rig(open_folder))
    file.path.write_text(json.dumps(GOOD))
    file.path.chmod(0o000)
    with ordinary_user():
        assert file.load() is None
        assert file.keep(snapshot_at(4, LIMIT="6"))
        assert known(file) == {"LIMIT": "6"}


# The chore.


class Keeping:
    """A keeper with everything around it in a test's hand."""

    def __init__(self, rig: Rig, file: LastKnownFile) -> None:
        self.rig = rig
        self.file = file
        self.keeper = Keeper(rig.manager, file, clock=rig.clock)

    def turn(self, seconds: float = 0.0) -> None:
        self.rig.clock.advance(seconds)
        self.keeper.turn()


@pytest.fixture
def keeping(rig: Rig, file: LastKnownFile) -> Keeping:
    return Keeping(rig, file)


def test_defaults_are_no_last_good(keeping: Keeping) -> None:
    keeping.turn()
    keeping.rig.memory.error = StoreUnavailable("down")
    keeping.rig.begin_request()
    keeping.turn(10)
    assert not keeping.file.path.exists()


def test_each_revision_is_kept_at_most_once_a_second(keeping: Keeping) -> None:
    keeping.rig.update(LIMIT=1)
    keeping.turn()
    for number in range(2, 6):
        keeping.rig.update(LIMIT=number)
        keeping.turn(0.2)
    assert known(keeping.file) == {"LIMIT": "1"}
    keeping.turn(0.2)
    assert known(keeping.file) == {"LIMIT": "5"}


def test_end_keeps_what_the_last_second_brought(keeping: Keeping) -> None:
    keeping.rig.update(LIMIT=1)
    keeping.turn()
    keeping.rig.update(LIMIT=2)
    keeping.keeper.end()
    assert known(keeping.file) == {"LIMIT": "2"}


def test_settings_that_are_too_much_do_not_blame_the_folder(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_known, "MAX_BYTES", 50)
    keeping.rig.update(LIMIT=1)
    keeping.turn()
    text = keeping.rig.manager.health.failing()[PART]
    assert "take more than" in text
    assert "writable" not in text
    assert keeping.rig.manager.health.state == "VALID"
    monkeypatch.undo()
    keeping.turn(120)
    assert known(keeping.file) == {"LIMIT": "1"}
    assert PART not in keeping.rig.manager.health.failing()


def test_second_failure_is_tried_again_as_soon_as_the_first(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> bool:
        raise OSError(28, "no room")

    def tries(seconds: float) -> bool:
        keeping.turn(seconds)
        return "can't be written" in keeping.rig.manager.health.failing().get(PART, "")

    with monkeypatch.context() as patch:
        patch.setattr(LastKnownFile, "keep", full)
        for number in range(8):
            keeping.rig.update(LIMIT=number + 1)
            assert tries(120.0)
    assert not tries(120.0)
    keeping.rig.update(LIMIT=100)
    with monkeypatch.context() as patch:
        patch.setattr(LastKnownFile, "keep", full)
        assert tries(1.1)
    assert not tries(2.1)


def test_file_is_not_opened_again_for_what_it_holds(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.rig.update(LIMIT=1)
    keeping.turn()
    monkeypatch.delattr(LastKnownFile, "keep")
    keeping.turn(10)


def test_override_of_a_test_is_not_kept(keeping: Keeping) -> None:
    keeping.rig.update(LIMIT=1)
    with keeping.rig.manager.override({"LIMIT": 9}):
        keeping.turn()
    assert known(keeping.file) == {"LIMIT": "1"}


def test_failure_is_logged_once_shown_and_harmless(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    keeping.rig.update(LIMIT=1)
    folder = keeping.file.path.parent
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    for _ in range(300):
        keeping.turn(0.2)
    health = keeping.rig.manager.health
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WAFFLE_WATCHER_FILE" in health.failing()[PART]
    assert health.state.value == "VALID"
    hidden.rename(folder)
    keeping.turn(60)
    assert known(keeping.file) == {"LIMIT": "1"}
    assert health.failing() == {}


# In a process that starts.


def kept_by(worker: Worker) -> dict[str, Any]:
    path = worker.state.options.watcher_file.with_name("waffle.watch.shop.last")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_process_that_starts_while_the_store_is_down_serves_the_last_known(
    make_worker: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    make_worker(store=store).waffle.update({"SITENAME": "Kept", "LIMIT": 7, "TOKEN": "top-secret"})
    store.error = StoreUnavailable("it is down")
    caplog.clear()
    late = make_worker(store=store)
    status = late.waffle.status()
    path = late.state.options.watcher_file.with_name("waffle.watch.shop.last")
    assert late.app.config["SITENAME"] == "Kept"
    assert late.get("LIMIT") == 7
    # A secret is at its default: it was not to be written anywhere.
    assert late.app.config["TOKEN"] == "hush"
    assert (status.state.value, status.revision) == ("INTERRUPTED", 1)
    assert status.source == str(path)
    assert f"serving the last known values of revision 1 from {path}" in status.failing["store"]
    (record,) = caplog.records
    assert status.failing["store"] in record.getMessage()

    # Complete: it catches up with what the file lacks at the same revision.
    store.error = None
    heard: list[str] = []

    def hear(app: object, *, name: str, **_: object) -> None:
        heard.append(name)

    with setting_changed.connected_to(hear, sender=late.app):
        late.waffle.refresh()
    assert store.read_from[-1] == 0
    assert late.get("TOKEN") == "top-secret"
    assert heard == ["TOKEN"]
    status = late.waffle.status()
    assert (status.state.value, status.source, status.failing) == ("VALID", "store", {})


def test_secrets_are_served_from_the_file_if_that_is_asked_for(
    make_worker: Callable[..., Worker],
) -> None:
    store = MemoryStore()
    make_worker(store=store, WAFFLE_SNAPSHOT_SECRETS=True).waffle.update({"TOKEN": "top-secret"})
    store.error = StoreUnavailable("it is down")
    assert make_worker(store=store, WAFFLE_SNAPSHOT_SECRETS=True).get("TOKEN") == "top-secret"


def test_process_without_any_file_serves_the_defaults(make_worker: Callable[..., Worker]) -> None:
    store = MemoryStore()
    store.error = StoreUnavailable("it is down")
    worker = make_worker(store=store)
    assert worker.get("SITENAME") == "Shop"
    assert worker.waffle.status().source == "defaults"


def test_kept_value_that_no_longer_fits_is_a_fault_and_its_default_is_served(
    make_worker: Callable[..., Worker],
) -> None:
    store = MemoryStore()
    make_worker(store=store).waffle.update({"LIMIT": 1000, "SITENAME": "Kept"})
    store.error = StoreUnavailable("it is down")
    confs = {
        "SITENAME": {"desc": "Name", "default": "Shop"},
        "LIMIT": {"desc": "Limit", "default": 10, "max": 100},
    }
    late = make_worker(store=store, confs=confs)
    assert late.app.config["LIMIT"] == 10
    assert late.app.config["SITENAME"] == "Kept"
    assert "LIMIT" in late.waffle.status().faults


def test_file_is_read_at_the_first_failure_only(make_worker: Callable[..., Worker]) -> None:
    """A running worker's own snapshot is newer than any file."""
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 7})
    kept = kept_by(worker)
    path = worker.state.options.watcher_file.with_name("waffle.watch.shop.last")
    path.write_text(json.dumps({**kept, "revision": 99, "raws": {"LIMIT": "99"}}))
    store.error = StoreUnavailable("it is down")
    with pytest.raises(StoreUnavailable):
        worker.waffle.refresh()
    assert worker.get("LIMIT") == 7
    assert worker.waffle.status().source == "store"


@pytest.mark.parametrize(("revision", "served"), [(9, 90), (1, 50)])
def test_forked_worker_takes_the_newer_of_file_and_master(
    folder: Path, revision: int, served: int
) -> None:
    kept = LastKnown(Delta(revision, "first", (Row("LIMIT", "90"),), True), "a file")
    rig = Rig(folder)
    rig.update(LIMIT=50)
    rig.update(LIMIT=50)
    master = rig.manager.snapshot
    child = Rig(folder, last_known=lambda: kept, snapshot=master)
    child.memory.error = StoreUnavailable("down")
    # Neither is what the page names.
    child.manager.page.mark(b"anothers", 8)
    assert child.manager.current()["LIMIT"] == served
    assert child.manager.reading.source == ("a file" if served == 90 else "master")


def test_forked_worker_names_where_the_settings_of_its_parent_come_from(folder: Path) -> None:
    kept = LastKnown(Delta(1, "first", (Row("LIMIT", "90"),), True), "a file")
    parent = Rig(folder, last_known=lambda: kept)
    assert parent.manager.source_after_fork == "defaults"
    parent.memory.error = StoreUnavailable("down")
    assert parent.manager.current()["LIMIT"] == 90
    assert parent.manager.source_after_fork == "a file"
    parent.memory.error = None
    parent.manager.refresh()
    assert parent.manager.source_after_fork == "master"


def test_watcher_keeps_what_another_process_changed(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker(WAFFLE_POLL_INTERVAL=0.005)
    worker.waffle.start()
    path = worker.state.options.watcher_file.with_name("waffle.watch.shop.last")
    wait_until(path.exists)
    in_processes(1, lambda _: worker.waffle.update({"LIMIT": 8}))
    wait_until(lambda: kept_by(worker)["raws"] == {"LIMIT": "8"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in others' folders unasked")
def test_file_that_roots_command_makes_belongs_to_the_folders_owner(
    open_folder: Path, make_worker: Callable[..., Worker]
) -> None:
    os.chown(open_folder, NOBODY, NOBODY)
    make_worker(where=open_folder).waffle.update({"LIMIT": 8})
    (path,) = open_folder.glob("*.last")
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


# What only a look at the system shows.


def test_file_may_hold_16_mib() -> None:
    assert last_known.MAX_BYTES == 16 * 2**20


def test_file_is_on_the_disk_before_it_has_its_name(
    file: LastKnownFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        assert not file.path.exists()
        flushed.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    file.keep(snapshot_at(1, LIMIT="5"))
    assert flushed == [file.path.stat().st_size]


def _own_descriptors(*paths: Path) -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)"))
    return [name for name in found if name in map(str, paths)]


def test_no_descriptor_is_left_open(file: LastKnownFile) -> None:
    assert file.keep(snapshot_at(1, LIMIT="5"))
    with lock_of(file).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert not file.keep(snapshot_at(2, LIMIT="6"))
    assert file.keep(snapshot_at(2, LIMIT="6"))
    assert known(file) == {"LIMIT": "6"}
    file.path.chmod(0o602)
    assert file.load() is None
    assert _own_descriptors(file.path, lock_of(file), file.path.parent) == []


def test_lock_that_others_could_open_is_closed_to_them(file: LastKnownFile) -> None:
    lock_of(file).touch()
    lock_of(file).chmod(0o666)
    assert file.keep(snapshot_at(1))
    assert stat.S_IMODE(lock_of(file).stat().st_mode) == 0o600


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork()
def test_child_that_was_forked_while_it_is_held_keeps_no_one_away(file: LastKnownFile) -> None:
    with contextlib.ExitStack() as stack:

        def is_current() -> bool:
            stack.enter_context(child_that(lambda: None))
            return True

        assert file.keep(snapshot_at(1, LIMIT="5"), is_current)
        assert file.keep(snapshot_at(2, LIMIT="6"))
    assert known(file) == {"LIMIT": "6"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_file_of_root_is_read_by_the_owner_of_the_folder(open_folder: Path) -> None:
    file = make_file(Rig(open_folder))
    assert file.keep(snapshot_at(1, LIMIT="5"))
    # The lock is that of the folder's owner, too, who keeps the file from then on.
    assert {path.name for path in open_folder.glob("*.lock")} == {lock_of(file).name}
    assert (lock_of(file).stat().st_uid, lock_of(file).stat().st_gid) == (NOBODY, NOBODY)
    with ordinary_user():
        assert file.keep(snapshot_at(2, LIMIT="6"))
    os.chown(file.path, 0, 0)
    file.path.chmod(0o644)
    with ordinary_user():
        assert known(file) == {"LIMIT": "6"}


def test_pauses_after_failures_grow_to_a_minute(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def full(*args: object) -> bool:
        tried.append(keeping.rig.clock())
        raise OSError(28, "no room")

    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    monkeypatch.setattr(LastKnownFile, "keep", full)
    keeping.rig.update(LIMIT=1)
    while len(tried) < 8:
        keeping.turn(1.0)
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert "can't be written (no room)" in keeping.rig.manager.health.failing()[PART]


def test_file_that_was_replaced_in_between_is_not_reported(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = keeping.rig.manager.health

    def refused(seconds: float) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(LastKnownFile, "keep", lambda *args: False)
            keeping.turn(seconds)

    keeping.rig.update(LIMIT=1)
    refused(0.0)
    refused(50.0)
    keeping.turn(1.0)
    keeping.rig.update(LIMIT=2)
    refused(20.0)
    assert PART not in health.failing()
    refused(60.0)
    assert "has not been replaced for 60 s" in health.failing()[PART]
    assert health.state.value == "VALID"
