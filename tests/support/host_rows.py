"""The row of another host, as it stands among the reports of workers."""

from __future__ import annotations

from typing import Any

import msgspec

from uwsgi_waffle import WorkerReport
from uwsgi_waffle.reporting.host_rows import KEPT_S, HostRow
from uwsgi_waffle.testing.report_contract import a_report


def a_host(revision: int, **row: Any) -> WorkerReport:
    """Return the row of a host "web2"; with ``silent_s=-1`` it is silent."""
    text = msgspec.json.encode(HostRow(**{"identity": "", **row})).decode()
    report = a_report(host="web2", worker_id=0, pid=-5, state="HOST", last_error=text)
    return report._replace(revision=revision, lifetime_s=KEPT_S)
