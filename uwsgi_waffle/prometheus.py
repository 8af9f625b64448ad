"""The workers' numbers as Prometheus text, through prometheus-client; imported only when used.

Several processes need prometheus-client's multiprocess mode: set ``PROMETHEUS_MULTIPROC_DIR``, in
the environment of the server, to a separate folder that is emptied before the server starts.
Without it each process shows only its own numbers, and the text says so.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from .app_state import state_of
from .errors import ConfigurationError, WaffleWarning
from .process.health import State, Status
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
    from prometheus_client.core import GaugeMetricFamily, Metric
except ImportError as exc:
    raise ConfigurationError(
        "prometheus-client is not installed: pip install 'uwsgi-waffle[prometheus]'"
    ) from exc

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FOLDER_KEY = "PROMETHEUS_MULTIPROC_DIR"
_LABELS = ("app", "worker")
# What prometheus-client calls the files that count only while their process lives.
_LIVE_FILE = re.compile(r"gauge_live\w*?_(\d+)\.db")


def _gauge(name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Gauge:
    return Gauge(name, text, labels, multiprocess_mode="liveall")


# Made with the module, because a registry takes each name once.
_REVISION = _gauge("waffle_revision", "Revision of the settings that the worker serves")
_STORE_REVISION = _gauge(
    "waffle_store_revision", "Newest revision that the worker has read in the store"
)
# Not an age: what a worker that hangs has set once would stay as young as it was.
_LAST_READ = _gauge(
    "waffle_last_read_timestamp_seconds",
    "When the worker last read the store, in seconds since 1970; 0 if it never could",
)
_STATE = _gauge(
    "waffle_state", "1 for the state that the worker is in, 0 for others", (*_LABELS, "state")
)
_FAULTS = _gauge(
    "waffle_faults", "Settings whose stored value does not fit, so that the default is served"
)
_REFRESHES = Counter("waffle_refreshes", "How often the store was read", _LABELS)
_FAILURES = Counter("waffle_failures", "How often the store could not be read", _LABELS)


def export(app: Any) -> None:
    """Set the metrics of a Flask app in each of its watchers, from now on.

    Call it once, after ``init_app``. The values are those of each watcher's last turn, at most one
    ``WAFFLE_POLL_INTERVAL`` ago.

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
    where = detect()
    # One of many workers says it for all.
    if folder is None and where.workers > 1 and where.worker_id <= 1:
        warnings.warn(
            f"each answer shows the metrics of 1 of {where.workers} workers: set {_FOLDER_KEY} to "
            "a folder of its own, in the environment of the server",
            WaffleWarning,
            stacklevel=2,
        )
    state_of(app).add_task(lambda engine: _Meter(engine.status, app.name))


def metrics_text() -> bytes:
    """Return the metrics of all processes of this server, your own included, as Prometheus text.

    Gauges of processes that have died are dropped first. Reads a few files for each process.
    Where ``PROMETHEUS_MULTIPROC_DIR`` is not set, a comment says that one process is shown.
    """
    folder = os.environ.get(_FOLDER_KEY)
    if folder is None:
        return _only_one_shown() + _text_of(REGISTRY)
    _drop_dead(folder)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return _text_of(registry)


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
        self._store_revision = _STORE_REVISION.labels(*labels)
        self._last_read = _LAST_READ.labels(*labels)
        self._states = {state: _STATE.labels(*labels, state.value) for state in State}
        self._faults = _FAULTS.labels(*labels)
        self._refreshes = _REFRESHES.labels(*labels)
        self._failures = _FAILURES.labels(*labels)
        self._counted = (0, 0)

    def turn(self) -> None:
        """Set each metric to what it is now."""
        status = self._status()
        self._revision.set(status.applied_revision)
        self._store_revision.set(status.revision)
        self._last_read.set(status.read_at or 0.0)
        for state, gauge in self._states.items():
            gauge.set(state is status.state)
        self._faults.set(len(status.faults))
        refreshes, failures = counted = (status.refreshes, status.failures)
        if counted != self._counted:
            self._refreshes.inc(refreshes - self._counted[0])
            self._failures.inc(failures - self._counted[1])
            self._counted = counted

    def end(self) -> None:
        """Leave the metrics: they vanish with the process."""


class _Families:
    """The metrics that a registry collects, as a registry of their own."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _text_of(registry: CollectorRegistry) -> bytes:
    families = list(registry.collect())
    counted = _count_workers({family.name: family for family in families})
    return generate_latest(cast(Any, _Families([*families, *counted])))


def _count_workers(families: Mapping[str, Metric]) -> Iterator[Metric]:
    """Yield, for each app, how many workers are shown, and how many serve an older revision."""
    newest: dict[str, float] = defaultdict(float)
    served: dict[str, list[float]] = defaultdict(list)
    if "waffle_store_revision" not in families or "waffle_revision" not in families:
        return
    for sample in families["waffle_store_revision"].samples:
        app = sample.labels["app"]
        newest[app] = max(newest[app], sample.value)
    for sample in families["waffle_revision"].samples:
        served[sample.labels["app"]].append(sample.value)
    shown = GaugeMetricFamily("waffle_workers", "Workers that are shown here", labels=["app"])
    behind = GaugeMetricFamily(
        "waffle_workers_behind",
        "Workers, of those shown here, that serve an older revision than one of them has read",
        labels=["app"],
    )
    for app, revisions in served.items():
        shown.add_metric([app], len(revisions))
        behind.add_metric([app], sum(revision < newest[app] for revision in revisions))
    yield shown
    yield behind


def _only_one_shown() -> bytes:
    where = detect()
    if where.workers == 1:
        return b""
    who = f"worker {where.worker_id} of {where.workers}" if where.workers else "this process"
    also = "" if where.workers else "; if the server has more"
    return (
        f"# Only {who}, pid {os.getpid()}, is shown{also}: set {_FOLDER_KEY} in the "
        "environment of the server to show all.\n"
    ).encode()


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
