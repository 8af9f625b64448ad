"""Messages between hosts: several become one notice, and no question is lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers.base import MAX_ASKS
from uwsgi_waffle.notifiers.messages import Inbox, Message, encode

from ..support.rig import Clock


@pytest.fixture
def inbox() -> Inbox:
    return Inbox("channel", "do something")


def test_question_comes_with_the_revision_that_it_is_about(inbox: Inbox) -> None:
    notice = inbox.merged(None, encode(7, "e", "m", "abc.drained"))
    assert notice == Notice(7, "e", "m", ("abc.drained",))
    assert inbox.merged(None, encode(7, "e", "m")) == Notice(7, "e", "m")


def test_questions_of_messages_that_came_together_are_all_kept(inbox: Inbox) -> None:
    notice = inbox.merged(None, encode(7, "e", "m", "a1"))
    notice = inbox.merged(notice, encode(7, "e", "m"))
    assert notice == Notice(7, "e", "m", ("a1",))
    notice = inbox.merged(notice, encode(8, "e", "n", "b2"))
    assert notice == Notice(None, asks=("a1", "b2"))
    # Nothing is known for sure any more, but who asked is.
    for number in range(20):
        notice = inbox.merged(notice, encode(8, "e", "n", f"{number:02x}"))
    assert notice is not None
    assert notice.revision is None
    assert notice.asks == tuple(f"{number:02x}" for number in range(20 - MAX_ASKS, 20))
    assert inbox.merged(notice, b"nonsense") == notice


@pytest.mark.parametrize("ask", ["A", "x", "a" * 33, ".drained.drained", "ab\n", 7, None, ["a"]])
def test_question_that_is_none_makes_the_message_malformed(inbox: Inbox, ask: object) -> None:
    message = json.dumps({"revision": 1, "ask": ask}).encode()
    assert inbox.merged(None, message) is None
    assert inbox.malformed == 1


def test_malformed_messages_are_counted_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    inbox = Inbox("channel 'x'", "do something", clock=clock)
    counts = []
    for seconds in (0.0, 59.0, 0.5, 0.5):
        clock.advance(seconds)
        assert inbox.merged(None, b"nonsense") is None
        counts.append((inbox.malformed, len(caplog.messages)))
    assert counts == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert "on the channel 'x', 4 so far" in caplog.messages[1]
    assert caplog.messages[1].endswith("b'nonsense'; do something")


def test_message_that_was_heard_is_changed_by_nobody() -> None:
    message: Any = Message(7)
    with pytest.raises(AttributeError):
        message.revision = 8
