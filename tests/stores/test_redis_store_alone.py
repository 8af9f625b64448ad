"""What the Redis store does around its server, which is played here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from uwsgi_waffle import (
    ConfigurationError,
    RevisionConflict,
    StoreError,
    StoreMissing,
    StoreUnavailable,
)
from uwsgi_waffle.errors import OutcomeUnknown
from uwsgi_waffle.stores.base import Channel, Dump, HistoryEntry
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.redis.rows import fields_of
from uwsgi_waffle.testing.report_contract import a_report


class Client:
    """What a connection of redis-py offers."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Played:
    """The clients of a store: each script answers what a test says, or raises it."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[tuple[list[str], list[Any]]] = []
        self.doubts = 0
        self.closed = 0
        self.reader = SimpleNamespace()
        self.writer = SimpleNamespace(client=Client)
        self.read_since = self.write = self.load = self.stand_in = self.report = self.script

    def script(self, *, keys: list[str], args: list[Any], client: Any = None) -> Any:
        self.asked.append((keys, args))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def doubt(self) -> None:
        self.doubts += 1

    def close(self) -> None:
        self.closed += 1


def stored_at(url: str = "redis://nowhere/0", **more: Any) -> tuple[RedisStore, Played]:
    store = RedisStore(url, **more)
    played = Played()
    store._clients = SimpleNamespace(  # type: ignore[assignment]  # what the store uses of it
        get=lambda: played, peek=lambda: played
    )
    return store, played


READ = ["3", "epoch", "mark", "", "A", "1", "B", None]


def test_read_is_what_the_script_answers() -> None:
    store, played = stored_at()
    played.answers = [READ, [*READ[:3], "1"]]
    delta = store.read_since(2, "epoch", "m2")
    assert (delta.revision, delta.epoch, delta.mark, delta.complete) == (3, "epoch", "mark", False)
    assert [(row.name, row.raw) for row in delta.rows] == [("A", "1"), ("B", None)]
    assert played.asked[0][1] == [2, "epoch", "m2"]
    delta = store.read_since(0, "")
    assert (delta.complete, delta.rows) == (True, ())


@pytest.mark.parametrize(
    ("error", "again", "doubts"),
    [
        (redis.ConnectionError("Connection closed by server."), True, 0),
        (redis.ResponseError("MOVED 1 other:6379"), True, 1),
        (redis.ResponseError("WRONGTYPE Operation against a key"), False, 0),
        (redis.AuthenticationError("invalid password"), False, 0),
        (redis.exceptions.BusyLoadingError("Redis is loading"), False, 0),
        (redis.TimeoutError("Timeout reading from socket"), False, 0),
    ],
)
def test_read_runs_once_more_only_where_that_may_help(
    error: Exception, again: bool, doubts: int
) -> None:
    store, played = stored_at()
    played.answers = [error, READ]
    if again:
        assert store.read_since(0, "").revision == 3
    else:
        with pytest.raises(StoreError):
            store.read_since(0, "")
    assert len(played.asked) == 1 + again
    assert played.doubts >= doubts
    played.answers = [error, error]
    with pytest.raises(StoreError):
        store.read_since(0, "")


def test_nothing_there_is_a_store_that_is_missing() -> None:
    store, played = stored_at()
    calls: list[Callable[[], object]] = [
        lambda: store.read_since(0, ""),
        lambda: store.write({"A": "1"}),
    ]
    for call in calls:
        played.answers = [[]]
        with pytest.raises(StoreMissing, match=r"there is no key \{waffle\}:meta"):
            call()


def test_change_is_sent_once_after_what_comes_before_its_commit() -> None:
    store, played = stored_at(history_limit=7)
    played.answers = [[1, "4", ""]]
    order: list[int] = []
    before_commit = lambda: order.append(len(played.asked))  # noqa: E731
    assert store.write({"B": None, "A": "1"}, before_commit=before_commit) == 4
    assert order == [0]
    (_, sent) = played.asked[0]
    assert (sent[0], sent[1], sent[3]) == (b"", 7, b"")
    assert len(sent[4]) == 16
    # By name backwards.
    assert [sent[8], sent[10]] == [b"B", b"A"]
    played.answers = [redis.TimeoutError("Timeout reading from socket")]
    with pytest.raises(OutcomeUnknown):
        store.write({"A": "1"})
    assert len(played.asked) == 2


def test_change_of_another_revision_is_a_conflict() -> None:
    store, played = stored_at()
    played.answers = [[0, "5", ""], [1, "4", ""]]
    with pytest.raises(RevisionConflict) as raised:
        store.write({"A": "1"}, expected_revision=3)
    assert played.asked[0][1][0] == 3
    assert str(RevisionConflict(3, 5)) == str(raised.value)
    assert store.write({"A": "1"}, expected_revision=3) == 4


def test_text_that_is_none_is_refused_before_it_is_sent() -> None:
    store, played = stored_at()
    with pytest.raises(StoreError, match="Redis is sent no such text"):
        store.write({"A": "\udcff"})
    assert played.asked == []


def test_refused_announcement_is_logged_once_and_left_to_the_notifier(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, played = stored_at()
    store.announce_on(Channel("redis", "news", "redis://nowhere/0"))
    assert store.announces
    played.answers = [[1, "1", "NOPERM"], [1, "2", "NOPERM"], [1, "3", ""], [1, "4", "NOPERM"]]
    announces = []
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            store.write({"A": "1"})
            announces.append(store.announces)
    assert announces == [False, False, True, False]
    assert [message for message in caplog.messages if "ACL: &news" in message] == caplog.messages
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("own", "channel", "announces"),
    [
        ("", Channel("redis", "news", "redis://nowhere/0"), True),
        ("?channel=news", Channel("redis", "news", "redis://nowhere/0"), True),
        ("?channel=other", Channel("redis", "news", "redis://nowhere/0"), False),
        ("", Channel("redis", "news", "redis://elsewhere/0"), False),
        ("", Channel("postgresql", "news"), False),
    ],
)
def test_store_announces_where_its_app_listens(own: str, channel: Channel, announces: bool) -> None:
    store, played = stored_at(f"redis://nowhere/0{own}")
    store.announce_on(channel)
    assert store.announces == announces
    played.answers = [[1, "1", ""]]
    store.write({"A": "1"})
    sent = {"?channel=news": b"news", "?channel=other": b"other"}.get(own, b"")
    assert played.asked[0][1][3] == (b"news" if announces else sent)


@pytest.mark.parametrize(
    ("prefix", "keys"),
    [
        (None, "{waffle}:"),
        ("shop:", "{shop}:"),
        ("shop", "{shop}"),
        ("{a}b:", "{a}b:"),
        ("{}b:", "{{}b}:"),
        (":", "{:}"),
    ],
)
def test_keys_have_one_hash_tag(prefix: str | None, keys: str) -> None:
    store, _ = stored_at(prefix=prefix)
    assert store.identity == f"redis://nowhere/0 {keys}meta"
    assert repr(store) == "<RedisStore redis://nowhere/0>"


def test_report_lives_as_long_as_it_says() -> None:
    store, played = stored_at()
    played.answers = [None, None]
    store.report(a_report(lifetime_s=2.5))
    store.report(a_report(lifetime_s=0.0))
    assert [sent[1] for _, sent in played.asked] == [2500, 1]
    assert played.asked[0][0] == ["{waffle}:workers", "{waffle}:workers:shop:web1:101"]


def test_close_ends_the_connections_of_this_process() -> None:
    store, played = stored_at()
    store.close()
    assert played.closed == 1
    RedisStore("redis://nowhere/0").close()


def test_outage_names_the_server() -> None:
    store, played = stored_at()
    played.answers = [redis.ConnectionError("refused")] * 2
    with pytest.raises(StoreUnavailable, match="Redis at redis://nowhere/0"):
        store.read_since(0, "")


def test_url_whose_options_are_none_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="the URL does not name a Redis"):
        RedisStore("redis://nowhere/0?no_such_option=1")


@pytest.mark.parametrize(("limit", "kept"), [(1, [5]), (2, [5, 4]), (9, [5, 4, 3, 2, 1])])
def test_no_more_history_is_loaded_than_the_store_keeps(limit: int, kept: list[int]) -> None:
    store, played = stored_at(history_limit=limit)
    played.answers = [[1, "5", ""]]
    at = datetime.now(timezone.utc)
    history = [HistoryEntry(number, "A", None, "1", None, None, at) for number in range(5, 0, -1)]
    store.load(Dump(5, "first", {"A": "1"}, tuple(history)))
    ((_, sent),) = played.asked
    assert sent[0] == b"", "at any revision of the store"
    of_entries = sent[7:]
    each = len(fields_of(history[0]))
    assert len(of_entries) == each * len(kept)
    assert of_entries[::each] == kept[::-1]


def test_history_of_redis_has_ten_thousand_changes_unless_another_limit_is_given() -> None:
    store, played = stored_at()
    played.answers = [[1, "1", ""]]
    store.write({"A": "1"})
    assert played.asked[0][1][1] == 10_000
