"""A plugin of pytest: notes for each test which lines it reaches, and how long it takes."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from coverage import Coverage

from uwsgi_waffle.testing import forked

_durations: dict[str, float] = {}


def pytest_configure() -> None:
    """Have forked children end by themselves, so that they write down what they reached."""
    results = forked.results

    def results_of_ended(running: list[tuple[int, int]]) -> list[object]:
        found = results(running)
        for pid, _ in running:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return found

    forked.results = results_of_ended


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have all lines that are reached until the test's end belong to it."""
    current = Coverage.current()
    assert current is not None
    current.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        current.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the time of a test, with what is made for it."""
    _durations[report.nodeid] = _durations.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    """Write the times down."""
    Path(os.environ["MUTANTS_DURATIONS"]).write_text(json.dumps(_durations))
