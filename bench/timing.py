"""Timing of small operations, and how the figures are shown."""

from __future__ import annotations

import statistics
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


def show(label: str, samples: Sequence[float], *, unit_ns: float, unit: str) -> float:
    """Print median, 5th and 95th percentile of samples in nanoseconds; return the median."""
    median = statistics.median(samples)
    low, high = percentile(samples, 5), percentile(samples, 95)
    print(
        f"  {label:<58} median {median / unit_ns:8.3f} {unit}"
        f"   p5 {low / unit_ns:.3f}   p95 {high / unit_ns:.3f}   n={len(samples)}"
    )
    return median
