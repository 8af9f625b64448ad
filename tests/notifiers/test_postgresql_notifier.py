"""The PostgreSQL notifier without a server: what it makes of messages, silence and faults."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from uwsgi_waffle import NotifierError
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers import postgresql as module
from uwsgi_waffle.notifiers.postgresql import PostgresqlNotifier

from ..support.rig import Clock, waits_while_away


class FakeSubscription:
    """Hears what a test says, as soon as it is said."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._descriptors = os.pipe()
        os.set_blocking(self._descriptors[0], False)
        self._came: list[tuple[str, str]] = []
        self.listened: list[str] = []
        self.closed = False

    def is_direct(self) -> bool:
        return self._rig.direct

    def listen(self, channel: str) -> None:
        if self._rig.refuse is not None:
            raise self._rig.refuse
        self.listened.append(channel)

    def unlisten(self, channel: str) -> None:
        self.listened.remove(channel)

    def put(self, channel: str, message: str) -> None:
        self._came.append((channel, message))
        os.write(self._descriptors[1], b"x")

    def take(self) -> list[tuple[str, str]]:
        if self._rig.broken is not None:
            raise self._rig.broken
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptors[0], 1000)
        came, self._came = self._came, []
        return came

    def fileno(self) -> int:
        return self._descriptors[0]

    def close(self) -> None:
        self.closed = True
        for descriptor in self._descriptors:
            os.close(descriptor)


class Rig:
    """A notifier on channel ``c``; what is published is heard if ``passes``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.subscriptions: list[FakeSubscription] = []
        self.published: list[tuple[str, str]] = []
        self.direct = True
        self.passes = True
        self.refuse: Exception | None = None
        self.broken: Exception | None = None
        self.unreachable: Exception | None = None
        self.notifier = self.make()

    def make(self, *, is_store: bool = True) -> PostgresqlNotifier:
        return PostgresqlNotifier(
            self.connect,
            self.publish,
            "c",
            shown="postgresql://db1/shop",
            is_store=is_store,
            timeout_s=0.05,
            clock=self.clock,
        )

    def connect(self) -> FakeSubscription:
        if self.unreachable is not None:
            raise self.unreachable
        self.subscriptions.append(FakeSubscription(self))
        return self.subscriptions[-1]

    def publish(self, channel: str, message: str) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.published.append((channel, message))
        if self.passes:
            for subscription in self.subscriptions:
                if channel in subscription.listened:
                    subscription.put(channel, message)

    @property
    def subscription(self) -> FakeSubscription:
        return self.subscriptions[-1]

    def hear(self, *messages: str) -> Notice | None:
        for message in messages:
            self.subscription.put("c", message)
        return self.notifier.wait(0.05)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.notifier.close()
    assert all(subscription.closed for subscription in rig.subscriptions)


@pytest.fixture
def heard(rig: Rig) -> Rig:
    assert rig.notifier.wait(0.0) == Notice(None)
    return rig


def test_nothing_is_opened_before_it_is_used(rig: Rig) -> None:
    assert rig.subscriptions == []
    assert rig.notifier.fileno() == -1


def test_subscription_tells_that_notices_may_be_lost(rig: Rig) -> None:
    assert rig.notifier.wait(0.0) == Notice(None)
    assert rig.subscription.listened == ["c"]
    assert rig.notifier.fileno() == rig.subscription.fileno()
    assert rig.published == []


def test_announced_revision_is_what_another_hears(heard: Rig) -> None:
    heard.notifier.announce(7, "epoch", "mark")
    assert heard.notifier.wait(0.0) == Notice(7, "epoch", "mark")
    assert heard.notifier.wait(0.0) is None


def test_message_is_what_postgresql_writes_too(heard: Rig) -> None:
    assert heard.hear('{"revision" : 7, "epoch" : "e", "mark" : "m"}') == Notice(7, "e", "m")


def test_messages_that_came_together_are_one_notice(heard: Rig) -> None:
    assert heard.hear('{"revision":7}', '{"revision":7}') == Notice(7)
    assert heard.hear('{"revision":8}', '{"revision":7}') == Notice(None)


def test_other_channels_are_not_heard(heard: Rig) -> None:
    heard.subscription.put("another", '{"revision":7}')
    assert heard.notifier.wait(0.05) is None


@pytest.mark.parametrize("data", ["", "x", "{}", '{"revision":null}', "\udcff", "[" * 7000])
def test_malformed_message_is_ignored_logged_and_counted(
    heard: Rig, data: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert heard.hear(data) is None
    assert heard.notifier.malformed == 1
    (record,) = caplog.records
    assert "malformed message on the PostgreSQL channel 'c'" in record.getMessage()
    assert "WAFFLE_POSTGRESQL_CHANNEL" in record.getMessage()
    assert len(record.getMessage()) < 1000
    assert heard.hear(data, '{"revision":7}', data) == Notice(7)


# --- a peer that fell silent ------------------------------------------------------------------


def test_silence_of_five_seconds_is_a_question_to_the_server(heard: Rig) -> None:
    heard.clock.advance(5.0)
    assert heard.hear() is None
    assert heard.subscription.listened == ["c"]
    heard.clock.advance(0.1)
    assert heard.hear() is None
    assert heard.hear() is None
    assert heard.subscription.listened == ["c", "c"]


def test_what_comes_with_the_answer_is_heard(heard: Rig) -> None:
    heard.clock.advance(5.1)
    # As a driver has it that read more than the answer: nothing is left on the socket.
    heard.subscription._came.append(("c", '{"revision":7}'))
    assert heard.notifier.wait(0.0) == Notice(7)


def test_question_without_an_answer_drops_the_connection_and_subscribes_again(heard: Rig) -> None:
    silent = heard.subscription
    heard.clock.advance(5.1)
    heard.refuse = TimeoutError("it did not answer in time")
    with pytest.raises(NotifierError, match="did not answer in time"):
        heard.hear()
    assert silent.closed
    heard.refuse = None
    heard.clock.advance(2.0)
    assert heard.notifier.wait(0.0) == Notice(None)
    assert heard.subscription is not silent


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(104, "reset"), ValueError("closed"), RuntimeError("x")])
def test_whatever_fails_is_a_notifier_error_and_is_healed_by_a_new_subscription(
    heard: Rig, error: Exception
) -> None:
    heard.broken = error
    with pytest.raises(NotifierError) as caught:
        heard.hear("x")
    assert caught.value.__cause__ is error
    assert heard.subscriptions[0].closed
    heard.broken = None
    assert heard.notifier.wait(0.001) is None  # its backoff, not another attempt
    heard.clock.advance(2.0)
    assert heard.notifier.wait(0.0) == Notice(None)
    assert len(heard.subscriptions) == 2


def test_attempts_to_come_back_grow_rarer(rig: Rig) -> None:
    rig.unreachable = OSError("refused by postgresql://ann:s3cr3t@db1/shop")
    errors = []
    for _ in range(100):
        try:
            rig.notifier.wait(0.0)
        except NotifierError as exc:
            errors.append(str(exc))
        rig.clock.advance(0.1)
    assert 5 <= len(errors) <= 20
    assert "s3cr3t" not in "".join(errors)
    rig.unreachable = None
    rig.clock.advance(2.0)
    assert rig.notifier.wait(0.0) == Notice(None)
    rig.broken = OSError("gone")
    with pytest.raises(NotifierError):
        rig.hear("x")
    rig.broken = None
    rig.clock.advance(0.1)
    assert rig.notifier.wait(0.0) == Notice(None)


def test_failed_announcement_is_a_notifier_error(rig: Rig) -> None:
    rig.refuse = OSError(104, "reset")
    with pytest.raises(NotifierError) as caught:
        rig.notifier.announce(7)
    assert caught.value.__cause__ is rig.refuse


# --- what lies between ------------------------------------------------------------------------


@pytest.mark.parametrize(("direct", "is_store"), [(False, True), (True, False)])
def test_connection_that_may_not_hear_the_store_is_proved_by_a_message(
    rig: Rig, direct: bool, is_store: bool
) -> None:
    rig.direct = direct
    rig.notifier = rig.make(is_store=is_store)
    assert rig.notifier.wait(0.0) == Notice(None)
    ((channel, _),) = rig.published
    # Others hear nothing of it.
    assert channel == module.PROBE_CHANNEL
    assert rig.subscription.listened == ["c"]


def test_pooler_that_passes_no_notice_on_is_an_error_that_names_the_fix(rig: Rig) -> None:
    rig.direct = rig.passes = False
    with pytest.raises(module.Unheard, match=r"PgBouncer.*WAFFLE_POSTGRESQL_URL") as caught:
        rig.notifier.wait(0.0)
    assert caught.value.__cause__ is None
    assert rig.subscription.closed
    # It does not begin to work within seconds.
    rig.clock.advance(module.UNHEARD_RETRY_S - 0.1)
    assert rig.notifier.wait(0.0) is None
    rig.passes = True
    rig.clock.advance(0.2)
    assert rig.notifier.wait(0.0) == Notice(None)


def test_store_that_can_not_announce_proves_nothing(rig: Rig) -> None:
    rig.direct = False

    def refuse(channel: str, message: str) -> None:
        raise OSError("gone")

    rig.notifier._publish = refuse
    assert rig.notifier.wait(0.0) == Notice(None)


# --- the end ----------------------------------------------------------------------------------


def test_close_ends_a_wait_at_once_and_closes_the_connection(heard: Rig) -> None:
    began = threading.Event()

    def wait() -> None:
        began.set()
        heard.notifier.wait(60.0)

    thread = threading.Thread(target=wait)
    thread.start()
    assert began.wait(10)
    heard.notifier.close()
    thread.join(30)
    assert not thread.is_alive()
    assert heard.subscription.closed


def test_close_ends_a_proof_that_is_under_way(rig: Rig) -> None:
    rig.direct = rig.passes = False
    rig.notifier._timeout_s = 60.0
    thread = threading.Thread(target=rig.notifier.wait, args=(0.0,))
    thread.start()
    while not rig.published:
        pass
    rig.notifier.close()
    thread.join(30)
    assert not thread.is_alive()


def test_close_under_a_wait_is_no_fault(heard: Rig) -> None:
    def closed() -> list[tuple[str, str]]:
        heard.notifier.close()
        raise ValueError("I/O operation on closed file")

    heard.subscription.put("c", "x")
    heard.subscription.take = closed  # type: ignore[method-assign]
    assert heard.notifier.wait(0.2) is None


def test_closed_notifier_neither_waits_nor_connects(rig: Rig) -> None:
    rig.notifier.close()
    assert rig.notifier.wait(60.0) is None
    assert rig.subscriptions == []


def test_repr_names_the_channel(rig: Rig) -> None:
    assert repr(rig.notifier) == "<PostgresqlNotifier postgresql://db1/shop channel='c'>"


# --- how long it waits ------------------------------------------------------------------------


def test_wait_lasts_until_the_next_attempt_while_the_database_is_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.unreachable = OSError("refused")
    attempts, waits = waits_while_away(rig.notifier, rig.clock, monkeypatch, turns=200)
    # But for those that tried, each turn has waited.
    assert len(waits) == 200 - attempts
    assert attempts < 60
    assert all(wait_s is not None and 0 < wait_s <= 0.2 for wait_s in waits)


def test_any_message_counts_as_a_sign_of_life(heard: Rig) -> None:
    for _ in range(5):
        heard.clock.advance(4.0)
        heard.hear('{"revision":7}')
    heard.clock.advance(4.0)
    assert heard.hear() is None
    assert heard.subscription.listened == ["c"]


def test_poll_lasts_as_long_as_it_is_asked_to(heard: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Poll:
        def register(self, descriptor: int, events: int) -> None:
            pass

        def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
            waits.append(timeout_ms)
            return []

    monkeypatch.setattr(module, "select", SimpleNamespace(poll=Poll, POLLIN=1))
    for seconds in (-1.0, 0.0, 0.25):
        assert heard.notifier.wait(seconds) is None
    assert waits == [0.0, 0.0, 250.0]


def test_proof_is_waited_for_without_a_spin(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.direct = False
    takes: list[int] = []
    take = FakeSubscription.take

    def late(self: FakeSubscription) -> list[tuple[str, str]]:
        takes.append(1)
        return take(self) if len(takes) > 1 else []

    monkeypatch.setattr(FakeSubscription, "take", late)
    assert rig.notifier.wait(0.0) == Notice(None)
    del takes[:]
    rig.passes = False
    rig.notifier._disconnect()
    with pytest.raises(module.Unheard):
        rig.notifier.wait(0.0)
    assert len(takes) <= 10


def test_set_up_that_can_not_work_is_tried_again_after_ten_seconds() -> None:
    assert module.UNHEARD_RETRY_S == 10.0


def test_close_waits_for_no_connection_that_is_being_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def connect() -> FakeSubscription:
        connecting.set()
        go_on.wait(10)
        return rig.connect()

    def wait() -> None:
        rig.notifier.wait(0.0)
        done.set()

    monkeypatch.setattr(rig.notifier, "_connect", connect)
    thread = threading.Thread(target=wait)
    thread.start()
    assert connecting.wait(10)
    rig.notifier.close()
    assert not done.is_set()
    go_on.set()
    thread.join(30)
    # Who has the turn ends the connection that it made.
    assert rig.subscription.closed


def test_wake_never_waits_and_leaves_nothing_open() -> None:
    wake = module._Wake()
    ends = (wake.descriptor, wake._writer)
    assert not any(map(os.get_blocking, ends))
    wake.wake()
    del wake
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


def test_question_reaches_another_with_the_revision(heard: Rig) -> None:
    heard.notifier.ask("abc.drained", 7, "epoch", "mark")
    assert heard.notifier.wait(0.0) == Notice(7, "epoch", "mark", ("abc.drained",))
