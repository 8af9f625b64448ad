"""Waiting for something to become true, with a deadline and with evidence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A machine with two busy cores needs seconds for what takes milliseconds elsewhere.
DEADLINE_S = 30.0


class NotInTime(Exception):
    """What was waited for did not come true; no AssertionError, which a probe may raise."""


def eventually(
    what: str,
    probe: Callable[[], T],
    *,
    evidence: Callable[[], str] = str,
    deadline_s: float = DEADLINE_S,
    interval_s: float = 0.02,
) -> T:
    """Return the first truthy answer of a probe.

    An assertion or an OSError in the probe means "not yet"; any other exception ends the wait.

    :raises NotInTime: there was none in time; with the last answer and the evidence.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        last: object
        try:
            answer = probe()
            if answer:
                return answer
            last = answer
        except (AssertionError, OSError) as exc:
            last = exc
        if time.monotonic() > deadline:
            raise NotInTime(f"not {what} within {deadline_s:g} s; last: {last!r}\n{evidence()}")
        time.sleep(interval_s)
