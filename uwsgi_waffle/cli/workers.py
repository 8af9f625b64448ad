"""The command that shows which workers are behind: workers."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import click

from ..app_state import WaffleState
from ..errors import Laggard, Laggards
from ..masking import counted
from ..process.pids import is_alive
from ..reporting.host_rows import (
    KEPT_S,
    ears_of,
    is_host,
    is_silent,
    processes,
    row_of,
    silent_hosts,
)
from ..stores.base import WorkerReport
from ..stores.soundness import sound_reports
from .base import (
    NotEmpty,
    Seconds,
    Whole,
    group,
    json_option,
    lines,
    print_json,
    warn_unknown_hosts,
    with_state,
)
from .tables import table, visible

STALE = 1
#: the state of a process that serves, and has not reported yet
STARTING = "STARTING"

Ears = frozenset[tuple[str, int]]


@group.command(
    "workers",
    short_help="List the workers of all hosts, and who is behind.",
    epilog="""\b
Exit status:
  0  no worker is behind the store's revision, and there are as many as expected
  1  a worker is behind, a host is silent, there are fewer than expected (with --wait: there
     is none), or the store can't be read
""",
)
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    metavar="SECONDS",
    help="Wait until every worker serves the revision, for at most so long.",
)
@click.option(
    "--expect",
    type=Whole(min=1),
    metavar="N",
    help="Exit with 1 unless there are at least N workers.",
)
@click.option(
    "--forget",
    metavar="HOST",
    type=NotEmpty(),
    multiple=True,
    help="Remove the reports of a host that is gone, so that no one waits for it; also several.",
)
@json_option
@click.pass_context
@with_state
def workers_(
    state: WaffleState,
    ctx: click.Context,
    wait_s: float | None,
    expect: int | None,
    forget: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the workers of all hosts: revision, how far behind, state, ear, last error.

    READ is how long ago a worker last read the store, SEEN how long ago it reported. A worker
    takes up to a second to report a change, and one that was killed stays in the list for three
    times WAFFLE_REPORT_INTERVAL. With --wait the workers are asked instead: it returns when no
    request that starts on any host sees an older revision than the current one. EAR is the process
    that listens for its whole host, where WAFFLE_WATCHTYPE names a channel.
    """
    if unknown := [visible(host) for host in forget if not _forget(state, host)]:
        raise click.ClickException(f"no host {' and no host '.join(unknown)} has reported")
    revision = state.snapshot.revision
    missing = ""
    laggards: tuple[Laggard, ...] | None = None
    if wait_s is not None:
        laggards, missing = _waited(state, revision, wait_s, expect or 1)
        warn_unknown_hosts(state)
    reports = sound_reports(state.store.workers(KEPT_S))
    silent = silent_hosts(state.engine.manager, reports)
    shown: list[WorkerReport] = processes(reports)
    if laggards is not None:
        shown = _as_known([*shown, *_unreported(state, shown)], revision, laggards)
    stale = any(behind(report, revision) for report in shown)
    if laggards is None and expect and len(shown) < expect:
        missing = _few(len(shown), expect)
    ears = ears_of(reports) | _ears_here(state)
    if as_json:
        workers = [_as_dict(report, revision, ears) for report in shown]
        hosts = [
            {"host": each.host, "processes": each.processes, "age_s": each.age_s} for each in silent
        ]
        print_json({"revision": revision, "workers": workers, "silent_hosts": hosts})
    else:
        _print(shown, revision, ears)
    if reports.damaged:
        click.echo(f"left out, because damaged: {counted(reports.damaged, 'report')}", err=True)
    if laggards is None and silent:
        missing = "\n".join([*filter(None, [missing]), *map(str, silent)])
    if missing:
        click.echo(lines(missing), err=True)
    if stale or missing:
        ctx.exit(STALE)


def _waited(
    state: WaffleState, revision: int, wait_s: float, wanted: int
) -> tuple[tuple[Laggard, ...], str]:
    """Wait for all workers; return who lags, and what is missing, for people."""
    try:
        state.wait(revision, timeout_s=wait_s, expected=wanted)
    except Laggards as exc:
        if exc.known < wanted and exc.all_known:
            return exc.laggards, "\n".join([_few(exc.known, wanted), *map(str, exc.laggards)])
        return exc.laggards, str(exc)
    return (), ""


def _few(known: int, wanted: int) -> str:
    return f"{known} of {counted(wanted, 'worker')} reported"


def _unreported(state: WaffleState, reports: list[WorkerReport]) -> list[WorkerReport]:
    """Return the processes of this host that serve, and have not reported yet."""
    known = {(each.host, each.pid) for each in reports}
    with contextlib.suppress(OSError):
        return [
            WorkerReport(
                *(each.app, each.host, each.pid, each.worker, each.revision),
                *(None, STARTING, None, 0.0),
            )
            for each in state.engine.manager.slots.living()
            if (each.host, each.pid) not in known
        ]
    return []


def _ears_here(state: WaffleState) -> Ears:
    """Return the ears of this host as of now, where its row has them as of a second ago."""
    with contextlib.suppress(OSError):
        living = state.engine.manager.slots.living()
        return frozenset((each.host, each.pid) for each in living if each.ear)
    return frozenset()


def _as_known(
    reports: list[WorkerReport], revision: int, laggards: tuple[Laggard, ...]
) -> list[WorkerReport]:
    """Return the reports with what was learned since: who died, and who serves the revision."""
    here = os.uname().nodename
    late = {(each.host, each.pid) for each in laggards} | {
        (each.host, 0) for each in laggards if not each.pid
    }
    return [
        each
        if {(each.host, each.pid), (each.host, 0)} & late
        else each._replace(revision=max(each.revision, revision))
        for each in reports
        if each.host != here or is_alive(each.pid)
    ]


def _forget(state: WaffleState, host: str) -> bool:
    """Remove what a host has reported; return whether there was anything.

    Of several hosts of one name only those that are silent, if there are any: the others live.
    """
    reports = sound_reports(state.store.workers(KEPT_S))
    known = [each for each in reports if each.host == host]
    rows = [(each, row_of(each)) for each in known if is_host(each)]
    gone = [each for each, row in rows if row and is_silent(each, row)] or known
    if not gone:
        return False
    for report in gone:
        state.store.retract(report)
    click.echo(f"{visible(host)}: removed {counted(len(gone), 'report')}", err=True)
    if processes(gone):
        # It lived a moment ago.
        age_s = min(report.age_s for report in gone)
        click.echo(
            f"{visible(host)}: reported {age_s:.0f} s ago; if it lives, it is not waited for until "
            "it reports again",
            err=True,
        )
    return True


def behind(report: WorkerReport, revision: int) -> int:
    """Return by how many revisions a worker is behind; it may also be ahead of what was read."""
    return max(0, revision - report.revision)


def _as_dict(report: WorkerReport, revision: int, ears: Ears) -> dict[str, Any]:
    fields = report._asdict()
    # As of now, where the report has it as of then.
    if report.staleness_s is not None:
        fields["staleness_s"] = report.staleness_s + report.age_s
    is_ear = (report.host, report.pid) in ears
    return {**fields, "behind": behind(report, revision), "ear": is_ear}


def _print(reports: list[WorkerReport], revision: int, ears: Ears) -> None:
    if not reports:
        click.echo(
            "no worker has reported: no server runs, it has no watcher (as `flask run`), "
            "WAFFLE_REPORT_INTERVAL is 0, or the store can't keep reports"
        )
        return
    heard = {(report.host, report.pid) for report in reports} & ears
    header = ["APP", "HOST", "PID", "WORKER", "REV", "BEHIND", "STATE", "READ", "SEEN"]
    header += ["EAR"] * bool(heard) + ["ERROR"]
    rows = [
        [
            report.app,
            report.host,
            str(report.pid),
            str(report.worker_id or "-"),
            str(report.revision),
            str(behind(report, revision) or "-"),
            report.state,
            _read(report),
            _s(report.age_s),
            *(["ear" if (report.host, report.pid) in heard else "-"] if heard else []),
            report.last_error or "",
        ]
        for report in reports
    ]
    if not any(report.last_error for report in reports):
        header, rows = header[:-1], [row[:-1] for row in rows]
    colors = ["red" if behind(report, revision) else None for report in reports]
    flexible = (0, 1, header.index("ERROR")) if "ERROR" in header else (0, 1)
    click.echo(table(header, rows, flexible, colors))


def _read(report: WorkerReport) -> str:
    if report.staleness_s is None:
        return "-" if report.state == STARTING else "never"
    return _s(report.staleness_s + report.age_s)


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s"
