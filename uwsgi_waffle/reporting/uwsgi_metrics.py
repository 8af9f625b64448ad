"""The worker's metrics in uWSGI's own subsystem, which its stats server shows."""

from __future__ import annotations

from collections.abc import Callable

from ..process.health import Status
from ..runtime import set_metric

#: What is set for each worker, as ``waffle.worker<N>.<name>``; ``metrics.ini`` declares them.
METRICS = ("revision", "refreshes", "failures", "last_read")


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
    ) -> None:
        self._status = status
        self._prefix = f"waffle.worker{worker_id}."
        self._set_metric = set_metric
        self._set: dict[str, int] = {}

    def turn(self) -> None:
        """Set what changed."""
        status = self._status()
        self._put("revision", status.applied_revision)
        self._put("refreshes", status.refreshes)
        self._put("failures", status.failures)
        # Not an age, which would stay young in a worker that hangs. No metric can say "never".
        self._put("last_read", -1 if status.read_at is None else int(status.read_at))

    def end(self) -> None:
        """Leave the metrics as they are: the time of the last read shows their age."""

    def _put(self, name: str, value: int) -> None:
        if self._set.get(name) != value:
            # Under a lock that all processes share: rarely, because one may be killed within.
            self._set_metric(self._prefix + name, value)
            self._set[name] = value
