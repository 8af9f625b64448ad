"""Two rules for all reports: when one is written to the store, and when a failure is shown."""

from __future__ import annotations

from collections.abc import Callable

from ..process.health import Health


class Spread:
    """A random moment within a span, from when something new was seen; belongs to one thread.

    All workers of all hosts see a change at once; what they write of it would keep the store from
    those who still read.

    :param span_s: the longest delay.
    :param part: returns for which part of it, 0 to 1, the next one lasts.
    """

    def __init__(self, span_s: float, part: Callable[[], float]) -> None:
        self._span_s = span_s
        self._part = part
        # None while nothing is new.
        self._at: float | None = None

    def is_over(self, is_new: bool, now: float) -> bool:
        """Return whether something is new and its moment has come, which the first call decides."""
        if not is_new:
            self._at = None
            return False
        if self._at is None:
            self._at = now + self._part() * self._span_s
        return now >= self._at

    def end(self) -> None:
        """Forget the moment: what was new is written."""
        self._at = None


class Failures:
    """Those of one kind of report: the first is no fault, for a busy store drops one at times.

    :ivar failing: the newest report failed.

    :param part: that fails when the next one does, too.
    """

    def __init__(self, health: Health, part: str) -> None:
        self.failing = False
        self._health = health
        self._part = part

    def failed(self, error: Exception) -> None:
        """Note that a report failed; the second in a row is shown in the state, and logged."""
        if self.failing:
            self._health.failed(self._part, error, harmless=True)
        self.failing = True

    def end(self) -> None:
        """Note that a report was kept."""
        self.failing = False
        self._health.works(self._part)
