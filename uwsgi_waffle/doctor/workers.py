"""How the running processes are doing, from what they report."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from ..checks import Finding
from ..errors import StoreError
from ..masking import counted
from ..process.health import State, without_times
from ..process.manager import Manager
from ..reporting.host_rows import KEPT_S, processes, silent_hosts
from ..stores.base import Store, WorkerReport
from ..stores.soundness import sound_reports
from .rules import finding

#: how long a sound process takes to follow, and to report it, at most
FOLLOWED_WITHIN_S = 3.0
_PAUSE_S = 0.1
_DAY_S = 86_400.0
_MOST_PIDS = 3


def reports_of(store: Store) -> list[WorkerReport]:
    """Return what the processes of all hosts report; nothing if the store can't say."""
    with contextlib.suppress(StoreError):
        return processes(sound_reports(store.workers(_DAY_S)))
    return []


def check_reporting(store: Store, app: str) -> Iterator[Finding]:
    """Yield what keeps processes from reporting; reports this one, and withdraws it at once.

    Blocks for 3 s while a report can't be kept: one waits hardly for a store that is busy.
    """
    report = WorkerReport(
        app, os.uname().nodename, os.getpid(), 0, 0, None, State.OFF.value, None, _PAUSE_S
    )
    deadline = time.monotonic() + FOLLOWED_WITHIN_S
    while True:
        try:
            store.report(report)
            store.retract(report)
        except StoreError as exc:
            if time.monotonic() > deadline:
                yield finding("D022", exc)
                return
            time.sleep(_PAUSE_S)
        else:
            return


def check_workers(store: Store, revision: int) -> Iterator[Finding]:
    """Yield what is wrong with the processes that report, one finding for all of a kind.

    Blocks for 3 s while a process is behind.
    """
    deadline = time.monotonic() + FOLLOWED_WITHIN_S
    while True:
        reports = reports_of(store)
        failing = [report for report in reports if report.state == State.INTERRUPTED.value]
        behind = [
            report
            for report in reports
            # What fails is a finding of its own.
            if report.revision < revision and report not in failing
        ]
        if not behind or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_S)
    if failing:
        yield finding(
            "D018",
            _grouped(failing, lambda report: without_times(report.last_error or "no reason")),
        )
    if behind:
        yield finding(
            "D020",
            _grouped(behind, lambda report: f"at revision {report.revision} of {revision}"),
        )


def check_hosts(store: Store, manager: Manager) -> Iterator[Finding]:
    """Yield the hosts of which nothing is heard; nothing if the store can't say."""
    silent = []
    with contextlib.suppress(StoreError):
        silent = silent_hosts(manager, sound_reports(store.workers(KEPT_S)))
    if silent:
        yield finding(
            "D031",
            "; ".join(
                f"{each.host}, {counted(each.processes, 'process', 'processes')} at revision "
                f"{each.revision}, for {each.age_s:.0f} s"
                for each in silent
            ),
        )


def _grouped(reports: Sequence[WorkerReport], say: Callable[[WorkerReport], str]) -> str:
    groups: dict[tuple[str, str, str], list[WorkerReport]] = defaultdict(list)
    for report in reports:
        groups[report.app, report.host, say(report)].append(report)
    return "; ".join(
        f"{app} on {host}, {_pids(group)}: {said}" for (app, host, said), group in groups.items()
    )


def _pids(reports: Sequence[WorkerReport]) -> str:
    if len(reports) == 1:
        return f"pid {reports[0].pid}, worker {reports[0].worker_id}"
    shown = ", ".join(str(report.pid) for report in reports[:_MOST_PIDS])
    more = len(reports) - _MOST_PIDS
    return f"{len(reports)} processes (pids {shown}{f' and {more} more' if more > 0 else ''})"
