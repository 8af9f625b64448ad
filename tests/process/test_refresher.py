"""A refresh: one thread reads, the page is marked, then what was read is served."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.process.page import Page, identity_of

from ..support.rig import Rig


@contextlib.contextmanager
def hanging(rig: Rig, read: Callable[[], object]) -> Iterator[list[bool]]:
    """Let another thread read, which hangs until the end; what is yielded is empty until then."""
    begun, go_on = threading.Event(), threading.Event()
    waited: list[bool] = []

    def hang() -> None:
        begun.set()
        waited.append(go_on.wait(10))

    rig.memory.during_read = hang
    other = threading.Thread(target=read)
    other.start()
    assert begun.wait(10)
    try:
        yield waited
    finally:
        go_on.set()
        other.join()
    assert waited
    assert all(waited)


def test_request_waits_for_a_hanging_refresh_of_another_thread_within_its_bound(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=7)
    with hanging(rig, lambda: rig.manager.follow(None)):
        assert rig.begin_request()["LIMIT"] == 10
        assert rig.manager.health.state == "INTERRUPTED"
    assert rig.begin_request()["LIMIT"] == 7
    assert rig.manager.health.state == "VALID"


def test_request_that_finds_nothing_new_waits_for_no_read_of_another_thread(rig: Rig) -> None:
    # The first of them marks the page, which the second looks at once more.
    rig.begin_request()
    rig.begin_request()
    with hanging(rig, rig.manager.refresh) as waited:
        assert rig.begin_request()["LIMIT"] == 10
        assert not waited
        assert rig.manager.health.state == "VALID"


def test_only_one_request_waits_for_a_read_that_hangs(folder: Path) -> None:
    rig = Rig(folder, wait_s=0.3)
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=7)
    with hanging(rig, lambda: rig.manager.follow(None)):
        began = time.monotonic()
        for _ in range(100):
            assert rig.begin_request()["LIMIT"] == 10
        assert time.monotonic() - began < 100 * 0.3 / 3
    assert rig.begin_request()["LIMIT"] == 7


def test_requests_at_once_share_reads(folder: Path) -> None:
    rig = Rig(folder, wait_s=10.0)
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=7)
    before = rig.memory.calls["read_since"]
    barrier = threading.Barrier(8)
    rig.memory.during_read = barrier.abort
    seen: list[object] = []

    def request() -> None:
        seen.append(rig.begin_request()["LIMIT"])

    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [7] * 8
    # The one that was under way when a request began may have missed what that must see.
    assert rig.memory.calls["read_since"] <= before + 2


def test_override_is_served_and_taken_back(rig: Rig) -> None:
    rig.begin_request()
    with rig.manager.override({"LIMIT": 99}):
        assert rig.config["LIMIT"] == 99
        assert rig.manager.snapshot["LIMIT"] == 99
        with rig.manager.override({"LIMIT": 98, "SITENAME": "x"}):
            assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (98, "x")
        assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (99, "Shop")
    assert rig.config["LIMIT"] == 10
    assert rig.memory.calls["write"] == 0
    changes = [(change.old, change.new) for change in rig.changes if change.name == "LIMIT"]
    assert changes == [(10, 99), (99, 98), (98, 99), (99, 10)]


def test_override_survives_a_change_and_shows_it_afterwards(rig: Rig) -> None:
    with rig.manager.override({"LIMIT": 99}):
        rig.changed_elsewhere(LIMIT=7, SITENAME="New")
        snapshot = rig.begin_request()
        assert (snapshot["LIMIT"], snapshot["SITENAME"], snapshot.revision) == (99, "New", 1)
        assert rig.config["LIMIT"] == 99
        rig.manager.refresh(complete=True)
        assert rig.config["LIMIT"] == 99
    assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (7, "New")


def test_overrides_that_overlap_leave_nothing_behind(rig: Rig) -> None:
    first, second = rig.manager.override({"LIMIT": 99}), rig.manager.override({"SITENAME": "x"})
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (10, "x")
    assert (rig.manager.snapshot["LIMIT"], rig.manager.snapshot["SITENAME"]) == (10, "x")
    second.__exit__(None, None, None)
    assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (10, "Shop")
    assert (rig.manager.snapshot["LIMIT"], rig.manager.snapshot["SITENAME"]) == (10, "Shop")


def test_process_never_takes_a_seq_that_it_wrote_itself_for_seen(rig: Rig) -> None:
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=7)
    rig.begin_request()
    marked = rig.manager.page.words()
    assert rig.manager._refresher._vouched != marked
    # So that a change which came between the read and the mark is found now.
    rig.changed_silently(LIMIT=8)
    assert rig.begin_request()["LIMIT"] == 8


def test_page_that_changes_during_a_read_is_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.begin_request()
    rig.begin_request()
    rig.changed_elsewhere(LIMIT=7)
    page = Page(rig.manager.page.path)
    reads: list[int] = []

    def another_marks() -> None:
        reads.append(rig.memory.revision)
        page.mark(b"another" + bytes([len(reads)]), 0)

    rig.memory.during_read = another_marks
    assert rig.begin_request()["LIMIT"] == 7
    assert len(reads) == 3, "at most three reads for one look"
    served = rig.manager.snapshot
    assert (served.epoch, served.revision, served.mark) == ("first", 1, rig.memory.marks[1])
    assert rig.manager.page.identity == identity_of(served)


def test_snapshot_is_marked_before_it_is_served(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[int] = []
    mark = Page.mark

    def noting(page: Page, identity: bytes, revision: int, **more: Any) -> None:
        served.append(rig.manager.snapshot.revision)
        served.append(rig.manager.applied.revision)
        mark(page, identity, revision, **more)

    monkeypatch.setattr(Page, "mark", noting)
    rig.changed_elsewhere(LIMIT=7)
    assert rig.begin_request().revision == 1
    assert served == [0, 0]


def test_store_that_asks_for_the_settings_within_a_read_waits_for_nobody(
    settled: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    # As a user's own, whose models ask for the app's context.
    seen: list[object] = []

    def ask() -> None:
        # No request shares a ticket with it.
        settled.manager.tickets.revoke()
        seen.append(settled.manager.current()["LIMIT"])

    settled.memory.during_read = ask
    settled.changed_elsewhere(LIMIT=7)
    assert settled.begin_request()["LIMIT"] == 7
    assert seen[0] == 10
    assert caplog.messages == []
    settled.memory.during_read = None
    settled.changed_elsewhere(LIMIT=8)
    assert settled.manager.current()["LIMIT"] == 8
