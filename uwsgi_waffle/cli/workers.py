"""The command that shows which workers are behind: workers."""

from __future__ import annotations

import time
from typing import Any

import click

from ..app_state import WaffleState
from ..stores.base import WorkerReport
from ..stores.soundness import sound_reports
from .base import group, json_option, print_json, with_state
from .tables import table

STALE = 1
_PAUSE_S = 0.2
_MAX_AGE_S = 86_400.0


@group.command(
    "workers",
    epilog="""\b
Exit status:
  0  no worker is behind the store's revision, and as many as expected have reported
  1  a worker is behind, fewer than expected have reported (with --wait: none has), or the
     store can't be read
""",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Look again until no worker is behind, for at most so long; at least one must report.",
)
@click.option(
    "--expect",
    type=click.IntRange(min=1),
    metavar="N",
    help="Exit with 1 unless at least N workers have reported.",
)
@json_option
@click.pass_context
@with_state
def workers_(
    state: WaffleState, ctx: click.Context, wait_s: float, expect: int | None, as_json: bool
) -> None:
    """List the workers of all hosts: revision, how far behind, state, last error.

    READ is how long ago a worker last read the store, SEEN how long ago it reported. A worker
    takes up to a second to report a change, and one that was killed stays in the list for three
    times WAFFLE_REPORT_INTERVAL: use --wait after a change.
    """
    # That none is behind is no news before one has reported.
    wanted = expect or (1 if wait_s else 0)
    revision = state.snapshot.revision
    deadline = time.monotonic() + wait_s
    while True:
        reports = sound_reports(state.store.workers(_MAX_AGE_S))
        stale = any(behind(report, revision) for report in reports)
        missing = max(0, wanted - len(reports))
        if not (stale or missing) or time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE_S)
    if as_json:
        print_json(
            {
                "revision": revision,
                "workers": [_as_dict(report, revision) for report in reports],
            }
        )
    else:
        _print(reports, revision)
    if reports.damaged:
        click.echo(f"{reports.damaged} reports are damaged and left out", err=True)
    if missing:
        click.echo(f"{len(reports)} of {wanted} workers have reported", err=True)
    if stale or missing:
        ctx.exit(STALE)


def behind(report: WorkerReport, revision: int) -> int:
    """Return by how many revisions a worker is behind; it may also be ahead of what was read."""
    return max(0, revision - report.revision)


def _as_dict(report: WorkerReport, revision: int) -> dict[str, Any]:
    fields = report._asdict()
    # As of now, where the report has it as of then.
    if report.staleness_s is not None:
        fields["staleness_s"] = report.staleness_s + report.age_s
    return {**fields, "behind": behind(report, revision)}


def _print(reports: list[WorkerReport], revision: int) -> None:
    if not reports:
        click.echo(
            "no worker has reported: none runs a watcher, WAFFLE_REPORT_INTERVAL is 0, or the "
            "store can't keep reports"
        )
        return
    header = ["APP", "HOST", "PID", "WORKER", "REV", "BEHIND", "STATE", "READ", "SEEN", "ERROR"]
    rows = [
        [
            report.app,
            report.host,
            str(report.pid),
            str(report.worker_id or "-"),
            str(report.revision),
            str(behind(report, revision) or "-"),
            report.state,
            "never" if report.staleness_s is None else _s(report.staleness_s + report.age_s),
            _s(report.age_s),
            report.last_error or "",
        ]
        for report in reports
    ]
    if not any(report.last_error for report in reports):
        header, rows = header[:-1], [row[:-1] for row in rows]
    colors = ["red" if behind(report, revision) else None for report in reports]
    flexible = (0, 1, 9) if len(header) > 9 else (0, 1)
    click.echo(table(header, rows, flexible, colors))


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s"
