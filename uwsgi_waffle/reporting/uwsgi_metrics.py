"""The worker's metrics in uWSGI's own subsystem, which its stats server shows."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..process.health import Status
from ..runtime import set_metric

#: What is set for each worker, as ``waffle.worker<N>.<name>``; ``metrics.ini`` declares them.
METRICS = ("revision", "refreshes", "failures", "staleness_ms")
_LEAST_PAUSE_S = 1.0


class UwsgiMetrics:
    """Sets the metrics of one worker when they changed; does nothing if none is declared.

    :param status: returns how this worker is doing.
    :param worker_id: 1 and up.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        *,
        worker_id: int,
        set_metric: Callable[[str, int], None] = set_metric,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._prefix = f"waffle.worker{worker_id}."
        self._set_metric = set_metric
        self._clock = clock
        self._set: dict[str, int] = {}
        self._staleness_at = 0.0

    def turn(self) -> None:
        """Set what changed; the staleness, which always does, once a second."""
        status = self._status()
        self._put("revision", status.applied_revision)
        self._put("refreshes", status.refreshes)
        self._put("failures", status.failures)
        now = self._clock()
        if now >= self._staleness_at:
            self._staleness_at = now + _LEAST_PAUSE_S
            staleness_s = status.staleness_s
            # No metric can say "never".
            self._put("staleness_ms", -1 if staleness_s is None else round(staleness_s * 1000))

    def end(self) -> None:
        """Leave the metrics as they are: their age shows that they are no longer set."""

    def _put(self, name: str, value: int) -> None:
        if self._set.get(name) != value:
            # Under a lock that all processes share: rarely, because one may be killed within.
            self._set_metric(self._prefix + name, value)
            self._set[name] = value
