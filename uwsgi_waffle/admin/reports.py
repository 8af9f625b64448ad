"""How every process is doing, as far as the store can say."""

from __future__ import annotations

from typing import NamedTuple

from ..app_state import NO_REPORTS, WaffleState
from ..errors import StoreError
from ..masking import counted
from ..reporting.host_rows import KEPT_S, ears_of, processes, silent_hosts
from ..reporting.reporter import make_report
from ..stores.base import WorkerReport
from ..stores.soundness import Found, sound_reports
from .past import DAMAGED


class Workers(NamedTuple):
    """How every process is doing.

    :ivar ears: host and pid of those that hear for their host what other hosts announce.
    :ivar silent: hosts that may still serve, for people.
    :ivar problem: why not every process is known, if so.
    """

    reports: list[WorkerReport]
    ears: frozenset[tuple[str, int]]
    silent: list[str]
    problem: str


def make_workers(state: WaffleState) -> Workers:
    """Return how every process is doing; blocks for the store's bound."""
    problem = "" if state.knows_hosts else NO_REPORTS
    reports: Found[WorkerReport] = Found()
    try:
        reports = sound_reports(state.store.workers(KEPT_S))
    except StoreError as exc:
        problem = str(exc)
    except DAMAGED as exc:
        problem = f"a report is damaged: {exc}"
    if reports.damaged:
        problem = f"left out, because damaged: {counted(reports.damaged, 'report')}"
    own = make_report(state.engine.status(), app=state.app.name, lifetime_s=0.0)
    # Of this process what is true now, not what it reported a while ago.
    me = (own.app, own.host, own.pid)
    others = [
        report for report in processes(reports) if (report.app, report.host, report.pid) != me
    ]
    shown = sorted([*others, own], key=lambda r: (r.app, r.host, r.worker_id, r.pid))
    silent = [str(each) for each in silent_hosts(state.engine.manager, reports)]
    return Workers(shown, ears_of(reports), silent, problem)
