"""Views for probes: does this worker live, and should it get requests?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, Response

from ..masking import json_text
from ..process.health import Status

# What shows neither paths nor errors nor names of settings.
_PUBLIC = (
    *("state", "since", "revision", "applied_revision", "staleness_s", "read_at"),
    *("pid", "worker_id", "watcher_alive"),
)


def make_blueprint(
    status: Callable[[], Status],
    *,
    name: str,
    healthz: str | None,
    readyz: str | None,
    defaults_are_ready: bool,
    longest_staleness_s: float | None,
    details: bool,
) -> Blueprint:
    """Return the blueprint of :meth:`~uwsgi_waffle.WaffleConf.health_blueprint`.

    :param status: returns how the worker that serves the request is doing.
    """
    blueprint = Blueprint(name, __name__)

    def answer(*, unready: int) -> Response:
        now = status()
        reasons = why_not_ready(now, defaults_are_ready, longest_staleness_s)
        body = {"ready": not reasons, "reasons": reasons, **as_json(now, details=details)}
        response = Response(json_text(body) + "\n", mimetype="application/json")
        response.headers["Cache-Control"] = "no-store"
        if reasons:
            response.status_code = unready
        return response

    if healthz is not None:
        blueprint.add_url_rule(healthz, "healthz", partial(answer, unready=200))
    if readyz is not None:
        blueprint.add_url_rule(readyz, "readyz", partial(answer, unready=503))
    return blueprint


def why_not_ready(
    status: Status, defaults_are_ready: bool, longest_staleness_s: float | None
) -> list[str]:
    """Return why a worker should get no requests; nothing if it should.

    That something fails is no reason: the settings that are served are still whole, and every
    worker of every host would be taken away at once if the store is down.
    """
    reasons = []
    if status.source == "defaults" and not defaults_are_ready:
        reasons.append("the store was never read: the declared defaults are served")
    if longest_staleness_s is not None and (
        status.staleness_s is None or status.staleness_s > longest_staleness_s
    ):
        last = "never" if status.staleness_s is None else f"{status.staleness_s:.0f} s ago"
        reasons.append(f"the store was last read {last}, longer ago than {longest_staleness_s:g} s")
    return reasons


def as_json(status: Status, *, details: bool) -> dict[str, Any]:
    """Return a status for a JSON document.

    :param details: also what names paths, errors and settings.
    """
    # Not by msgspec: a second interpreter of uWSGI hung in it, on Python 3.12, at a status.
    whole: dict[str, Any] = _plain(dataclasses.asdict(status))
    if details:
        return {**whole, "served": status.served}
    return {
        **{name: whole[name] for name in _PUBLIC},
        "failing": sorted(status.failing),
        "faults": len(status.faults),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
