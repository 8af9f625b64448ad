"""The figures of a run as a page of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .contenders import BY_NAME, ON_POSTGRESQL
from .record import Row, find
from .targets import targets

Cell = Callable[[Sequence[Row], str], str]

HEAD = """\
# Benchmarks

`make bench`: everything side by side, on the same app, the same uWSGI options and the
same load. Made by `bench/report.py` from [results.json]({folder}/results.json); to repeat it:

```console
$ make bench        # installs each peer in its own environment, then takes {minutes} minutes
```

Medians are of the rounds of this run; p5 and p95 are their spread. Ratios are to the same app
without live settings, as the median over pairs of neighbouring rounds. Contenders take turns in
a new random order each round, so that a drift of the machine hits all alike.
"""

#: stands on a page whose figures are older than the call of update() as the start of a clock
BEFORE_THE_PAGE = """\
These figures are from before the page: "served by all" starts at the return of `update()`, which
then took 22 to 28 ms. `make bench` now starts every clock at the call.
"""

NOTES = """\
## What was measured, and how

- **Contenders.** Each answers `GET /` with the value of one setting as text, under uWSGI with the
  options of this project's own snippet. Flask-WaffleConf runs on the newest stack that it works
  on, reads `app.config` as its watcher keeps it, and is given the right Redis port, which its
  notifier ignores. django-constance runs on Django without middleware and with a persistent
  database connection; CachingRedis keeps values for its default of 60 s. Databases are SQLite.
  sentry-options runs without its service: a change replaces the file that the service would have
  put there, and reads look at it once what they have is older than its default of 5 s.
- **Read**: one value, in one process. **Floors**: `os.stat` of a file, a GET of Redis by
  redis-py, and redis-py's own loop that receives what was published.
- **Plain Flask and os.stat** looks at a file in each request, and does nothing with it: the least
  that a request costs which looks for changes itself, and does not share a look with others.
- **Throughput**: of one worker on a core of its own, the client on another, one connection for
  each request; all servers are restarted eight times (the peers three times). The processor
  time is what the worker spent on a request, by `/proc/*/schedstat`. It compares what differs by
  tens of percent; two servers with the very same app differ by some percent, as their memory
  happens to lie, and a shared machine by more.
- **Throughput in turns**, by which the target is judged, tells one percent: one worker serves the
  same app 250 requests with the extension, 250 without, in random order, for 40 s of full load.
  Only what stands before the app is exchanged; "flask again" shows how far two turns of the very
  same differ.
- **Change in turns**: `update()` and a bare commit of one row by SQLite alone, in turns, in one
  process, as durable (WAL, `synchronous = FULL`).
- **Call**: a change is made through one worker; from `update()`, or what the peer has for it,
  until the answer has come. Meanwhile, and until each worker has answered with the new value, a
  client asks the workers in turn, each on a port of its own, but not the one that is busy with the
  change. The first change of a worker in Redis mode loads redis-py and connects, once: its p99.
  **Served by all** is from the *call* until then. **Stale reads** began after the call had
  returned, and have the old value. **Steps back** are changes of which the client saw the new
  value, and the old one in a later answer.
- **update() to applied**: without any request, from the call until the watcher of another worker
  has put the value into `app.config`; commit and flush to the disk included. constance and
  sentry-options have nothing that follows; they look when they are read.
- **Published to applied**: through Redis to workers of another host (another watch file), beside
  raw publish and receive in turns. The ear of that host marks its page before it applies: from then
  on each request of the host sees the change. The others apply it then, or at their next poll.
- **update() to served on the other host**: until the one process of that host that hears notices
  has read the change and marked it on the page; from then on each request of the host sees it.
  *Applied by all* is until the last watcher has taken it over without a request, by its poll.
- **Lost notices**: a writer makes one change after the other, and is killed within some of them, at
  any instant; of each change that was committed, its notice must come. *Changes of killed writers*
  were committed, and no process lived to announce them.
- **Barrier**: `wait()` within the worker that has just made a change, until every worker of every
  host serves it; then each worker is asked. *Early* is one that answers with less. Beside kills and
  stops another worker is killed before or within the change, or stopped until after the wait, in
  eight fleets at once. A worker that says that it could not read the store just now is counted
  apart. Until a host's row was written before its first read, such runs found a worker on a host
  that had just started: two of 5,000, then one of 300 at fb9fd1a.
- **Refresh**: of one process; "all" reads everything again, and is what Flask-WaffleConf does for
  each change; constance reads all values by `get_values()`, sentry-options by `refresh()`.
- **Memory** is private memory (USS) of a worker that has served one request; "more" is what it
  has more than the same app without live settings, each in an environment of what it needs: a
  worker of this project that finds `typing_extensions` imports it, by msgspec, unless the app has
  (0.4 MiB).
- **Connections** of one uWSGI of 64 workers to its Redis, once each has answered: *at rest* and
  *that listen* before anyone has changed a setting, *after changes* when four workers have made one
  each, and may keep theirs to publish. Those to PostgreSQL are to the store as well: one for each
  worker that has read it, and another one if two of its threads ever asked it at once.
- **Store reads**: how often all watchers together read the store for one change. *One host*: they
  share a watch file. *A host each*: each has its own connection to Redis, as on so many hosts.
- **Hosts of 8 workers**: real are the store, Redis, and the ear of each host with its
  subscription, its reads, its page and its answer to a barrier. Simulated are the hosts, all on
  this machine, whose ears share a process by the hundred and have a connection to the store each
  (in what was measured before 2026-11-26 they shared that to PostgreSQL, too), and the
  other workers, which are views of their host's page: whether a request would look is asked, but
  none is made.
"""

#: Heading and the measures that stand under it.
_SECTIONS = (
    ("Reads", ("read", "check", "request in-process")),
    (
        "Throughput",
        (
            "throughput",
            "throughput ratio",
            "processor time of a request",
            "processor time ratio",
            "throughput in turns",
            "throughput in turns, ratio",
            "processor time in turns",
            "processor time in turns, ratio",
        ),
    ),
    (
        "A change, from its call",
        (
            "change in turns",
            "call",
            "served by all",
            "served by all, median of each run",
            "stale reads",
            "steps back",
            "call at 250 changes/s",
            "changes/s",
            "reads beside them",
        ),
    ),
    (
        "Propagation without a request",
        (
            "update() to applied",
            "published to received",
            "published to applied by the ear",
            "published to applied",
            "published to received by the last",
            "published to applied by the last",
            "update() to applied by the last",
            "update() to served on the other host",
            "update() to applied by all of the other host",
        ),
    ),
    (
        "Notices beside killed writers",
        (
            "changes whose notices were counted",
            "killed writers",
            "changes of killed writers",
            "lost notices",
        ),
    ),
    (
        "The barrier",
        (
            "wait() after update()",
            "barrier runs beside kills and stops",
            "barrier runs with a killed worker",
            "barrier runs with a stopped worker",
            "barrier runs that named a laggard",
            "barrier runs with a worker without a store",
            "barrier returned early beside kills and stops",
        ),
    ),
    ("Refresh, and how it grows", ("refresh one", "refresh all", "refresh statements")),
    ("Footprint", ("memory", "memory more", "memory more than plain Flask", "start-up", "idle")),
    (
        "Connections of one host",
        ("connections, at rest", "connections that listen", "connections, after changes"),
    ),
    (
        "Growth with watchers",
        (
            "watchers: store reads",
            "watchers: update() to applied",
            "watchers: update() and wait()",
            "watchers: connections that listen",
        ),
    ),
)


def text(results: dict[str, Any], folder: str, plots: Sequence[str]) -> str:
    """Return the page.

    :param folder: where the plots and the figures are, beside the page.
    :param plots: the names of the plots' files.
    """
    about, rows = results["about"], results["rows"]
    parts = [HEAD.format(folder=folder, minutes=-(-about.get("seconds", 0) // 60))]
    if about.get("quick"):
        parts.append("**This was a quick run, a smoke test: its figures tell little.**\n")
    if not any(row["measure"] == "call" for row in rows):
        parts.append(BEFORE_THE_PAGE)
    parts += ["## Summary\n", summary(rows), "## Targets\n", _targets(rows)]
    parts += [f"![{name.removesuffix('.svg')}]({folder}/{name})\n" for name in plots]
    parts += [NOTES, "## Machine and versions\n", _about(about)]
    for heading, measures in _SECTIONS:
        found = [row for measure in measures for row in rows if row["measure"] == measure]
        if found:
            parts += [f"## {heading}\n", _details(found)]
    return "\n".join(parts)


def summary(rows: Sequence[Row]) -> str:
    """Return the table that compares all; README.md shows a part of it, too."""
    columns: dict[str, Cell] = {
        "": lambda rows, who: BY_NAME[who].label,
        "read": _read,
        "requests/s": lambda rows, who: _of(rows, "throughput", who, "median"),
        "ratio": lambda rows, who: _of(rows, "throughput ratio", who, "median"),
        "in turns": _in_turns,
        "stale reads": lambda rows, who: _stale(rows, who),
        "steps back": lambda rows, who: _stale(rows, who, "steps back"),
        "call, p50 / p99": lambda rows, who: _pair(rows, "call", who),
        "served by all, p50 / p99": lambda rows, who: _pair(rows, "served by all", who),
        "watcher, p50 / p99": lambda rows, who: _pair(rows, "update() to applied", who),
        "memory": lambda rows, who: (
            _of(rows, "memory more", who, "median", " MiB", "+")
            if BY_NAME[who].baseline
            else _of(rows, "memory", who, "median", " MiB")
        ),
        "start-up": lambda rows, who: _of(rows, "start-up", who, "median", " ms"),
        "idle CPU": lambda rows, who: _of(rows, "idle", who, "median", " %"),
    }
    measured = {row["who"] for row in rows}
    compared = [who for who in BY_NAME if who in measured and BY_NAME[who] is not ON_POSTGRESQL]
    body = [[cell(rows, who) for cell in columns.values()] for who in compared]
    return _table(list(columns), body)


def _targets(rows: Sequence[Row]) -> str:
    return _table(
        ["target", "wanted", "measured", ""],
        [
            [one.name, one.wanted, "-" if one.figure is None else _number(one.figure), one.verdict]
            for one in targets(rows)
        ],
    )


def _about(about: dict[str, Any]) -> str:
    plain = [[name, str(value)] for name, value in about.items() if name != "environments"]
    packages = [
        [f"environment: {name}", ", ".join(f"{one} {number}" for one, number in found.items())]
        for name, found in about["environments"].items()
    ]
    return _table(["", ""], plain + packages)


def _details(rows: Sequence[Row]) -> str:
    keys = ("median", "p5", "p95", "p99", "max")
    return _table(
        ["measure", "who", "at", *keys, "unit", "n"],
        [
            [
                row["measure"],
                BY_NAME[row["who"]].label if row["who"] in BY_NAME else row["who"],
                "" if row["at"] is None else f"{row['at']:,}",
                *(_number(row[key]) if key in row else "" for key in keys),
                row["unit"],
                str(row["n"]),
            ]
            for row in rows
        ],
    )


def _read(rows: Sequence[Row], who: str) -> str:
    # How it is told of a change makes no difference to its read.
    name = {"waffle-file": "waffle", "waffle-redis": "waffle"}.get(who, who)
    return _of(rows, "read", name.replace("waffleconf-redis", "waffleconf-file"), "median", " ns")


def _in_turns(rows: Sequence[Row], who: str) -> str:
    name = "flask-stat beside waffle-file" if who == "flask-stat" else who
    return _of(rows, "throughput in turns, ratio", name, "median")


def _stale(rows: Sequence[Row], who: str, measure: str = "stale reads") -> str:
    row = next((r for r in rows if (r["measure"], r["who"]) == (measure, who)), None)
    return "-" if row is None else f"{_number(row['median'])} %"


def _pair(rows: Sequence[Row], measure: str, who: str) -> str:
    row = find(rows, measure, who)
    return "-" if row is None else f"{_number(row['p50'])} / {_number(row['p99'])} {row['unit']}"


def _of(
    rows: Sequence[Row], measure: str, who: str, key: str, unit: str = "", sign: str = ""
) -> str:
    row = find(rows, measure, who)
    return "-" if row is None else f"{sign}{_number(row[key])}{unit}"


def _number(figure: float) -> str:
    """Return a figure with three digits that count."""
    if figure == 0:
        return "0"
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
