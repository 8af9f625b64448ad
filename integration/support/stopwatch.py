"""Time that the machine's load is taken out of, for bounds that hold on a busy one."""

from __future__ import annotations

import time
from types import TracebackType

from typing_extensions import Self

# Several slices of a scheduler that shares a core.
_SPIN_S = 0.02


def slowness() -> float:
    """Return how many times as long work takes now as on a core of its own; at least 1."""
    began, worked = time.perf_counter(), time.thread_time()
    while time.thread_time() - worked < _SPIN_S:
        pass
    return max(1.0, (time.perf_counter() - began) / (time.thread_time() - worked))


class Stopwatch:
    """Measures a block, and how busy the machine is around it.

    What waits for a timeout takes the timeout, whatever the load; only what is computed beside it
    takes longer. So a bound is the timeout, which is never stretched, and a margin, which is.
    """

    def __enter__(self) -> Self:
        self._slowness = slowness()
        self._began = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.elapsed_s = time.monotonic() - self._began
        self._slowness = max(self._slowness, slowness())

    def assert_within(self, timeout_s: float, *, margin_s: float = 0.5) -> None:
        """Assert that the block took a timeout at most, and a margin of an idle machine."""
        bound_s = timeout_s + margin_s * self._slowness
        assert self.elapsed_s < bound_s, (
            f"{self.elapsed_s:.2f} s, where {timeout_s:g} s and a margin make {bound_s:.2f} s "
            f"on a machine that is {self._slowness:.1f} times as slow as when idle"
        )
