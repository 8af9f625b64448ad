"""The figures of a run as plots; the same figures make the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .contenders import BY_NAME
from .record import Row

_OURS, _OTHERS, _FLOOR = "#1f6feb", "#9aa4b2", "#d0a215"
# Ids of elements, and the text as text, would differ from run to run and from machine to machine.
_STYLE = {
    "svg.hashsalt": "bench",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
_PLAIN = FuncFormatter(lambda figure, position: f"{figure:,.10g}")


def draw(rows: Sequence[Row], folder: Path) -> list[str]:
    """Draw every plot that there are figures for; return the names of their files."""
    drawn = []
    with mpl.rc_context(_STYLE):
        for name, (title, make) in _PLOTS.items():
            figure = Figure(figsize=(7.5, 3.6), layout="constrained", facecolor="white")
            axes = figure.subplots()
            if not make(axes, rows):
                continue
            axes.set_title(title, loc="left", fontsize=11)
            figure.savefig(folder / name, metadata={"Date": None, "Creator": None})
            drawn.append(name)
    return drawn


def _served(axes: Any, rows: Sequence[Row]) -> bool:
    return _bars(axes, rows, "served by all", "ms, p50; the line ends at the slowest", log=True)


def _throughput(axes: Any, rows: Sequence[Row]) -> bool:
    axes.axvline(1, color="#666666", linewidth=0.8)
    return _bars(axes, rows, "throughput ratio", "of the same app without it; line: p5 to p95")


def _reads(axes: Any, rows: Sequence[Row]) -> bool:
    return _bars(axes, rows, "read", "ns, median; line: p5 to p95", log=True)


def _memory(axes: Any, rows: Sequence[Row]) -> bool:
    return _bars(axes, rows, "memory more", "MiB more than the same app without it")


def _bars(axes: Any, rows: Sequence[Row], measure: str, label: str, *, log: bool = False) -> bool:
    found = [row for row in rows if row["measure"] == measure and row["at"] is None]
    # Drawn from the bottom.
    for position, row in enumerate(reversed(found)):
        middle = row["median"]
        axes.barh(position, middle, color=_colour(row["who"]), height=0.62)
        low, high = row.get("p5", middle), row.get("p95", middle)
        if measure == "served by all":
            low, high = middle, row["max"]
        axes.plot([low, high], [position, position], color="#222222", linewidth=1.2)
        axes.annotate(
            f"{middle:,.3g}" if middle < 1000 else f"{middle:,.0f}",
            (max(high, middle), position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(found)), [_label(row["who"]) for row in reversed(found)])
    axes.set_xlabel(label)
    axes.margins(x=0.12)
    if log and found:
        axes.set_xscale("log")
        smallest = min(row["median"] for row in found)
        axes.set_xlim(left=10 ** math.floor(math.log10(max(smallest, 1e-6) / 1.5)))
        axes.xaxis.set_major_formatter(_PLAIN)
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="#e5e7eb")
    return bool(found)


def _growth(measures: Sequence[str], across: str, up: str) -> Callable[[Any, Sequence[Row]], bool]:
    def make(axes: Any, rows: Sequence[Row]) -> bool:
        lines: dict[str, list[Row]] = {}
        for row in rows:
            if row["measure"] in measures and row["at"] is not None:
                what = _label(row["who"])
                if len(measures) > 1:
                    what += ", 1 changed" if row["measure"] == "refresh one" else ", all"
                lines.setdefault(what, []).append(row)
        for what, found in lines.items():
            ours = _ours(found[0]["who"])
            axes.plot(
                [row["at"] for row in found],
                [row["median"] for row in found],
                marker="o",
                markersize=4,
                linewidth=2.2 if ours else 1.2,
                linestyle="-" if ours else "--",
                label=what,
            )
        axes.set_xscale("log")
        # No reads at all are the best of them, and not on a logarithmic scale.
        axes.set_yscale("linear" if "reads" in up else "log")
        axes.set_xticks(sorted({row["at"] for found in lines.values() for row in found}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_PLAIN)
            axis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(color="#e5e7eb")
        if lines:
            axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return bool(lines)

    return make


_PLOTS: dict[str, tuple[str, Callable[[Any, Sequence[Row]], bool]]] = {
    "served.svg": ("From the call of a change until all workers' requests see it", _served),
    "throughput.svg": ("Requests per second, against the same app without it", _throughput),
    "reads.svg": ("Read of one value", _reads),
    "refresh.svg": (
        "Refresh by number of settings",
        _growth(("refresh one", "refresh all"), "settings", "ms, median"),
    ),
    "memory.svg": ("Memory of a worker", _memory),
    "watchers-reads.svg": (
        "Store reads for one change",
        _growth(("watchers: store reads",), "watchers", "reads of the store"),
    ),
    "watchers-time.svg": (
        "update() to applied, by number of watchers",
        _growth(("watchers: update() to applied",), "watchers", "ms, median"),
    ),
}


def _ours(who: str) -> bool:
    return who.split()[0].split("-")[0] == "waffle"


def _colour(who: str) -> str:
    if who.startswith("floor"):
        return _FLOOR
    return _OURS if _ours(who) else _OTHERS


def _label(who: str) -> str:
    if who in BY_NAME:
        return BY_NAME[who].label
    first, _, rest = who.partition(" ")
    named = BY_NAME[first].label.split(",")[0] if first in BY_NAME else first
    return f"{'uwsgi_waffle' if named == 'waffle' else named} {rest}".rstrip()
