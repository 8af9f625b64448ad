"""The workers' numbers as Prometheus text, through prometheus-client; imported only when used.

Several processes need prometheus-client's multiprocess mode: set ``PROMETHEUS_MULTIPROC_DIR``, in
the environment of the server, to a folder of its own that is emptied when it starts. Without it
each process shows its own numbers only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from .app_state import state_of
from .errors import ConfigurationError
from .process.health import Status
from .runtime import detect

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        Counter,
        Gauge,
        generate_latest,
        multiprocess,
    )
except ImportError as exc:
    raise ConfigurationError(
        "prometheus-client is not installed: pip install 'uwsgi-waffle[prometheus]'"
    ) from exc

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FOLDER_KEY = "PROMETHEUS_MULTIPROC_DIR"
_LABELS = ("app", "worker")
# What prometheus-client calls the files that count only while their process lives.
_LIVE_FILE = re.compile(r"gauge_live\w*?_(\d+)\.db")

# Made with the module, because a registry takes each name once.
_REVISION = Gauge(
    "waffle_revision",
    "Revision of the settings that the worker serves",
    _LABELS,
    multiprocess_mode="liveall",
)
_STALENESS = Gauge(
    "waffle_staleness_seconds",
    "Seconds since the worker last read the store; NaN if it never could",
    _LABELS,
    multiprocess_mode="liveall",
)
_REFRESHES = Counter("waffle_refreshes", "How often the store was read", _LABELS)
_FAILURES = Counter("waffle_failures", "How often the store could not be read", _LABELS)


def export(app: Any) -> None:
    """Set the metrics of a Flask app in each of its watchers, from now on.

    Called once, after ``init_app``. The values are those of each watcher's last turn, a
    ``WAFFLE_POLL_INTERVAL`` ago at most.

    :raises ConfigurationError: the app has no WaffleConf, or ``PROMETHEUS_MULTIPROC_DIR`` names no
        folder.
    """
    folder = os.environ.get(_FOLDER_KEY)
    # An empty one, too, makes prometheus-client write files: into the current folder.
    if folder is not None and not os.path.isdir(folder):
        raise ConfigurationError(
            f"{_FOLDER_KEY} names no folder ({folder!r}): create it before the server starts, or "
            "unset it if there is one process only"
        )
    state_of(app).add_task(lambda engine: _Meter(engine.status, app.name))


def metrics_text() -> bytes:
    """Return the metrics of all processes of this server, your own included, as Prometheus text.

    Gauges of processes that have died are dropped first. Reads a few files for each process.
    """
    folder = os.environ.get(_FOLDER_KEY)
    if folder is None:
        return generate_latest(REGISTRY)
    _drop_dead(folder)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def metrics_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer :func:`metrics_text` as a WSGI application, to be mounted under ``/metrics``."""
    text = metrics_text()
    headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(text)))]
    start_response("200 OK", headers)
    return [text]


class _Meter:
    """Sets the metrics of one worker; a task of its watcher."""

    def __init__(self, status: Callable[[], Status], app: str) -> None:
        self._status = status
        labels = (app, str(detect().worker_id))
        self._revision = _REVISION.labels(*labels)
        self._staleness = _STALENESS.labels(*labels)
        self._refreshes = _REFRESHES.labels(*labels)
        self._failures = _FAILURES.labels(*labels)
        self._counted = (0, 0)

    def turn(self) -> None:
        """Set what there is to tell now."""
        status = self._status()
        staleness_s = status.staleness_s
        self._revision.set(status.applied_revision)
        self._staleness.set(float("nan") if staleness_s is None else staleness_s)
        refreshes, failures = counted = (status.refreshes, status.failures)
        if counted != self._counted:
            self._refreshes.inc(refreshes - self._counted[0])
            self._failures.inc(failures - self._counted[1])
            self._counted = counted

    def end(self) -> None:
        """Leave the metrics: they vanish with the process."""


def _drop_dead(folder: str) -> None:
    pids = {int(found[1]) for name in os.listdir(folder) if (found := _LIVE_FILE.fullmatch(name))}
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            try:
                multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                # Another process answers the same question just now.
                continue
        except PermissionError:
            continue
