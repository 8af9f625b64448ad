"""What CI prints at its end, and what makes it fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci"
EXCUSED = "this store keeps no reports"


class Results:
    """The folder of one run's records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, name: str, *cases: str, status: int = 0, records: bool = True) -> None:
        """Add a stage; a case is the XML within a test case, empty if it passed."""
        with (self.folder / "stages.txt").open("a") as stages:
            stages.write(f"{name}: {status}\n")
        if not records:
            return
        about = {"stage": name, "tests": "tests", "python": "3.11.7", "server": "pyuwsgi 2.0.30"}
        about_it = {**about, "versions": {"Flask": "3.1.3"}}
        (self.folder / f"{name} tests.json").write_text(json.dumps(about_it))
        inner = "".join(f"<testcase>{case}</testcase>" for case in cases)
        text = f'<testsuites><testsuite time="12.3">{inner}</testsuite></testsuites>'
        (self.folder / f"{name} tests.xml").write_text(text)

    def table(self, *, status: int) -> str:
        done = subprocess.run(
            [sys.executable, str(CI / "table.py"), str(self.folder)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def skipped(message: str) -> str:
    return f'<skipped message="{message}"/>'


def test_each_stage_is_a_row_and_the_last_line_has_the_totals(results: Results) -> None:
    results.stage("make test", "", "", skipped(EXCUSED))
    results.stage("newest-3.10", "")
    text = results.table(status=0)
    row = next(line for line in text.splitlines() if line.startswith("make test"))
    assert row.split()[2:11] == ["tests", "3.11.7", "pyuwsgi", "2.0.30", "2", "0", "1", "12", "s"]
    assert text.splitlines()[-1] == "3 passed, 0 failed, 1 skipped"


def test_skip_is_shown_with_the_reason_that_excuses_it(results: Results) -> None:
    results.stage("make test", "", skipped(EXCUSED), skipped(EXCUSED))
    text = results.table(status=0)
    assert f"skipped: {EXCUSED}: 2 in make test\n    the contract" in text


def test_skip_without_a_reason_fails(results: Results) -> None:
    results.stage("make test", "", skipped("the moon is full"))
    text = results.table(status=1)
    assert "NO REASON" in text
    assert text.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"


@pytest.mark.parametrize("case", ["<failure/>", "<error/>"])
def test_test_that_failed_fails(results: Results, case: str) -> None:
    results.stage("make test", "", case, status=2)
    assert results.table(status=1).splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_stage_that_broke_before_its_tests_fails(results: Results) -> None:
    results.stage("make test", "")
    results.stage("lowest", status=1, records=False)
    assert "lowest: failed with status 1" in results.table(status=1)


def test_stage_without_its_interpreter_is_named(results: Results) -> None:
    results.stage("make test", "")
    results.stage("newest-3.14", records=False)
    text = results.table(status=0)
    assert "newest-3.14: not run, because its interpreter is not on this machine" in text


def test_stage_of_make_that_runs_no_test_is_not_said_to_lack_an_interpreter(
    results: Results,
) -> None:
    results.stage("make test", "")
    results.stage("make docs", records=False)
    assert "make docs" not in results.table(status=0)


def test_run_that_was_cut_off_fails(results: Results) -> None:
    results.stage("make test", "")
    (results.folder / "make test tests.xml").unlink()
    results.table(status=1)


def test_run_of_no_test_fails(results: Results) -> None:
    results.table(status=1)


def test_each_excuse_has_a_pattern_and_a_reason() -> None:
    lines = [line for line in (CI / "skips.txt").read_text().splitlines() if line[:1] not in "#"]
    for line in filter(None, lines):
        pattern, separator, reason = line.partition("  #  ")
        assert separator, line
        assert reason, line
        re.compile(pattern)
