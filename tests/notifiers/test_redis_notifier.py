"""The Redis notifier without a server: what it makes of messages, silence and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from uwsgi_waffle import ConfigurationError, NotifierError
from uwsgi_waffle.masking import redact
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers import redis as module
from uwsgi_waffle.notifiers.messages import encode
from uwsgi_waffle.notifiers.redis import RedisNotifier

from ..support.rig import Clock, waits_while_away

SUBSCRIBED: dict[str, Any] = {"type": "subscribe", "channel": b"c", "data": 1}
PONG: dict[str, Any] = {"type": "pong", "channel": None, "data": b""}


def told(data: object) -> dict[str, Any]:
    return {"type": "message", "channel": b"c", "data": data}


class FakePubSub:
    """Gives what a test puts in; raises what it finds among it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any] | Exception] = []
        self.timeouts: list[float] = []
        self.pings = 0
        self.closed = False
        self.channels: list[str] = []
        self.refuse: Exception | None = None

    def subscribe(self, channel: str) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.channels.append(channel)

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        self.timeouts.append(timeout)
        if not self.messages:
            return None
        message = self.messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    def ping(self) -> None:
        self.pings += 1

    def close(self) -> None:
        self.closed = True


class FakePool:
    def disconnect(self, inuse_connections: bool = True) -> None:
        assert not inuse_connections


class FakeClient:
    def __init__(self) -> None:
        self.connection_pool = FakePool()
        self.pubsubs: list[FakePubSub] = []
        self.refuse: Exception | None = None
        self.published: list[tuple[str, bytes]] = []
        self.closed = False

    def pubsub(self) -> FakePubSub:
        pubsub = FakePubSub()
        pubsub.refuse = self.refuse
        self.pubsubs.append(pubsub)
        return pubsub

    def publish(self, channel: str, data: bytes) -> int:
        if self.refuse is not None:
            raise self.refuse
        self.published.append((channel, data))
        return 0

    def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.client = FakeClient()
        monkeypatch.setattr(module, "make_client", lambda url, **options: self.client)
        self.notifier = RedisNotifier(
            "redis://ann:s3cr3t@db1:6379/0", "c", timeout_s=1.0, clock=self.clock
        )

    @property
    def pubsub(self) -> FakePubSub:
        return self.client.pubsubs[-1]

    def hear(self, *messages: dict[str, Any] | Exception) -> Notice | None:
        if not self.client.pubsubs:
            assert self.notifier.wait(0.2) is None
        self.pubsub.messages.extend(messages)
        return self.notifier.wait(0.2)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(monkeypatch)
    yield rig
    rig.notifier.close()


# --- messages ---------------------------------------------------------------------------------


def test_announced_revision_is_what_another_hears(rig: Rig) -> None:
    rig.notifier.announce(7)
    ((channel, data),) = rig.client.published
    assert channel == "c"
    assert rig.hear(told(data)) == Notice(7)


def test_epoch_and_mark_are_heard_where_they_are_known(rig: Rig) -> None:
    rig.notifier.announce(7, "epoch", "mark")
    ((_, data),) = rig.client.published
    assert rig.hear(told(data)) == Notice(7, "epoch", "mark")


def test_same_revision_with_two_marks_is_left_to_the_store(rig: Rig) -> None:
    for mark in ("one", "other"):
        rig.notifier.announce(7, "epoch", mark)
    assert rig.hear(*(told(data) for _, data in rig.client.published)) == Notice(None)


def test_message_with_rows_is_one_without(rig: Rig) -> None:
    assert rig.hear(told(b'{"revision":7,"epoch":"e","rows":[["A","1"]]}')) == Notice(7, "e")
    assert rig.hear(told(b'{"revision":8,"rows":{"A":[null]}}')) == Notice(8)


def test_nothing_is_opened_before_it_is_used(rig: Rig) -> None:
    assert rig.client.pubsubs == []


def test_each_subscription_tells_that_notices_may_be_lost(rig: Rig) -> None:
    assert rig.hear(SUBSCRIBED) == Notice(None)
    assert rig.pubsub.channels == ["c"]
    assert rig.hear(SUBSCRIBED) == Notice(None)  # redis-py came back on its own


def test_messages_that_came_together_are_one_notice(rig: Rig) -> None:
    assert rig.hear(told(b'{"revision":7}'), told(b'{"revision":7}')) == Notice(7)
    assert rig.hear(told(b'{"revision":8}'), told(b'{"revision":7}')) == Notice(None)
    assert rig.hear(SUBSCRIBED, told(b'{"revision":7}')) == Notice(None)
    assert rig.hear(told(b'{"revision":7}'), SUBSCRIBED) == Notice(None)
    assert rig.hear() is None


def test_only_the_first_of_several_messages_is_waited_for(rig: Rig) -> None:
    rig.hear(told(b'{"revision":7}'))
    assert rig.pubsub.timeouts[-2:] == [0.2, 0.0]


def test_message_after_a_silence_is_passed_on_without_a_look_for_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.hear(SUBSCRIBED)
    receive = rig.pubsub.get_message

    def receive_later(timeout: float) -> Any:
        rig.clock.advance(0.1)
        return receive(timeout)

    monkeypatch.setattr(rig.pubsub, "get_message", receive_later)
    del rig.pubsub.timeouts[:]
    assert rig.hear(told(b'{"revision":7}'), told(b'{"revision":8}')) == Notice(7)
    assert rig.pubsub.timeouts == [0.2]
    monkeypatch.undo()
    assert rig.hear() == Notice(8)


def test_flood_is_taken_in_bounded_portions(rig: Rig) -> None:
    rig.hear(*[told(b'{"revision":7}')] * (module.MAX_DRAINED + 1))
    assert len(rig.pubsub.messages) == 1


def test_fields_that_a_later_version_may_add_are_ignored(rig: Rig) -> None:
    assert rig.hear(told(b'{"revision":7,"host":"db1"}')) == Notice(7)


MALFORMED: list[object] = [
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"7",
    b"[]",
    b"{}",
    b"null",
    b'{"revision":null}',
    b'{"revision":"7"}',
    b'{"revision":7.5}',
    b'{"revision":true}',
    b'{"revision":1e999}',
    b'{"revision":7,"epoch":"\xff\xfe"}',
    b'{"revision":7,"mark":"\xc3"}',
    b'{"revision":7,"epoch":null}',
    b"[" * 100_000,
    b"x" * 1_000_000,
    1,
    None,
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data)[:30])
def test_malformed_message_is_ignored_logged_and_counted(
    rig: Rig, data: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert rig.hear(told(data)) is None
    assert rig.notifier.malformed == 1
    (record,) = caplog.records
    assert "malformed" in record.getMessage()
    assert "WAFFLE_REDIS_CHANNEL" in record.getMessage()
    assert len(record.getMessage()) < 1000
    assert rig.hear(told(b'{"revision":7}')) == Notice(7)


def test_malformed_messages_beside_good_ones_hide_nothing(rig: Rig) -> None:
    assert rig.hear(told(b"x"), told(b'{"revision":7}'), told(b"x")) == Notice(7)
    assert rig.notifier.malformed == 2


def test_malformed_messages_are_logged_once_a_minute(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        rig.hear(told(b"x"))
        rig.clock.advance(1.0)
    assert rig.notifier.malformed == 100
    assert len(caplog.records) == 2
    assert "61 so far" in caplog.messages[1]


def test_what_is_no_message_is_ignored(rig: Rig) -> None:
    assert rig.hear(PONG, {"type": "unsubscribe", "channel": b"c", "data": 0}) is None
    assert rig.notifier.malformed == 0


def test_message_is_small_json() -> None:
    assert encode(7) == b'{"revision":7}'


# --- a peer that fell silent ------------------------------------------------------------------


def test_silence_is_answered_by_a_ping_after_five_seconds(rig: Rig) -> None:
    rig.hear(SUBSCRIBED)
    rig.clock.advance(5.0)
    rig.hear()
    assert rig.pubsub.pings == 0
    rig.clock.advance(0.1)
    rig.hear()
    rig.hear()
    assert rig.pubsub.pings == 1


def test_answered_ping_keeps_the_connection(rig: Rig) -> None:
    rig.hear(SUBSCRIBED)
    for _ in range(10):
        rig.clock.advance(5.1)
        rig.hear()
        rig.clock.advance(0.9)
        rig.hear(PONG)
    assert rig.pubsub.pings == 10
    assert len(rig.client.pubsubs) == 1


def test_any_message_counts_as_a_sign_of_life(rig: Rig) -> None:
    rig.hear(SUBSCRIBED)
    for _ in range(10):
        rig.clock.advance(4.0)
        rig.hear(told(b"x"))
    assert rig.pubsub.pings == 0


def test_ping_without_an_answer_drops_the_connection_and_subscribes_anew(rig: Rig) -> None:
    rig.hear(SUBSCRIBED)
    silent = rig.pubsub
    rig.clock.advance(5.1)
    rig.hear()
    rig.clock.advance(1.1)
    with pytest.raises(NotifierError, match="does not answer a ping"):
        rig.hear()
    assert silent.closed
    rig.clock.advance(2.0)
    assert rig.notifier.wait(0.2) is None
    assert rig.pubsub is not silent
    assert rig.hear(SUBSCRIBED) == Notice(None)


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("gone"),
        redis.TimeoutError("slow"),
        redis.AuthenticationError("no"),
        redis.ResponseError("NOPERM"),
        OSError(104, "reset"),
        ValueError("I/O operation on closed file"),
        AttributeError("'NoneType' object has no attribute 'recv'"),
        IndexError("a bug of the driver's"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_fails_is_a_notifier_error_and_is_healed_by_a_new_subscription(
    rig: Rig, error: Exception
) -> None:
    with pytest.raises(NotifierError) as caught:
        rig.hear(error)
    assert caught.value.__cause__ is error
    fix = "access list" if "NOPERM" in str(error) else "WAFFLE_REDIS_URL"
    assert fix in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert rig.client.pubsubs[0].closed
    rig.clock.advance(2.0)
    rig.notifier.wait(0.01)
    assert len(rig.client.pubsubs) == 2
    assert rig.hear(SUBSCRIBED) == Notice(None)


def test_close_of_a_broken_connection_that_fails_does_not_keep_it(rig: Rig) -> None:
    rig.hear(SUBSCRIBED)

    def broken() -> None:
        raise OSError(9, "bad file descriptor")

    rig.pubsub.close = broken  # type: ignore[method-assign]
    with pytest.raises(NotifierError):
        rig.hear(redis.ConnectionError("gone"))
    assert rig.notifier.wait(0.001) is None  # its backoff, not another attempt
    assert len(rig.client.pubsubs) == 1
    rig.clock.advance(2.0)
    rig.notifier.wait(0.001)
    assert len(rig.client.pubsubs) == 2


def test_attempts_to_come_back_grow_rarer(rig: Rig) -> None:
    rig.client.refuse = redis.ConnectionError("refused")
    attempts = 0
    for _ in range(100):
        try:
            rig.notifier.wait(0.0)
        except NotifierError:
            attempts += 1
        rig.clock.advance(0.1)
    assert attempts == len(rig.client.pubsubs)
    assert 5 <= attempts <= 20


def test_wait_lasts_until_the_next_attempt_while_redis_is_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.client.refuse = redis.ConnectionError("refused")
    began = rig.clock()
    attempts, waits = waits_while_away(rig.notifier, rig.clock, monkeypatch, turns=600)
    # But for those that tried, each turn has waited.
    assert len(waits) == 600 - attempts
    assert attempts < 150
    assert rig.clock() - began > 60.0
    assert all(wait_s is not None and 0 < wait_s <= 0.2 for wait_s in waits)


def test_password_in_the_text_of_the_driver_is_masked(rig: Rig) -> None:
    rig.client.refuse = redis.ConnectionError("no redis://ann:s3cr3t@db1:6379/0 here")
    calls: list[Callable[[], object]] = [
        lambda: rig.notifier.announce(7),
        lambda: rig.notifier.wait(0.1),
    ]
    for call in calls:
        with pytest.raises(NotifierError, match=r"no redis://ann:\*\*\*@db1") as caught:
            call()
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (redis.ConnectionError("refused"), "that WAFFLE_REDIS_URL (or {}) names it"),
        (redis.AuthenticationError("WRONGPASS"), "check them in WAFFLE_REDIS_URL (or {}), redis:"),
    ],
)
def test_failure_names_all_keys_that_may_name_the_server(
    rig: Rig, error: Exception, advice: str
) -> None:
    rig.client.refuse = error
    with pytest.raises(NotifierError) as caught:
        rig.notifier.announce(7)
    assert advice.format("WAFFLE_REDIS_HOST and WAFFLE_REDIS_PORT") in str(caught.value)


def test_backoff_starts_anew_after_a_subscription(rig: Rig) -> None:
    rig.client.refuse = redis.ConnectionError("refused")
    for _ in range(10):
        with pytest.raises(NotifierError):
            rig.notifier.wait(0.0)
        rig.clock.advance(2.0)
    rig.client.refuse = None
    rig.notifier.wait(0.0)
    rig.hear(SUBSCRIBED)
    with pytest.raises(NotifierError):
        rig.hear(redis.ConnectionError("gone"))
    rig.clock.advance(0.1)
    rig.notifier.wait(0.0)
    assert rig.hear(SUBSCRIBED) == Notice(None)


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), OSError(104, "reset")])
def test_failed_announcement_is_a_notifier_error(rig: Rig, error: Exception) -> None:
    rig.client.refuse = error
    with pytest.raises(NotifierError, match=r"redis://ann:\*\*\*@db1:6379/0") as caught:
        rig.notifier.announce(7)
    assert caught.value.__cause__ is error


def test_close_under_a_wait_is_no_fault(rig: Rig) -> None:
    def closed(timeout: float) -> None:
        rig.notifier.close()
        raise ValueError("I/O operation on closed file")

    rig.hear(SUBSCRIBED)
    rig.pubsub.get_message = closed  # type: ignore[method-assign]
    assert rig.notifier.wait(0.2) is None


def test_closed_notifier_neither_waits_nor_connects(rig: Rig) -> None:
    rig.notifier.close()
    assert rig.notifier.wait(60.0) is None
    assert rig.client.pubsubs == []
    assert rig.client.closed


# --- the URL ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "",
        "redis://db1:port",
        "redis://ann:s3cr3t@db1:port",
        "redis://ann:s3cr3t/4711@db1",
        "redis://ann:s3cr3t@db1:6379?socket_timeout=never",
    ],
)
def test_url_that_is_none_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="WAFFLE_REDIS_URL") as caught:
        RedisNotifier(url, "c")
    shown = str(caught.value)
    error: BaseException | None = caught.value.__cause__
    while error is not None:
        shown += str(error)
        error = error.__cause__
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://db1:6379/0", "redis://db1:6379/0"),
        ("redis://ann@db1/0", "redis://ann@db1/0"),
        ("redis://:pw@db1/0", "redis://:***@db1/0"),
        ("rediss://ann:pw@db1/0", "rediss://ann:***@db1/0"),
        ("redis://ann:p@w@db1/0", "redis://ann:***@db1/0"),
        ("redis://ann:p/w@db1/0", "redis://ann:***@db1/0"),
        ("unix://ann:pw@/run/redis", "unix://ann:***@/run/redis"),
        ("unix:///run/redis?db=1&password=pw", "unix:///run/redis?db=1&password=***"),
        ("can't reach redis://a:pw@b/0 now", "can't reach redis://a:***@b/0 now"),
        ("no URL at all: x@y", "no URL at all: x@y"),
    ],
)
def test_passwords_of_urls_are_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_repr_masks_the_password() -> None:
    notifier = RedisNotifier("redis://ann:s3cr3t@db1/0", "shop")
    assert repr(notifier) == "<RedisNotifier redis://ann:***@db1/0 channel='shop'>"
    notifier.close()


# --- the border of its bounds -----------------------------------------------------------------


def test_new_subscription_is_not_asked_whether_it_lives(rig: Rig) -> None:
    assert rig.notifier.wait(0.2) is None
    assert rig.pubsub.pings == 0


def test_answer_to_a_ping_may_take_the_whole_timeout(rig: Rig) -> None:
    rig.hear(SUBSCRIBED)
    rig.clock.advance(5.125)
    rig.hear()
    rig.clock.advance(1.0)
    assert rig.hear() is None
    rig.clock.advance(0.125)
    with pytest.raises(NotifierError, match="does not answer a ping"):
        rig.hear()


@pytest.mark.parametrize(
    ("error", "doubts"),
    [
        (redis.ResponseError("READONLY You can't write against a read only replica."), 1),
        (redis.ResponseError("NOPERM this user has no permissions"), 0),
    ],
)
def test_server_is_looked_for_again_after_a_failover_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception, doubts: int
) -> None:
    doubted: list[object] = []
    monkeypatch.setattr(module, "doubt", doubted.append)
    rig.client.refuse = error
    with pytest.raises(NotifierError):
        rig.notifier.announce(7)
    assert len(doubted) == doubts


def test_question_reaches_another_with_the_revision(rig: Rig) -> None:
    rig.notifier.ask("abc.drained", 7, "epoch", "mark")
    ((channel, data),) = rig.client.published
    assert channel == "c"
    assert rig.hear(told(data)) == Notice(7, "epoch", "mark", ("abc.drained",))
