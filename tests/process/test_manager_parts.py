"""What a manager does for the watcher, the barrier and other hosts, each by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from uwsgi_waffle import NotifierError, StoreUnavailable
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers.base import MAX_ASKS
from uwsgi_waffle.process.page import Page, identity_of
from uwsgi_waffle.process.token import Token

from ..support.rig import Rig, StubNotifier


class Asking(StubNotifier):
    """Keeps the questions, too."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[tuple[object, ...]] = []

    def ask(self, question: str, revision: int, epoch: str = "", mark: str = "") -> None:
        if self.error is not None:
            raise self.error
        self.questions.append((question, revision, epoch, mark))


def reads(rig: Rig) -> int:
    return rig.memory.calls["read_since"]


# --- following ----------------------------------------------------------------------------------


def test_notices_that_follow_each_other_are_read_after_a_pause(settled: Rig) -> None:
    settled.changed_silently(LIMIT=7)
    assert settled.manager.follow(Notice(1)) is None
    assert settled.config["LIMIT"] == 7
    settled.changed_silently(LIMIT=8)
    settled.clock.advance(0.02)
    before = reads(settled)
    assert settled.manager.follow(Notice(2)) == pytest.approx(0.03)
    assert reads(settled) == before
    settled.clock.advance(0.031)
    assert settled.manager.follow(None) is None
    assert settled.config["LIMIT"] == 8


def test_change_on_the_page_is_not_kept_back_by_that_pause(settled: Rig) -> None:
    settled.changed_silently(LIMIT=7)
    settled.manager.follow(Notice(1))
    settled.changed_silently(LIMIT=8)
    settled.manager.page.open()
    settled.manager.page.close_if_unused()
    settled.manager.follow(Notice(2))
    assert settled.config["LIMIT"] == 8


def test_notice_whose_read_fails_is_followed_again_after_the_pause(settled: Rig) -> None:
    settled.changed_silently(LIMIT=7)
    settled.memory.error = StoreUnavailable("down")
    assert settled.manager.follow(Notice(1)) == pytest.approx(0.05)
    settled.memory.error = None
    settled.clock.advance(3.0)
    assert settled.manager.follow(None) is None
    assert settled.config["LIMIT"] == 7


@pytest.mark.parametrize(
    ("epoch", "mark", "is_news"),
    [("", "", False), ("own", "own", False), ("other", "own", True), ("own", "other", True)],
)
def test_notice_of_the_own_revision_is_news_if_its_epoch_or_mark_is_another(
    settled: Rig, epoch: str, mark: str, is_news: bool
) -> None:
    settled.update(LIMIT=7)
    settled.begin_request()
    own = settled.manager.snapshot
    before = reads(settled)
    given = {"own": own.epoch, "other": "x", "": ""}, {"own": own.mark, "other": "x", "": ""}
    settled.manager.follow(Notice(1, given[0][epoch], given[1][mark]))
    assert (reads(settled) > before) == is_news


def test_what_could_not_be_announced_is_announced_by_the_watcher(folder: Path) -> None:
    remote = StubNotifier()
    rig = Rig(folder, remote=remote)
    remote.error = NotifierError("away")
    rig.update(LIMIT=7)
    remote.error = None
    rig.manager.follow(None)
    assert remote.announced == []
    rig.clock.advance(1.1)
    rig.manager.follow(None)
    assert remote.announced == [1]


# --- other hosts --------------------------------------------------------------------------------


def test_questions_of_other_hosts_are_taken_once_and_the_newest_are_kept(settled: Rig) -> None:
    settled.manager.follow(Notice(0, asks=("a", "b")))
    settled.manager.follow(Notice(0, asks=("c",)))
    assert settled.manager.take_asks() == ["a", "b", "c"]
    assert settled.manager.take_asks() == []
    for number in range(MAX_ASKS + 2):
        settled.manager.follow(Notice(0, asks=(str(number),)))
    assert settled.manager.take_asks() == [str(number) for number in range(2, MAX_ASKS + 2)]


def test_other_hosts_are_asked_with_what_this_process_serves(folder: Path) -> None:
    remote = Asking()
    rig = Rig(folder, remote=remote)
    rig.update(LIMIT=7)
    snapshot = rig.manager.snapshot
    rig.manager.ask_hosts("abc")
    assert remote.questions == [("abc", 1, snapshot.epoch, snapshot.mark)]
    remote.error = NotifierError("away")
    rig.manager.ask_hosts("abc")
    assert rig.manager.health.failing() == {"asking by stub": "away"}
    assert rig.manager.health.state == "VALID"
    remote.error = None
    rig.manager.ask_hosts("abc")
    assert rig.manager.health.failing() == {}


def test_question_that_failed_is_shown_until_the_channel_works_again(folder: Path) -> None:
    remote = Asking()
    rig = Rig(folder, remote=remote)
    rig.update(LIMIT=7)
    remote.error = NotifierError("away")
    rig.manager.ask_hosts("abc")
    for _ in range(2):
        # It fails still; nobody else asks.
        rig.clock.advance(10.1)
        rig.manager.follow(None)
        assert rig.manager.health.failing() == {"asking by stub": "away"}
    remote.error = None
    rig.clock.advance(9.0)
    rig.manager.follow(None)
    assert rig.manager.health.failing() == {"asking by stub": "away"}
    rig.clock.advance(1.1)
    rig.manager.follow(None)
    assert rig.manager.health.failing() == {}
    asked = len(remote.questions)
    assert remote.questions[-1][0] == ""
    rig.clock.advance(60.0)
    rig.manager.follow(None)
    assert len(remote.questions) == asked


def test_host_alone_asks_nobody(rig: Rig) -> None:
    rig.manager.ask_hosts("abc")
    assert rig.manager.health.failing() == {}


# --- what this host serves ----------------------------------------------------------------------


def test_process_is_current_while_the_page_names_what_it_has_read(settled: Rig) -> None:
    manager, page = settled.manager, settled.manager.page
    settled.update(LIMIT=7)
    snapshot = manager.snapshot
    assert snapshot.revision == 1
    identity = identity_of(snapshot)
    assert manager.identity == identity == page.identity
    current = [manager.is_current()]
    page.mark(identity_of(replace(snapshot, revision=2, mark="other")), 2)
    current.append(manager.is_current())
    page.problem = "gone"
    current.append(manager.is_current())
    assert current == [True, False, True]


def test_process_that_only_reads_makes_what_is_missing_when_it_is_to(settled: Rig) -> None:
    manager = settled.manager
    manager.page.may_make = manager.reading.may_make = False
    may_make = [manager.may_make]
    manager.make()
    may_make.append(manager.may_make)
    assert [*may_make, manager.reading.may_make] == [False, True, True]
    assert manager.reading.is_asked
    settled.begin_request()
    manager.make()
    assert not manager.reading.is_asked


def test_token_of_what_is_served_needs_no_read_and_another_needs_one(settled: Rig) -> None:
    settled.update(LIMIT=7)
    manager = settled.manager
    own = Token.of(manager.snapshot)
    other = Token.parse(str(msgspec.structs.replace(own, revision=2)))
    assert other is not None
    before = reads(settled)
    assert manager.require(own)
    assert reads(settled) == before
    settled.memory.error = StoreUnavailable("down")
    assert not manager.require(other)
    assert not manager.require(other)
    assert reads(settled) == before + 1, "it keeps to the back-off"
    settled.memory.error = None
    settled.clock.advance(3.0)
    assert manager.require(other)
    after = reads(settled)
    assert manager.require(other)
    assert reads(settled) == after > before + 1


def test_error_shows_no_secret_and_no_password(settled: Rig) -> None:
    settled.update(TOKEN="open-sesame")
    settled.memory.error = StoreUnavailable("redis://ann:hunter2@db says open-sesame")
    settled.clock.advance(10.0)
    settled.manager.follow(None)
    text = settled.manager.health.failing()["store"]
    assert "sesame" not in text
    assert "hunter2" not in text
    assert settled.manager.mask("open-sesame") == "********"


# --- the page ------------------------------------------------------------------------------------


def test_watcher_follows_the_page_that_took_the_place_of_the_former(settled: Rig) -> None:
    settled.manager.page.path.unlink()
    Page(settled.manager.page.path)
    settled.changed_silently(LIMIT=7)
    settled.manager.follow(None)
    assert settled.config["LIMIT"] == 7


@pytest.mark.parametrize("way", ["refresh", "require"])
def test_read_that_is_asked_for_marks_the_page_that_is_there_now(settled: Rig, way: str) -> None:
    manager = settled.manager
    manager.page.path.unlink()
    other = Page(manager.page.path)
    settled.changed_silently(LIMIT=7)
    if way == "refresh":
        manager.refresh()
    else:
        assert manager.require(Token(1, "0" * 16, "0" * 16))
    assert other.identity == manager.identity


def test_watcher_reads_while_the_page_shows_a_change_under_way(settled: Rig) -> None:
    # The one that makes it may have committed, and may be dead.
    with Page(settled.manager.page.path).change() as change:
        change.open()
        settled.changed_silently(LIMIT=7)
        settled.manager.follow(Notice(1))
        settled.changed_silently(LIMIT=8)
        settled.clock.advance(0.2)
        settled.manager.follow(None)
        assert settled.config["LIMIT"] == 8


def test_watcher_that_is_silent_for_exactly_its_time_is_none(folder: Path) -> None:
    rig = Rig(folder, wait_s=0.5, poll_interval_s=1.0)
    rig.manager.watch(on=True)
    rig.clock.advance(3.5)
    assert not rig.manager.watched


# --- requests within requests ---------------------------------------------------------------------


def test_request_within_another_sees_the_newest_and_leaves_the_app_alone(settled: Rig) -> None:
    outer: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    settled.manager.admit(outer, "ticket")
    settled.changed_elsewhere(LIMIT=7)
    settled.manager.admit(inner, "ticket", nested=True)
    assert inner["ticket"].snapshot["LIMIT"] == 7
    assert settled.config["LIMIT"] == outer["ticket"].snapshot["LIMIT"] == 10


def test_request_that_can_not_apply_what_is_newest_sees_what_the_app_does(settled: Rig) -> None:
    outer: dict[str, Any] = {}
    settled.manager.admit(outer, "ticket")
    settled.changed_elsewhere(LIMIT=7)
    # The watcher has read it, and leaves it to the next request.
    settled.manager.follow(None)
    assert settled.manager.snapshot["LIMIT"] == 7
    with settled.manager._refresher._lock:
        assert settled.begin_request()["LIMIT"] == settled.config["LIMIT"] == 10
    assert settled.begin_request()["LIMIT"] == settled.config["LIMIT"] == 7
