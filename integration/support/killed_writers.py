"""Counts the notices that are lost while writers are killed at any instant of their changes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import time
import warnings
from collections import deque
from typing import Any, NamedTuple

import msgspec

from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers.messages import Message
from uwsgi_waffle.notifiers.postgresql import PostgresqlNotifier
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores import Store

#: how long the last notices may take to come, and a writer its change
LATEST_S = 30.0


class Tally(NamedTuple):
    """What came of the changes.

    :ivar changes: that were committed.
    :ivar kills: of writers, each within a change.
    :ivar unanswered: changes of theirs that were committed all the same.
    :ivar lost: the revisions that no notice told of.
    """

    changes: int
    kills: int
    unanswered: int
    lost: set[int]


def tally(
    store: Store,
    notifier: PostgresqlNotifier | RedisNotifier,
    *,
    changes: int,
    kills: int,
    order: random.Random,
) -> Tally:
    """Make changes in another process, which is killed within some of them; count what is heard.

    :param store: prepared, and empty; announces its changes itself.
    :param notifier: of the store's channel.
    :param changes: beside those whose writer is killed.
    """
    assert store.announces
    heard = _record(notifier)
    # The subscription; of Redis it comes some time after the first call.
    while notifier.wait(1.0) != Notice(None):
        pass
    # Of the last changes: so long may the next one take.
    took_s: deque[float] = deque([0.005], maxlen=50)
    answered = 0
    killed = set(order.sample(range(changes + kills), kills))
    writer = _Writer(store)
    try:
        for number in range(changes + kills):
            began = time.monotonic()
            writer.begin()
            if number not in killed:
                writer.end()
                took_s.append(time.monotonic() - began)
                answered += 1
            else:
                time.sleep(order.uniform(0.0, 1.5 * statistics.median(took_s)))
                answered += writer.kill()
                writer = _Writer(store)
            notifier.wait(0.0)
    finally:
        writer.kill()
    revision = _revision(store)
    deadline = time.monotonic() + LATEST_S
    wanted = set(range(1, revision + 1))
    while not wanted <= heard and time.monotonic() < deadline:
        notifier.wait(0.1)
    return Tally(revision, kills, revision - answered, wanted - heard)


def _record(notifier: PostgresqlNotifier | RedisNotifier) -> set[int]:
    """Have a notifier note the revision of each message that it takes."""
    heard: set[int] = set()
    inbox: Any = notifier._inbox
    merged = inbox.merged

    def noted(notice: Notice | None, data: bytes | str) -> Notice | None:
        heard.add(msgspec.json.decode(data, type=Message).revision)
        result: Notice | None = merged(notice, data)
        return result

    inbox.merged = noted
    return heard


def _revision(store: Store) -> int:
    return store.read_since(0, "").revision


class _Writer:
    """A process that makes one change each time it is told to."""

    def __init__(self, store: Store) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of forks beside threads; the child has connections of its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            with contextlib.suppress(BaseException):
                os.close(self._orders)
                while os.read(orders, 1):
                    store.write({"NUMBER": str(time.monotonic_ns())})
                    os.write(answers, b"x")
            os._exit(1)
        os.close(orders)
        os.close(answers)

    def begin(self) -> None:
        os.write(self._orders, b"x")

    def end(self) -> None:
        assert os.read(self._answers, 1), "the writer failed"

    def kill(self) -> bool:
        """Kill it, and wait for its end; return whether it had made its change by then."""
        if not self._pid:
            return False
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._pid = 0
        answered = bool(os.read(self._answers, 1))
        os.close(self._orders)
        os.close(self._answers)
        return answered
