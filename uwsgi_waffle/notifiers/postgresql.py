"""PostgreSQL LISTEN/NOTIFY: reaches the workers of every host by the database of the store."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..backoff import Backoff
from ..errors import NotifierError
from ..masking import redact
from .base import Notice, Notifier
from .messages import Inbox, encode

#: how long a connection may be silent until it is asked whether it still is one
PING_INTERVAL_S = 5.0
#: a set-up that can't work does not begin to within seconds, and each attempt blocks the watcher
UNHEARD_RETRY_S = 10.0
#: one for all, because a pooler's connections go on hearing it
PROBE_CHANNEL = "waffle_probe"


class Unheard(NotifierError):
    """A connection that could be made hears nothing of what the store announces."""


class Subscription(Protocol):
    """A connection to PostgreSQL that hears channels. Belongs to one thread at a time.

    Each method raises what its driver raises, and blocks for a stated bound at most.
    """

    def is_direct(self) -> bool:
        """Return whether the server itself is at the other end, and no pooler."""
        ...

    def listen(self, channel: str) -> None:
        """Hear a channel; asks the server also if it is heard already."""
        ...

    def unlisten(self, channel: str) -> None:
        """Hear a channel no longer."""
        ...

    def take(self) -> list[tuple[str, str]]:
        """Return channel and message of all that came, without waiting."""
        ...

    def fileno(self) -> int:
        """Return the descriptor that can be read from when something came."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class PostgresqlNotifier(Notifier):
    """Hears what the store announces within its own transactions, by ``NOTIFY``.

    PostgreSQL keeps nothing for a session that is away. Each subscription therefore is a notice
    that only a read of the store shows what was missed. A connection that fell silent is asked
    every 5 s.

    Through a pooler that gives each transaction another connection nothing is heard, though
    ``LISTEN`` succeeds. A subscription that is not made with the server itself is therefore proved
    once: by a message on a channel that nobody else heeds.

    Source: PostgreSQL 17 documentation, NOTIFY: delivered if and only if the transaction commits;
    PgBouncer documentation, "SQL feature map for pooling modes": no ``LISTEN`` in transaction
    pooling.

    :param connect: opens a subscription that hears nothing yet; blocks for a bound.
    :param publish: announces a message on a channel by a connection of the store's.
    :param channel: the channel's name.
    :param shown: names the database in errors, without any password.
    :param is_store: ``connect`` leads where the store's connections do, unless a pooler is between.
    :param timeout_s: longest time that proving a subscription may take.
    """

    name = "postgresql"

    def __init__(
        self,
        connect: Callable[[], Subscription],
        publish: Callable[[str, str], None],
        channel: str,
        *,
        shown: str,
        is_store: bool = True,
        timeout_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._publish = publish
        self._channel = channel
        self._shown = shown
        self._is_store = is_store
        self._timeout_s = timeout_s
        self._clock = clock
        self._closed = threading.Event()
        # Held by the thread that uses the subscription.
        self._turn = threading.Lock()
        self._subscription: Subscription | None = None
        self._wake: _Wake | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._heard_at = 0.0
        self._inbox = Inbox(
            f"PostgreSQL channel {channel!r}",
            "give each app a WAFFLE_POSTGRESQL_CHANNEL, or a prefix of its tables, of its own",
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<PostgresqlNotifier {self._shown} channel={self._channel!r}>"

    @property
    def malformed(self) -> int:
        """How many messages were none of ours."""
        return self._inbox.malformed

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        """Announce a revision by a connection of the store's; blocks for a read's bound.

        :raises NotifierError: the database can't be reached or refuses.
        """
        self._send(encode(revision, epoch, mark))

    def ask(self, question: str, revision: int, epoch: str = "", mark: str = "") -> None:
        self._send(encode(revision, epoch, mark, question))

    def _send(self, message: bytes) -> None:
        try:
            self._publish(self._channel, message.decode())
        except Exception as exc:
            raise _failure(exc) from exc

    def fileno(self) -> int:
        """Return the descriptor that can be read from when a notice came; -1 without one."""
        subscription = self._subscription
        return -1 if subscription is None else subscription.fileno()

    def wait(self, timeout_s: float) -> Notice | None:
        """Return the next notice; see :meth:`Notifier.wait`.

        Blocks beyond ``timeout_s`` for connecting, and for the answer of a connection that fell
        silent: for the bound of each.
        """
        try:
            with self._turn:
                return self._waited(timeout_s)
        finally:
            if self._closed.is_set():
                self._end()

    def close(self) -> None:
        self._closed.set()
        wake = self._wake
        if wake is not None:
            wake.wake()
        self._end()

    def _end(self) -> None:
        # Who has the turn ends it afterwards.
        if self._turn.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._turn.release()

    def _waited(self, timeout_s: float) -> Notice | None:
        if self._closed.is_set():
            return None
        if self._subscription is None:
            rest_s = self._retry_at - self._clock()
            if rest_s > 0:
                self._closed.wait(min(rest_s, timeout_s))
                return None
        try:
            if self._subscription is None:
                return self._subscribed()
            return self._received(self._subscription, timeout_s)
        except Exception as exc:
            self._disconnect()
            if self._closed.is_set():
                return None
            if isinstance(exc, Unheard):
                self._retry_at = self._clock() + UNHEARD_RETRY_S
                raise
            self._retry_at = self._clock() + self._backoff.next_s()
            raise _failure(exc) from exc

    def _subscribed(self) -> Notice:
        self._subscription = subscription = self._connect()
        is_sure = self._is_store and subscription.is_direct()
        # The last statement, by which people find the connection in pg_stat_activity.
        subscription.listen(self._channel)
        if not is_sure:
            self._prove(subscription)
        self._heard_at = self._clock()
        self._backoff.reset()
        return Notice(None)

    def _prove(self, subscription: Subscription) -> None:
        """Check that what the store announces is heard.

        :raises Unheard: it is not.
        """
        probe = (PROBE_CHANNEL, secrets.token_hex(8))
        subscription.listen(PROBE_CHANNEL)
        try:
            self._publish(*probe)
        except Exception:
            # A store that can't be used announces nothing, and says so itself.
            return
        deadline = time.monotonic() + self._timeout_s
        while probe not in subscription.take():
            rest_s = deadline - time.monotonic()
            if rest_s <= 0:
                raise Unheard(
                    f"what the store announces is not heard on {self._shown}: a pooler that gives "
                    "each transaction another connection (PgBouncer, pool_mode = transaction) lies "
                    "between, or it is another database: name the server itself, and the database "
                    "of the store, in WAFFLE_POSTGRESQL_URL; the store may go on through the pooler"
                )
            self._ready(subscription, rest_s)
            if self._closed.is_set():
                return
        subscription.unlisten(PROBE_CHANNEL)

    def _received(self, subscription: Subscription, timeout_s: float) -> Notice | None:
        if self._ready(subscription, timeout_s):
            self._heard_at = self._clock()
        elif self._clock() - self._heard_at > PING_INTERVAL_S and not self._closed.is_set():
            # A peer that vanished without a word leaves a socket that stays silent permanently.
            subscription.listen(self._channel)
            self._heard_at = self._clock()
        else:
            return None
        notice: Notice | None = None
        for channel, message in subscription.take():
            if channel == self._channel:
                notice = self._inbox.merged(notice, message)
        return notice

    def _ready(self, subscription: Subscription, timeout_s: float) -> bool:
        """Wait until something came, or until :meth:`close`; return whether something came."""
        if self._wake is None:
            self._wake = _Wake()
        if self._closed.is_set():
            return False
        # Not select(): the descriptors of a busy worker may be above its limit.
        poll = select.poll()
        descriptor = subscription.fileno()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._wake.descriptor, select.POLLIN)
        return any(ready == descriptor for ready, _ in poll.poll(max(0.0, timeout_s) * 1000))

    def _disconnect(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(Exception):
                subscription.close()


class _Wake:
    """Ends a poll of another thread."""

    def __init__(self) -> None:
        # Neither a socket, which gevent would make one of its own, nor an event of Linux only.
        self.descriptor, self._writer = os.pipe()
        for end in (self.descriptor, self._writer):
            os.set_blocking(end, False)

    def __del__(self) -> None:
        # In whichever thread lets go of it last, so that no one waits for a closed descriptor.
        for end in (self.descriptor, self._writer):
            os.close(end)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"x")


def _failure(exc: Exception) -> NotifierError:
    return NotifierError(f"PostgreSQL's notices can't be used: {redact(str(exc))}")
