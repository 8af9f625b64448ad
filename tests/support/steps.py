"""Counts what a call does, where its time would depend on the machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def calls_of(operation: Callable[[], object]) -> int:
    """Return how many functions an operation calls, of Python and of C."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    # A collection would call what ends with the garbage of earlier tests.
    gc.disable()
    sys.setprofile(note)
    try:
        operation()
    finally:
        sys.setprofile(None)
        gc.enable()
    # The last call is that of setprofile itself.
    return count - 1
