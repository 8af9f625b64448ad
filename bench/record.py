"""What a run of the benchmarks has found so far."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from .timing import percentile

#: How many nanoseconds a unit of time is; figures in other units are kept as they come.
_NS = {"ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}

Row = dict[str, Any]


class Record:
    """Collects figures, and prints each when it comes.

    :param quick: only a smoke test: small rounds, whose figures tell little.
    :param peers: also measure what others made.
    """

    def __init__(self, *, quick: bool = False, peers: bool = True) -> None:
        self.quick = quick
        self.peers = peers
        self.rows: list[Row] = []

    def rounds(self, full: int, quick: int) -> int:
        """Return how many rounds to make."""
        return quick if self.quick else full

    def samples(
        self, measure: str, who: str, samples: Sequence[float], *, unit: str, at: int | None = None
    ) -> float:
        """Keep the distribution of samples; return their median.

        :param samples: in nanoseconds if the unit is one of time, else in the unit.
        :param at: the size that was measured at, where one grows.
        """
        scale = _NS.get(unit, 1.0)
        figures = {
            "median": statistics.median(samples),
            **{f"p{percent}": percentile(samples, percent) for percent in (5, 50, 95, 99)},
            "min": min(samples),
            "max": max(samples),
        }
        row: Row = {"measure": measure, "who": who, "at": at, "unit": unit, "n": len(samples)}
        row |= {name: float(f"{figure / scale:.6g}") for name, figure in figures.items()}
        self.rows.append(row)
        print(
            f"  {_name(measure, who, at):<50} median {row['median']:>10.3f} {unit}"
            f"   p5 {row['p5']:.3f}   p95 {row['p95']:.3f}   p99 {row['p99']:.3f}"
            f"   max {row['max']:.3f}   n={len(samples)}",
            flush=True,
        )
        return figures["median"]

    def value(
        self, measure: str, who: str, value: float, *, unit: str, at: int | None = None
    ) -> None:
        """Keep one figure."""
        row: Row = {"measure": measure, "who": who, "at": at, "unit": unit, "n": 1}
        self.rows.append({**row, "median": float(f"{value:.6g}")})
        print(f"  {_name(measure, who, at):<50} {value:>17.3f} {unit}", flush=True)


def find(rows: Sequence[Row], measure: str, who: str, at: int | None = None) -> Row | None:
    """Return a figure of a run, or ``None`` if it was not measured."""
    wanted = (measure, who, at)
    return next((row for row in rows if (row["measure"], row["who"], row["at"]) == wanted), None)


def _name(measure: str, who: str, at: int | None) -> str:
    return f"{measure}, {who}" + ("" if at is None else f", {at:,}")
