"""A plugin of pytest that shows whole once only why a fixture of many tests can't be made."""

from __future__ import annotations

from collections.abc import Generator

import pytest

_shown: list[tuple[BaseException, str]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Replace what was shown before by its first line, and the test where it is."""
    report = yield
    if call.when == "setup" and call.excinfo is not None and report.failed:
        # pytest keeps the exception of a fixture, and raises it again for each test.
        error = call.excinfo.value
        first = next((test for shown, test in _shown if shown is error), None)
        if first is None:
            _shown.append((error, item.nodeid))
        else:
            line = (str(error).splitlines() or [""])[0]
            report.longrepr = f"{type(error).__name__}: {line}\nshown whole at {first}"
    return report
