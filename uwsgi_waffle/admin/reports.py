"""How every process is doing, as far as the store can say."""

from __future__ import annotations

from ..app_state import WaffleState
from ..errors import StoreError
from ..reporting.host_rows import processes
from ..reporting.reporter import make_report
from ..stores.base import WorkerReport
from ..stores.soundness import Found, sound_reports
from .past import DAMAGED

#: what is older is of a process that nobody waits for
_WORKERS_MAX_AGE_S = 3600.0


def make_workers(state: WaffleState) -> tuple[list[WorkerReport], str]:
    """Return how every process is doing, and why that is not known of all, if so."""
    problem = ""
    reports: Found[WorkerReport] = Found()
    try:
        reports = sound_reports(state.store.workers(_WORKERS_MAX_AGE_S))
    except StoreError as exc:
        problem = str(exc)
    except DAMAGED as exc:
        problem = f"a report is damaged: {exc}"
    if reports.damaged:
        problem = f"{reports.damaged} reports are damaged and left out"
    own = make_report(state.engine.status(), app=state.app.name, lifetime_s=0.0)
    # Of this process what is true now, not what it told a while ago.
    me = (own.app, own.host, own.pid)
    others = [
        report for report in processes(reports) if (report.app, report.host, report.pid) != me
    ]
    return sorted([*others, own], key=lambda r: (r.app, r.host, r.worker_id, r.pid)), problem
