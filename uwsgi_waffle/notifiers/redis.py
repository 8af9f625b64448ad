"""Redis pub/sub: reaches the workers of every host."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

# At module top, because gevent's late patching breaks a thread that imports redis meanwhile.
import redis

from ..backoff import Backoff
from ..errors import NotifierError
from ..masking import redact
from ..redis_servers.clients import close, doubt, make_client
from ..redis_servers.failures import Place, failure_of
from ..redis_servers.urls import parse_redis_url
from .base import Notice, Notifier
from .messages import Inbox, encode

PING_INTERVAL_S = 5.0
# More than these are left for the next call, so that a flood can't keep a watcher from the rest.
MAX_DRAINED = 1000
# A message that had to be waited for less long than this was not the first of those to come.
AT_ONCE_S = 0.001


KEY = "WAFFLE_REDIS_URL"


class RedisNotifier(Notifier):
    """Announces by publishing the revision on a channel.

    Redis keeps nothing for a subscriber that is away, and redis-py subscribes again on its own
    after a reconnect. Each confirmation of a subscription therefore is a notice that only the
    store shows what was missed.

    Source: Redis documentation, "Pub/Sub", at-most-once delivery; redis-py 8.1.0, measured: a
    message published while the server restarts reaches nobody, and no exception is raised.

    :param url: a URL as :func:`.check_redis_url` has it; never logged with its password.
    :param channel: the channel's name.
    :param timeout_s: longest time that connecting, publishing or an answer may take.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        channel: str,
        *,
        timeout_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._clock = clock
        self._shown_url = redact(url)
        self._client = make_client(
            parse_redis_url(url, key=KEY),
            connect_s=timeout_s,
            answer_s=timeout_s,
            key=KEY,
            slot_of=channel,
        )
        self._closed = threading.Event()
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._pubsub: Any = None
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._inbox = Inbox(
            f"Redis channel {channel!r}",
            "give each app a WAFFLE_REDIS_CHANNEL of its own",
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<RedisNotifier {self._shown_url} channel={self._channel!r}>"

    @property
    def malformed(self) -> int:
        """How many messages were none of ours."""
        return self._inbox.malformed

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        """Publish a revision; blocks for at most twice ``timeout_s``.

        :raises NotifierError: Redis can't be reached or refuses.
        """
        self._send(encode(revision, epoch, mark))

    def ask(self, question: str, revision: int, epoch: str = "", mark: str = "") -> None:
        self._send(encode(revision, epoch, mark, question))

    def _send(self, message: bytes) -> None:
        try:
            self._client.publish(self._channel, message)
        except (redis.RedisError, OSError) as exc:
            raise self._failure(exc) from exc

    def wait(self, timeout_s: float) -> Notice | None:
        if self._closed.is_set():
            return None
        if self._pubsub is None:
            rest_s = self._retry_at - self._clock()
            if rest_s > 0:
                self._closed.wait(min(rest_s, timeout_s))
                return None
        try:
            if self._pubsub is None:
                self._subscribe()
            return self._receive(timeout_s)
        except Exception as exc:
            # redis-py may trip over its own socket, too, when that is closed under it.
            self._disconnect()
            if self._closed.is_set():
                return None
            self._retry_at = self._clock() + self._backoff.next_s()
            raise self._failure(exc) from exc

    def close(self) -> None:
        self._closed.set()
        # The watcher may be reading from the subscription; it ends within its timeout, and its
        # socket goes with it. Only the publishing connections are closed here.
        close(self._client)

    def _subscribe(self) -> None:
        client: Any = self._client  # redis-py leaves pubsub() without types
        self._pubsub = client.pubsub()
        self._pubsub.subscribe(self._channel)
        self._heard_at = self._clock()
        self._pinged_at = None

    def _disconnect(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with contextlib.suppress(Exception):
                pubsub.close()

    def _receive(self, timeout_s: float) -> Notice | None:
        self._check_alive()
        notice: Notice | None = None
        began = self._clock()
        wait_s = timeout_s
        for _ in range(MAX_DRAINED):
            message: dict[str, Any] | None = self._pubsub.get_message(timeout=wait_s)
            if message is None:
                break
            now = self._heard_at = self._clock()
            self._pinged_at = None
            notice = self._merged(notice, message)
            # After a silence nothing more is there, and a look for it would only delay what is.
            if wait_s and now - began >= AT_ONCE_S:
                break
            wait_s = 0.0
        return notice

    def _merged(self, notice: Notice | None, message: dict[str, Any]) -> Notice | None:
        if message["type"] == "subscribe":
            self._backoff.reset()
            return Notice(None)
        if message["type"] != "message":
            return notice
        return self._inbox.merged(notice, message["data"])

    def _check_alive(self) -> None:
        # A peer that vanished without a word leaves a socket that stays silent permanently.
        now = self._clock()
        if self._pinged_at is not None:
            if now - self._pinged_at > self._timeout_s:
                raise redis.TimeoutError("it does not answer a ping")
        elif now - self._heard_at > PING_INTERVAL_S:
            self._pubsub.ping()
            self._pinged_at = now

    def _failure(self, exc: Exception) -> NotifierError:
        named = f"{KEY} (or WAFFLE_REDIS_HOST and WAFFLE_REDIS_PORT)"
        place = Place(self._shown_url, named, channel=self._channel)
        failure = failure_of(exc, place)
        if failure.kind == "passing":
            with contextlib.suppress(redis.RedisError, OSError):
                doubt(self._client)
        return NotifierError(failure.text)
