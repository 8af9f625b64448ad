"""A question to the processes of this host: which revisions do your requests hold?"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..process.slots import Slots, SlotState


class Question:
    """Asks the processes of a host, by the page, which revisions their requests hold.

    :param ask: writes a new question to the page, and returns it.
    :param least_s: shortest time between two questions; each wakes the watchers.
    """

    def __init__(
        self,
        slots: Slots,
        ask: Callable[[], bytes],
        *,
        least_s: float = 0.005,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._ask = ask
        self._least_s = least_s
        self._clock = clock
        self._asked_at = float("-inf")
        self._asked: set[bytes] = set()

    def ask(self) -> None:
        """Ask, unless that was done just now.

        :raises OSError: the page can't be written.
        """
        now = self._clock()
        if now - self._asked_at >= self._least_s:
            self._asked.add(self._ask())
            self._asked_at = now

    def oldest(self, slot: SlotState) -> int | None:
        """Return the oldest revision that a slot's requests hold, or ``None`` without an answer."""
        return self._slots.oldest(slot.number) if slot.answered in self._asked else None
