"""Announcing by a notifier that a process makes only when it has something to announce."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .base import Notice, Notifier


class Publisher(Notifier):
    """Announces by a notifier that is made at the first announcement; waits for nothing.

    Most processes never make a change, and a driver takes megabytes of each that imports it.

    :param name: of the notifier.
    :param make: makes it; any thread may be the one that calls it.
    """

    def __init__(self, name: str, make: Callable[[], Notifier]) -> None:
        self.name = name
        self._make = make
        self._lock = threading.Lock()
        self._notifier: Notifier | None = None

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        self._made().announce(revision, epoch, mark)

    def ask(self, question: str, revision: int, epoch: str = "", mark: str = "") -> None:
        self._made().ask(question, revision, epoch, mark)

    def wait(self, timeout_s: float) -> Notice | None:
        """Return ``None`` at once: nobody hears by this one."""
        return None

    def close(self) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.close()

    def _made(self) -> Notifier:
        with self._lock:
            if self._notifier is None:
                self._notifier = self._make()
            return self._notifier
