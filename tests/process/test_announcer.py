"""Announcing again what could not be announced."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from uwsgi_waffle import NotifierError

from ..support.rig import MemoryStore, Rig, StubNotifier


@pytest.fixture
def remote() -> StubNotifier:
    return StubNotifier()


@pytest.fixture
def rig(tmp_path: Path, remote: StubNotifier) -> Rig:
    return Rig(tmp_path, remote=remote)


def test_watcher_announces_what_could_not_be_announced(rig: Rig, remote: StubNotifier) -> None:
    remote.error = NotifierError("away")
    rig.update(LIMIT=7)
    remote.error = None
    rig.manager.follow(None)
    assert remote.announced == [], "the backoff is not over"
    rig.clock.advance(2)
    rig.manager.follow(None)
    assert remote.announced == [1]
    assert rig.manager.health.state == "VALID"
    rig.clock.advance(60)
    rig.manager.follow(None)
    assert remote.announced == [1], "it is announced once"


def test_notifier_that_stays_away_is_tried_ever_more_rarely(
    rig: Rig, remote: StubNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def announce(revision: int, epoch: str = "", mark: str = "") -> None:
        tried.append(rig.clock.now)
        raise NotifierError("away")

    monkeypatch.setattr(remote, "announce", announce)
    rig.update(LIMIT=7)
    for _ in range(600):
        rig.clock.advance(0.1)
        rig.manager.follow(None)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert 0.5 <= pauses[0] <= 1.2
    assert max(pauses) <= 10.2
    assert len(tried) < 20


def test_only_the_notifier_that_failed_is_told_again(rig: Rig, remote: StubNotifier) -> None:
    remote.error = NotifierError("away")
    rig.update(LIMIT=7)
    signature = rig.watch_file.signature()
    remote.error = None
    rig.clock.advance(2)
    rig.manager.follow(None)
    assert remote.announced == [1]
    assert rig.watch_file.signature() == signature


def test_newest_revision_is_announced_late_not_the_one_that_failed(
    rig: Rig, remote: StubNotifier
) -> None:
    remote.error = NotifierError("away")
    rig.update(LIMIT=7)
    rig.memory.write({"LIMIT": "8"})
    remote.error = None
    rig.clock.advance(20)
    rig.manager.follow(None)
    assert remote.announced == [2]


def test_what_the_store_announces_itself_is_not_announced_again(
    tmp_path: Path, remote: StubNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, remote=remote)
    remote.error = NotifierError("away")
    rig.update(LIMIT=7)
    assert "announcing by stub" in rig.manager.health.failing()
    monkeypatch.setattr(MemoryStore, "announces", property(lambda store: True))
    remote.error = None
    before = rig.watch_file.signature()
    rig.update(LIMIT=8)
    assert rig.watch_file.signature() != before
    assert remote.announced == []
    # What it owes was overtaken.
    assert rig.manager.health.failing() == {}
    rig.clock.advance(20)
    rig.manager.follow(None)
    assert remote.announced == []


def _pauses(rig: Rig, tried: list[float], count: int) -> list[float]:
    """Return the seconds between the next attempts, the first of them a change's own."""
    tried.clear()
    rig.update(LIMIT=20 + rig.memory.revision)
    while len(tried) <= count:
        rig.clock.advance(0.1)
        rig.manager.follow(None)
    return [later - earlier for earlier, later in itertools.pairwise(tried)]


def test_notifier_that_came_back_is_tried_soon_when_it_is_away_again(
    rig: Rig, remote: StubNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    away = True

    def announce(revision: int, epoch: str = "", mark: str = "") -> None:
        tried.append(rig.clock.now)
        if away:
            raise NotifierError("away")

    monkeypatch.setattr(remote, "announce", announce)
    # The watch file works all the while, which must not make the other's pauses short.
    assert _pauses(rig, tried, 6)[-1] > 4.0
    away = False
    rig.clock.advance(20)
    rig.manager.follow(None)
    away = True
    assert _pauses(rig, tried, 1)[0] <= 1.2


def test_notifier_is_tried_again_as_soon_as_its_pause_is_over(
    rig: Rig, remote: StubNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    remote.error = NotifierError("away")
    rig.update(LIMIT=7)
    remote.error = None
    rig.clock.advance(1.0)
    rig.manager.follow(None)
    assert remote.announced == [1]
