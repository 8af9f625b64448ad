"""A question to the processes of this host: which revisions do your requests hold?"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..process.page import Page
from ..process.slots import Slots, SlotState


class Question:
    """Asks the processes of a host, by the page, which revisions their requests hold.

    A question of another that stands on the page after the own one takes its place: many who ask
    at once would have each answer overwritten before they see it.

    :param least_s: shortest time between two questions; each wakes the watchers.
    """

    def __init__(
        self,
        slots: Slots,
        page: Page,
        *,
        least_s: float = 0.005,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._page = page
        self._least_s = least_s
        self._clock = clock
        self._asked_at = float("-inf")
        self._asked: set[bytes] = set()

    def ask(self) -> None:
        """Ask, unless that was done just now, or by another since the last call.

        :raises OSError: the page can't be written.
        """
        self.follow()
        now = self._clock()
        if now - self._asked_at >= self._least_s:
            self._asked.add(self._page.ask())
            self._asked_at = now

    def follow(self) -> None:
        """Take a question that another has asked after the own one for the own."""
        asked = self._page.asked
        # A page that was made again has none.
        if self._asked and any(asked) and asked not in self._asked:
            self._asked.add(asked)
            self._asked_at = self._clock()

    def oldest(self, slot: SlotState) -> int | None:
        """Return the oldest revision that a slot's requests hold, or ``None`` without an answer."""
        return self._slots.oldest(slot.number) if slot.answered in self._asked else None
