"""In which order tests are run by several processes at once."""

from __future__ import annotations

import itertools
import os

import pytest


def slow_first(items: list[pytest.Item]) -> None:
    """Have each process of ``pytest -n`` begin with slow tests, so that no run ends with one.

    With ``--dist worksteal`` each process gets one run of the list, all of about the same length,
    and who is done takes from the end of another's.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = iter([item for item in items if not item.get_closest_marker("slow")])
    runs = [slow[number::processes] for number in range(processes)]
    left = len(items)
    for number, run in enumerate(runs):
        # As xdist divides the list.
        length = left // (processes - number)
        run += itertools.islice(others, max(0, length - len(run)))
        left -= len(run)
    items[:] = [item for run in runs for item in run]
