"""How every process is doing, as far as the store can say."""

from __future__ import annotations

from ..app_state import WaffleState
from ..errors import StoreError
from ..masking import counted
from ..reporting.host_rows import ears_of, processes
from ..reporting.reporter import make_report
from ..stores.base import WorkerReport
from ..stores.soundness import Found, sound_reports
from .past import DAMAGED

#: what is older is of a process that nobody waits for
_WORKERS_MAX_AGE_S = 3600.0


def make_workers(
    state: WaffleState,
) -> tuple[list[WorkerReport], frozenset[tuple[str, int]], str]:
    """Return how every process is doing, the ears, and why that is not known of all, if so.

    Ears are named by host and pid: they hear for their host what other hosts announce.
    """
    problem = ""
    reports: Found[WorkerReport] = Found()
    try:
        reports = sound_reports(state.store.workers(_WORKERS_MAX_AGE_S))
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
    return shown, ears_of(reports), problem
