"""The manager: what one process reads, when it reads it, and what it applies."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import StoreError, StoreUnavailable
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers.file import FileNotifier, Signature
from uwsgi_waffle.process.manager import NOTICE_PAUSE_S
from uwsgi_waffle.process.page import Page
from uwsgi_waffle.snapshot import Delta

from ..support.rig import MemoryStore, Rig


def reads(rig: Rig) -> int:
    return rig.memory.calls["read_since"]


# --- freshness at request start ---------------------------------------------------------------


def test_first_request_reads_the_store(rig: Rig) -> None:
    rig.changed_elsewhere(SITENAME="New")
    assert rig.begin_request()["SITENAME"] == "New"
    assert rig.config["SITENAME"] == "New"
    assert rig.manager.health.state == "VALID"


def test_change_elsewhere_is_seen_at_the_next_request_start(rig: Rig) -> None:
    for number in range(1, 6):
        rig.changed_elsewhere(LIMIT=number)
        assert rig.begin_request().revision == number
        assert rig.config["LIMIT"] == number


def test_request_without_news_reads_nothing(rig: Rig) -> None:
    rig.begin_request()
    # What this process put on the page itself is confirmed once.
    rig.begin_request()
    before = reads(rig)
    for _ in range(100):
        rig.begin_request()
    assert reads(rig) == before


def test_only_newer_rows_are_read(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=1)
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=2)
    rig.begin_request()
    assert rig.memory.read_from[-1] == 1
    assert rig.applied[-1] == {"LIMIT": 2}


def test_one_refresh_of_a_thousand_settings_is_one_read(folder: Path) -> None:
    confs = {f"S{number}": {"desc": "d", "default": 0} for number in range(1000)}
    rig = Rig(folder, confs=confs)
    rig.begin_request()
    before = reads(rig)
    rig.changed_elsewhere(**dict.fromkeys(confs, 7))
    rig.begin_request()
    assert reads(rig) == before + 1
    assert set(rig.config.values()) == {7}


def test_store_that_was_made_anew_is_read_completely(rig: Rig) -> None:
    rig.changed_elsewhere(SITENAME="Old", LIMIT=7)
    rig.begin_request()
    rig.memory.epoch, rig.memory.revision, rig.memory.rows = "second", 0, {}
    rig.changed_elsewhere(LIMIT=8)
    snapshot = rig.begin_request()
    assert (snapshot.revision, snapshot["SITENAME"], snapshot["LIMIT"]) == (1, "Shop", 8)


def test_store_put_back_to_an_earlier_revision_is_followed(rig: Rig) -> None:
    rig.changed_elsewhere(LIMIT=7)
    rig.changed_elsewhere(LIMIT=8)
    rig.begin_request()
    rig.memory.revision, rig.memory.rows = 1, {"LIMIT": ("7", 1)}
    rig.watch_file.announce(1)
    assert rig.begin_request()["LIMIT"] == 7


def test_change_between_the_settled_flag_and_the_look_at_the_file_is_not_missed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A request has asked whether all is settled; before it looks at the file, the watcher reads
    # a change, and may not apply it. The request must not take the old values for current.
    manager = rig.manager
    rig.begin_request()
    rig.idle = False
    rig.changed_elsewhere(LIMIT=7)
    look = rig.watch_file.signature

    def signature() -> Signature | None:
        monkeypatch.undo()
        manager.follow(None)
        return look()

    monkeypatch.setattr(rig.watch_file, "signature", signature)
    assert rig.begin_request()["LIMIT"] == 7


# --- the watcher's part -----------------------------------------------------------------------


def test_watcher_prefetches_while_a_request_runs_and_applies_nothing(rig: Rig) -> None:
    rig.begin_request()
    rig.idle = False
    rig.changed_elsewhere(SITENAME="New")
    before = dict(rig.config)
    rig.manager.follow(None)
    assert rig.config == before
    assert rig.changes == []
    assert rig.manager.snapshot["SITENAME"] == "New"
    after_prefetch = reads(rig)
    assert rig.begin_request()["SITENAME"] == "New"
    assert rig.config["SITENAME"] == "New"
    # What this process put on the page itself is confirmed once.
    assert reads(rig) <= after_prefetch + 1


def test_watcher_applies_between_requests(rig: Rig) -> None:
    rig.begin_request()
    rig.idle = False
    rig.changed_elsewhere(SITENAME="New")
    rig.manager.follow(None)
    rig.idle = True
    rig.manager.follow(None)
    assert rig.config["SITENAME"] == "New"
    assert [change.name for change in rig.changes] == ["SITENAME"]


def test_several_prefetched_changes_are_applied_as_one(rig: Rig) -> None:
    rig.begin_request()
    rig.idle = False
    for number in range(1, 4):
        rig.changed_elsewhere(LIMIT=number, SITENAME=f"n{number}")
        rig.manager.follow(None)
    rig.begin_request()
    assert {(c.name, c.old, c.new, c.revision) for c in rig.changes} == {
        ("LIMIT", 10, 3, 3),
        ("SITENAME", "Shop", "n3", 3),
    }


def test_notice_with_another_revision_makes_it_read(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.manager.follow(Notice(1))
    assert rig.config["LIMIT"] == 7


def test_notice_with_the_own_revision_reads_nothing(rig: Rig) -> None:
    rig.update(LIMIT=7)
    rig.begin_request()
    before = reads(rig)
    rig.manager.follow(Notice(1))
    assert reads(rig) == before


def test_notice_that_some_were_lost_makes_it_read(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.manager.follow(Notice(None))
    assert rig.config["LIMIT"] == 7


@pytest.mark.parametrize("revision", [0, -5, 10**30])
def test_notice_that_lies_harms_nothing(rig: Rig, revision: int) -> None:
    rig.update(LIMIT=7)
    rig.manager.follow(Notice(revision))
    assert rig.manager.snapshot.revision == 1
    assert rig.config["LIMIT"] == 7


def test_flood_of_notices_costs_a_bounded_number_of_reads(rig: Rig) -> None:
    rig.begin_request()
    before = reads(rig)
    # The first is followed at once.
    rig.manager.follow(Notice(None))
    assert reads(rig) == before + 1
    for number in range(500):
        rig.manager.follow(Notice(10**6 + number))
        rig.clock.advance(1 / 500)
    assert reads(rig) - before <= 2 + 1 / NOTICE_PAUSE_S
    # The last of them is not forgotten.
    rig.changed_silently(LIMIT=7)
    rig.manager.follow(Notice(1))
    rig.clock.advance(NOTICE_PAUSE_S)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


def test_notice_that_comes_while_the_store_is_down_is_not_forgotten(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.memory.error = StoreUnavailable("down")
    rig.manager.follow(Notice(1))
    rig.memory.error = None
    rig.clock.advance(2.0)  # the longest backoff, far less than the resync interval
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7
    assert rig.manager.health.state == "VALID"


def test_notice_that_comes_while_another_refresh_hangs_is_not_forgotten(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    with rig.manager._refresher._lock:
        rig.manager.follow(Notice(1))
    rig.clock.advance(NOTICE_PAUSE_S)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


def test_watcher_reads_a_change_of_another_host_once(rig: Rig) -> None:
    rig.begin_request()
    before = reads(rig)
    rig.changed_silently(LIMIT=7)
    rig.manager.follow(Notice(1))
    for _ in range(10):
        rig.clock.advance(0.2)
        rig.manager.follow(None)
    assert reads(rig) - before == 1
    # Another process may have marked meanwhile: only a request need know.
    rig.begin_request()
    rig.begin_request()
    assert reads(rig) - before == 2


def test_watcher_reads_when_another_process_of_the_host_marks_after_its_own_mark(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.manager.follow(Notice(1))
    rig.changed_silently(LIMIT=8)
    Page(rig.manager.page.path).mark(b"another!", 2)
    rig.clock.advance(0.2)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 8


def test_lost_notice_is_healed_by_the_resync(rig: Rig) -> None:
    rig.begin_request()
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.clock.advance(9.9)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 10
    rig.clock.advance(0.1)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


def test_lost_notice_is_healed_by_a_request_when_there_is_no_watcher(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.clock.advance(10.0)
    assert rig.begin_request()["LIMIT"] == 7


def test_request_leaves_the_resync_to_a_watcher_unless_that_hangs(rig: Rig) -> None:
    rig.begin_request()
    rig.begin_request()
    rig.changed_silently(LIMIT=7)
    rig.clock.advance(19.9)
    rig.manager.watch(on=True)
    assert rig.begin_request()["LIMIT"] == 10
    rig.clock.advance(0.1)
    assert rig.begin_request()["LIMIT"] == 7


@pytest.mark.parametrize(("poll_interval_s", "silent_s"), [(0.2, 1.2), (2.0, 6.2)])
def test_watcher_that_is_silent_for_three_polls_and_the_bound_of_a_read_is_none(
    folder: Path, poll_interval_s: float, silent_s: float
) -> None:
    rig = Rig(folder, wait_s=0.2, poll_interval_s=poll_interval_s)
    seen = [rig.manager.watched]
    rig.manager.watch(on=True)
    for seconds in (silent_s - 0.01, 0.02):
        rig.clock.advance(seconds)
        seen.append(rig.manager.watched)
    for on in (True, False):
        rig.manager.watch(on=on)
        seen.append(rig.manager.watched)
    assert seen == [False, True, False, True, False]


def test_code_outside_of_requests_sees_each_change_of_a_thread_that_has_read(rig: Rig) -> None:
    for number in range(1, 4):
        rig.changed_elsewhere(LIMIT=number)
        assert rig.manager.current()["LIMIT"] == number
        rig.manager.refresh()


def test_what_is_new_ends_the_shared_ticket_where_there_is_no_page(folder: Path) -> None:
    (folder / "waffle.page").mkdir()
    rig = Rig(folder)
    rig.begin_request()
    rig.begin_request()
    shared = rig.manager.tickets.shared
    assert shared.until > 0
    rig.changed_silently(LIMIT=7)
    rig.manager.refresh(may_apply=lambda: False)
    assert shared.until == 0


def test_request_reads_what_a_watcher_that_hangs_does_not(rig: Rig) -> None:
    rig.begin_request()
    rig.manager.watch(on=True)
    rig.memory.error = StoreUnavailable("down")
    rig.clock.advance(10.0)
    rig.begin_request()
    rig.memory.error = None
    rig.changed_silently(LIMIT=7)
    # Its thread is alive, but has not turned for longer than a poll and a read may take.
    rig.clock.advance(5.0)
    assert not rig.manager.watched
    assert rig.begin_request()["LIMIT"] == 7


def test_staleness_is_the_time_since_the_last_good_read(rig: Rig) -> None:
    assert [rig.manager.reading.staleness_s] == [None]
    rig.begin_request()
    rig.clock.advance(3.0)
    assert rig.manager.reading.staleness_s == 3.0
    rig.memory.error = StoreUnavailable("down")
    rig.clock.advance(10.0)
    rig.begin_request()
    assert rig.manager.reading.staleness_s == 13.0


# --- the watch file ---------------------------------------------------------------------------


def edit_behind_its_back(rig: Rig, raw: str) -> None:
    """Change a row as an SQL client would: the revision stays."""
    rig.memory.rows["LIMIT"] = (raw, rig.memory.rows["LIMIT"][1])


def test_touch_by_hand_forces_a_complete_read(rig: Rig) -> None:
    rig.changed_elsewhere(LIMIT=7)
    rig.begin_request()
    edit_behind_its_back(rig, "8")
    rig.watch_file.path.touch()
    assert rig.begin_request()["LIMIT"] == 8


def test_touch_by_hand_right_after_an_own_change_forces_a_complete_read(rig: Rig) -> None:
    rig.begin_request()
    rig.update(LIMIT=7)
    edit_behind_its_back(rig, "8")
    rig.watch_file.path.touch()
    assert rig.begin_request()["LIMIT"] == 8


def test_touch_by_hand_right_after_a_change_elsewhere_forces_a_complete_read(rig: Rig) -> None:
    rig.changed_elsewhere(LIMIT=6)
    rig.begin_request()
    rig.changed_elsewhere(SITENAME="New")
    edit_behind_its_back(rig, "8")
    rig.watch_file.path.touch()
    snapshot = rig.begin_request()
    assert (snapshot["LIMIT"], snapshot["SITENAME"]) == (8, "New")


def break_nothing(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_text("nonsense")
    other.replace(path)


@pytest.mark.parametrize("mishap", [break_nothing, truncate, replace])
def test_mishap_of_the_watch_file_is_survived(
    rig: Rig, mishap: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    rig.changed_elsewhere(LIMIT=6)
    rig.begin_request()
    mishap(rig.watch_file.path)
    rig.changed_silently(LIMIT=7)
    assert rig.begin_request()["LIMIT"] == 7
    rig.changed_elsewhere(LIMIT=8)
    assert rig.begin_request()["LIMIT"] == 8
    rig.begin_request()
    before = reads(rig)
    for _ in range(10):
        rig.begin_request()
    assert reads(rig) == before
    assert len(caplog.records) <= 1


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link(path: Path) -> None:
    path.rename(path.with_name("target"))
    path.symlink_to("target")


@pytest.mark.parametrize("put", [put_directory, put_pipe, put_link])
def test_thing_in_the_place_of_the_watch_file_hangs_nobody_and_is_reported(
    rig: Rig, put: Callable[[Path], None]
) -> None:
    rig.begin_request()
    put(rig.watch_file.path)
    rig.changed_silently(LIMIT=7)
    assert rig.begin_request()["LIMIT"] == 7
    assert rig.update(LIMIT=8) == 2
    assert rig.config["LIMIT"] == 8
    assert "WAFFLE_WATCHER_FILE" in rig.manager.health.failing()["announcing by watch file"]
    rig.changed_silently(LIMIT=9)
    rig.clock.advance(10.0)
    assert rig.begin_request()["LIMIT"] == 9


def test_watch_file_that_can_not_come_back_is_logged_once_and_healed_by_resync(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.begin_request()
    rig.watch_file.path.unlink()
    folder = rig.watch_file.path.parent
    rig.manager.page.path.unlink()
    folder.rmdir()
    for number in range(1, 4):
        rig.changed_silently(LIMIT=number)
        rig.clock.advance(10.0)
        assert rig.begin_request()["LIMIT"] == number
    assert rig.manager.health.state == "INTERRUPTED"
    assert "watch file" in rig.manager.health.failing()
    assert [record.getMessage().split(" fails")[0] for record in caplog.records] == [
        "watch file",
        "page",
    ]
    folder.mkdir()
    rig.clock.advance(10.0)
    rig.begin_request()
    assert rig.manager.health.state == "VALID"


def test_watch_file_that_vanishes_between_two_looks_harms_no_request(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.begin_request()
    rig.watch_file.path.unlink()
    rig.watch_file.path.symlink_to("nowhere")
    monkeypatch.setattr(
        FileNotifier, "_refuse_irregular", lambda self: self.path.with_name("gone").lstat()
    )
    monkeypatch.setattr(rig.watch_file, "signature", lambda: None)
    assert rig.begin_request()["LIMIT"] == 10
    rig.manager.follow(None)


# --- the store is down ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [StoreUnavailable("down"), RuntimeError("a store of the user's own"), OSError(5, "io")]
)
def test_last_good_snapshot_is_served_while_the_store_is_down(rig: Rig, error: Exception) -> None:
    rig.changed_elsewhere(LIMIT=7)
    rig.begin_request()
    rig.memory.error = error
    rig.watch_file.announce(2)
    for _ in range(20):
        assert rig.begin_request()["LIMIT"] == 7
        rig.clock.advance(3.0)
    assert rig.manager.health.state == "INTERRUPTED"
    assert str(error) in rig.manager.health.failing()["store"]
    rig.memory.error = None
    rig.changed_elsewhere(LIMIT=8)
    rig.clock.advance(2.0)
    assert rig.begin_request()["LIMIT"] == 8
    assert rig.manager.health.state == "VALID"


def test_defaults_are_served_when_the_store_was_never_there(rig: Rig) -> None:
    rig.memory.error = StoreUnavailable("down")
    assert rig.begin_request()["LIMIT"] == 10
    assert rig.manager.reading.staleness_s is None


def test_requests_do_not_ask_a_failing_store_again_before_the_backoff_ends(rig: Rig) -> None:
    rig.begin_request()
    rig.memory.error = StoreUnavailable("down")
    rig.watch_file.announce(2)
    before = reads(rig)
    for _ in range(100):
        rig.begin_request()
    assert reads(rig) == before + 1


def test_requests_ask_a_failing_store_ever_more_rarely(rig: Rig) -> None:
    rig.begin_request()
    rig.memory.error = StoreUnavailable("down")
    rig.watch_file.announce(2)
    for _ in range(100):
        rig.begin_request()
        rig.clock.advance(0.1)
    # 10 s of outage: at most 5 attempts until the backoff is at its cap of 1 to 2 s, then 10.
    assert reads(rig) <= 20


def test_requests_leave_a_failing_store_to_a_live_watcher(rig: Rig) -> None:
    rig.begin_request()
    rig.memory.error = StoreUnavailable("down")
    rig.manager.watch(on=True)
    rig.watch_file.announce(2)
    rig.manager.follow(None)
    before = reads(rig)
    for _ in range(20):
        rig.clock.advance(5.0)
        rig.manager.watch(on=True)
        rig.begin_request()
    assert reads(rig) == before
    rig.manager.follow(None)
    assert reads(rig) == before + 1


def test_watcher_backs_off_too(rig: Rig) -> None:
    rig.begin_request()
    rig.memory.error = StoreUnavailable("down")
    rig.watch_file.announce(2)
    for _ in range(100):
        rig.manager.follow(None)
        rig.clock.advance(0.1)
    assert reads(rig) <= 20


def test_outage_is_logged_once_and_its_end_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "uwsgi_waffle")
    rig.begin_request()
    rig.memory.error = StoreUnavailable("down")
    for _ in range(20):
        rig.clock.advance(10.0)
        rig.begin_request()
    rig.memory.error = None
    for _ in range(20):
        rig.clock.advance(10.0)
        rig.begin_request()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_store_that_fails_at_preparing_is_prepared_later(rig: Rig) -> None:
    rig.memory.error = StoreUnavailable("down")
    rig.begin_request()
    assert rig.memory.calls["read_since"] == 0
    rig.memory.error = None
    rig.clock.advance(2.0)
    rig.begin_request()
    rig.manager.refresh()
    assert rig.memory.calls["prepare"] == 2
    assert rig.manager.health.state == "VALID"


def test_refresh_raises_what_failed_and_keeps_the_snapshot(rig: Rig) -> None:
    rig.update(LIMIT=7)
    rig.memory.error = StoreUnavailable("down")
    with pytest.raises(StoreUnavailable, match="down"):
        rig.manager.refresh()
    rig.memory.error = ZeroDivisionError("a user's store")
    with pytest.raises(StoreError, match="ZeroDivisionError: a user's store") as caught:
        rig.manager.refresh(complete=True)
    assert caught.value.__cause__ is rig.memory.error
    assert rig.config["LIMIT"] == 7


# --- stored values that do not fit ------------------------------------------------------------


def test_stored_value_that_no_longer_fits_serves_its_default_and_is_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.store.write({"LIMIT": "100000", "TOKEN": "4711", "GONE": "1"})
    rig.begin_request()
    for _ in range(5):
        rig.clock.advance(10.0)
        rig.begin_request()
        rig.manager.refresh(complete=True)
    assert rig.config["LIMIT"] == 10
    assert len(caplog.records) == 2
    assert "LIMIT" in caplog.text
    assert "4711" not in caplog.text
    assert set(rig.manager.snapshot.faults) == {"LIMIT", "TOKEN"}
    assert rig.memory.rows["LIMIT"][0] == "100000"
    assert rig.memory.calls["write"] == 1  # the test's own


# --- threads ----------------------------------------------------------------------------------


@pytest.fixture
def _hurried_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hurried_threads")
def test_no_thread_sees_an_older_revision_than_before_nor_a_torn_pair(folder: Path) -> None:
    confs: dict[str, Any] = {name: {"desc": "d", "default": 0} for name in ("A", "B")}
    rig = Rig(folder, confs=confs, wait_s=10.0)
    rig.begin_request()
    wrong: list[object] = []
    announced = 0
    done = threading.Event()

    def serve() -> None:
        last = 0
        while not done.is_set():
            least = announced
            snapshot = rig.begin_request()
            if snapshot.revision < max(last, least) or snapshot["A"] != snapshot["B"]:
                wrong.append((least, last, snapshot.revision, dict(snapshot)))
            last = snapshot.revision

    def watch() -> None:
        while not done.is_set():
            rig.manager.follow(None)

    rig.idle = False
    threads = [threading.Thread(target=target) for target in [serve] * 8 + [watch]]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 501):
            rig.changed_elsewhere(A=number, B=number)
            announced = number
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert rig.begin_request().revision == 500


def test_touch_by_hand_is_not_lost_on_who_looks_after_the_next_announcement(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    one, other = Rig(tmp_path, store=store), Rig(tmp_path, store=store)
    one.update(SITENAME="lost", LIMIT=5)
    other.begin_request()
    # A backup from before that change is put in the place of the database.
    store.revision, store.rows = 0, {}
    os.utime(one.watch_file.path)
    one.update(LIMIT=7)
    snapshot = other.begin_request()
    assert (snapshot.revision, snapshot["SITENAME"], snapshot["LIMIT"]) == (1, "Shop", 7)


def test_change_of_another_host_opens_no_watch_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.begin_request()
    monkeypatch.setattr(rig.watch_file, "mark", lambda: pytest.fail("it was opened"))
    revision = rig.changed_silently(LIMIT=7)
    rig.manager.follow(Notice(revision))
    assert rig.config["LIMIT"] == 7


def test_touch_by_hand_is_seen_when_the_notice_of_another_host_comes_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.begin_request()
    rig.watch_file.path.touch()
    asked: list[tuple[int, str]] = []
    read_since = rig.memory.read_since

    def noted(revision: int, epoch: str) -> Delta:
        asked.append((revision, epoch))
        return read_since(revision, epoch)

    monkeypatch.setattr(rig.memory, "read_since", noted)
    rig.manager.follow(Notice(rig.changed_silently(LIMIT=7)))
    assert asked == [(0, "")]


def test_watch_file_that_comes_back_as_it_was_fails_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    rig = Rig(folder)
    rig.begin_request()
    folder.rename(tmp_path / "away")
    # A notice of another host comes while the folder is gone, and the store is elsewhere.
    rig.memory.error = StoreUnavailable("gone, too")
    rig.manager.follow(Notice(rig.manager.snapshot.revision + 1))
    assert set(rig.manager.health.failing()) == {"watch file", "store"}
    (tmp_path / "away").rename(folder)
    rig.memory.error = None
    rig.clock.advance(60)
    rig.manager.follow(None)
    assert rig.manager.health.failing() == {}


def test_complete_read_puts_what_went_back_to_its_default_into_the_app(rig: Rig) -> None:
    # A backup put back, a store made again: a row that is gone is in no delta by name.
    rig.changed_elsewhere(SITENAME="Old", LIMIT=7)
    rig.begin_request()
    assert rig.config["SITENAME"] == "Old"
    rig.memory.epoch, rig.memory.revision, rig.memory.rows = "second", 0, {}
    rig.changed_elsewhere(LIMIT=8)
    rig.begin_request()
    assert (rig.config["SITENAME"], rig.config["LIMIT"]) == ("Shop", 8)


def test_second_outage_is_tried_again_as_soon_as_the_first_was(rig: Rig) -> None:
    def pauses() -> list[float]:
        """Return the time until each of the first reads of an outage."""
        rig.changed_elsewhere(LIMIT=20 + rig.memory.revision)
        rig.memory.error = StoreUnavailable("down")
        rig.begin_request()
        taken = []
        for _ in range(6):
            before, at = reads(rig), rig.clock()
            while reads(rig) == before:
                rig.clock.advance(0.01)
                rig.begin_request()
            taken.append(rig.clock() - at)
        rig.memory.error = None
        rig.manager.refresh()
        return taken

    rig.begin_request()
    first, second = pauses(), pauses()
    # Jitter makes each pause between half of it and the whole.
    assert second[0] <= 2 * first[0] + 0.02 < first[-1]


def test_forced_read_that_succeeds_ends_the_backoff(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=7)
    rig.memory.error = StoreUnavailable("down")
    rig.begin_request()
    rig.memory.error = None
    rig.manager.refresh()
    rig.changed_elsewhere(LIMIT=8)
    assert rig.begin_request()["LIMIT"] == 8
