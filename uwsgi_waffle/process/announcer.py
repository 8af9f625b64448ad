"""Announcing a change by every notifier, and again what could not be announced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ..backoff import Backoff
from ..notifiers.base import Notifier
from .health import Health

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 10.0


class Announcer:
    """Announces revisions; a failure is shown and tried again, never raised.

    :param notifiers: in the order in which they announce.
    """

    def __init__(
        self,
        notifiers: Iterable[Notifier],
        health: Health,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifiers = list(notifiers)
        self._health = health
        self._clock = clock
        self._owing: set[Notifier] = set()
        self._retry_at = 0.0
        self._backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S)

    def announce(
        self, revision: int, epoch: str = "", mark: str = "", *, done_by: Notifier | None = None
    ) -> None:
        """Announce by every notifier; blocks for the sum of their bounds. Any thread may call this.

        :param epoch: the life of the store that the revision belongs to.
        :param mark: of the change that made the revision.
        :param done_by: a notifier that need not: the store has announced it on its channel.
        """
        for notifier in self._notifiers:
            if notifier is done_by:
                self._done(notifier)
            else:
                self._announce(notifier, revision, epoch, mark)

    def owe(self) -> None:
        """Have the watcher announce the newest revision of this process at its next turn."""
        self._owing.update(self._notifiers)

    def retry(self, revision: int, epoch: str = "", mark: str = "") -> None:
        """Announce by those that failed, once their backoff is over.

        Runs in the watcher thread; returns at once when there is nothing to announce.

        :param revision: the newest of this process; a notice of an older one is of no use.
        """
        if self._owing and self._clock() >= self._retry_at:
            for notifier in list(self._owing):
                self._announce(notifier, revision, epoch, mark)

    def _announce(self, notifier: Notifier, revision: int, epoch: str, mark: str) -> None:
        try:
            notifier.announce(revision, epoch, mark)
        except Exception as exc:
            self._retry_at = self._clock() + self._backoff.next_s()
            self._owing.add(notifier)
            self._health.failed(_part(notifier), exc)
        else:
            self._done(notifier)

    def _done(self, notifier: Notifier) -> None:
        self._owing.discard(notifier)
        if not self._owing:
            self._backoff.reset()
        self._health.works(_part(notifier))


def _part(notifier: Notifier) -> str:
    return f"announcing by {notifier.name}"
