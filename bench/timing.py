"""Timing of small operations, and percentiles; the peers' environments import this, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def samples_ns(operation: Callable[[], object], *, rounds: int, repeat: int = 1) -> list[float]:
    """Return the nanoseconds of one operation, a figure per round of ``repeat`` operations."""
    results = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(repeat):
            operation()
        results.append((time.perf_counter_ns() - start) / repeat)
    return results


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least ``percent`` % of all don't exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, round(len(ordered) * percent / 100) - 1))]
