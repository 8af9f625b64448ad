"""Waiting times between attempts that fail."""

from __future__ import annotations

import random


class Backoff:
    """Gives growing, capped, jittered waiting times.

    :param first_s: upper end of the first wait, in seconds.
    :param cap_s: no wait is longer.
    """

    def __init__(self, first_s: float = 0.1, cap_s: float = 2.0) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._attempts = 0

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt.

        Half of it is random, so that many workers don't come back at the same instant.
        """
        # The exponent is bounded because 2.0**1024 overflows after hours of outage.
        ceiling = min(self._cap_s, self._first_s * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return ceiling * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again after a success."""
        self._attempts = 0
