"""What the figures of a run should be, and whether they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .connections import WORKERS, WRITERS
from .record import Row, find


class Target(NamedTuple):
    """One thing that was promised.

    :ivar figure: what was measured, or ``None`` if it was not.
    """

    name: str
    wanted: str
    figure: float | None
    met: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.figure is None:
            return "not measured"
        return "met" if self.met else "missed"


def targets(rows: Sequence[Row]) -> list[Target]:
    """Return every target with what a run has measured."""

    def figure(measure: str, who: str, at: int | None = None, key: str = "median") -> float | None:
        row = find(rows, measure, who, at)
        return None if row is None else float(row[key])

    def ratio(above: float | None, below: float | None) -> float | None:
        return None if above is None or below is None else above / below

    raw = figure("published to received", "floor Redis publish/receive")
    found = []

    def at_most(name: str, limit: float, what: float | None, unit: str = "") -> None:
        met = what is not None and what <= limit
        found.append(Target(name, f"at most {limit:g}{unit}", what, met))

    for who in ("waffle-file", "waffle-redis"):
        # The ratio of two servers can't tell: two with the very same app differ by more.
        what = figure("throughput in turns, ratio", who)
        met = what is not None and what >= 0.98
        name = f"Throughput of {who}, ratio to plain Flask"
        found.append(Target(name, "at least 0.98", what, met))
    for key, limit in (("p50", 2), ("p99", 10)):
        at_most(
            f"Redis to another host's ear, {key}, ratio to p50 of raw publish/receive",
            limit,
            ratio(figure("published to applied by the ear", "waffle-redis", key=key), raw),
        )
    at_most(
        "Refresh of 1 changed setting in 10,000",
        1,
        figure("refresh one", "waffle", 10_000),
        " ms",
    )
    for mode in ("file", "redis"):
        used = figure("memory more", f"waffle-{mode}")
        at_most(f"Memory of a worker in {mode} mode", 3, used, " MiB")
    for who in ("waffle-file", "waffle-redis"):
        stale = [r for r in rows if r["measure"] == "stale reads" and r["who"] == who]
        at_most(f"Stale reads of {who}", 0, stale[0]["median"] if stale else None, " %")
        back = [r for r in rows if r["measure"] == "steps back" and r["who"] == who]
        at_most(f"Steps back of {who}", 0, back[0]["median"] if back else None, " %")
    update = figure("change in turns", "waffle-file")
    at_most("update(), p50", 5, update, " ms")
    at_most(
        "update(), p50, ratio to a bare commit of SQLite",
        2,
        ratio(update, figure("change in turns", "floor SQLite commit")),
    )
    # Ahead of who asks the same database at each read.
    at_most(
        "Served by all from the call, median of runs' medians, ratio to constance's on SQLite",
        1,
        ratio(
            figure("served by all, median of each run", "waffle-file"),
            figure("served by all, median of each run", "constance-database"),
        ),
    )
    at_most(
        "Slowest call at 250 changes/s beside reads",
        300,
        figure("call at 250 changes/s", "waffle-file", key="max"),
        " ms",
    )
    for key, limit in (("p50", 5), ("p99", 20)):
        at_most(
            f"File mode without a request, {key}",
            limit,
            figure("update() to applied", "waffle-file", key=key),
            " ms",
        )
    for key, limit in (("p50", 10), ("p99", 50)):
        at_most(
            f"Other host follows, PostgreSQL only, {key}",
            limit,
            figure("update() to served on the other host", "waffle-postgresql", key=key),
            " ms",
        )
    for store in ("postgresql store", "redis store"):
        at_most(f"Lost notices beside killed writers, {store}", 0, figure("lost notices", store))
    for who, limit in (("one host of 4 workers", 10), ("two hosts of 2 workers", 50)):
        at_most(f"Barrier, {who}, p50", limit, figure("wait() after update()", who), " ms")
        at_most(
            f"Barrier returned early, {who}",
            0,
            figure("barrier returned early beside kills and stops", who),
        )
    # The ear, and those that publish.
    for when, most in (("at rest", 1), ("after changes", 1 + WRITERS)):
        at_most(
            f"Connections to Redis, one host of {WORKERS} workers, {when}",
            most,
            figure(f"connections, {when}", "waffle-redis", WORKERS),
        )
    for store in ("PostgreSQL", "Redis"):
        who, hosts = f"waffle redis, {store}", 1250
        at_most(
            f"10,000 workers on 1,250 hosts, {store} store, p99",
            1000,
            figure("watchers: update() to applied", who, hosts, "p99"),
            " ms",
        )
        at_most(
            f"10,000 workers on 1,250 hosts, {store} store, reads for a change by a host",
            1,
            ratio(figure("watchers: store reads", who, hosts), hosts),
        )
    # Two medians of the same operation differ by some percent.
    at_most(
        "Read of app.config, ratio to plain Flask",
        1.1,
        ratio(figure("read", "waffle"), figure("read", "flask")),
    )
    return found
