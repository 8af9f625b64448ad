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

    def stage(
        self, name: str, *cases: str, status: int = 0, took_s: int = 20, records: bool = True
    ) -> None:
        """Add a stage; a case is the XML within a test case, empty if it passed."""
        with (self.folder / "stages.txt").open("a") as stages:
            stages.write(f"{name}: {status} {took_s}\n")
        if not records:
            return
        about = {"stage": name, "tests": "tests", "python": "3.11.7", "server": "pyuwsgi 2.0.30"}
        about_it = {**about, "versions": {"Flask": "3.1.3"}}
        (self.folder / f"{name} tests.json").write_text(json.dumps(about_it))
        inner = "".join(
            f'<testcase classname="tests.cli.test_edit.TestEdit" name="test_{n}">{case}</testcase>'
            for n, case in enumerate(cases)
        )
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


def test_each_stage_has_its_status_and_seconds_and_their_total(results: Results) -> None:
    results.stage("make test", "", took_s=600)
    results.stage("make docs", took_s=12, records=False)
    results.stage("newest-3.14", took_s=1, records=False)
    results.stage("lowest", "<failure/>", status=1, took_s=258)
    lines = results.table(status=1).splitlines()
    first = next(
        number for number, line in enumerate(lines) if line.split()[1:] == ["status", "time"]
    )
    assert [line.split() for line in lines[first + 1 : first + 6]] == [
        ["make", "test", "0", "600", "s"],
        ["make", "docs", "0", "12", "s"],
        ["newest-3.14", "0", "1", "s"],
        ["lowest", "1", "258", "s"],
        ["all", "871", "s"],
    ]


def run_with_function_of_run(name: str, script: str) -> subprocess.CompletedProcess[str]:
    text = (CI / "run").read_text()
    begin = text.index(f"{name}() {{")
    script = text[begin : text.index("\n}\n", begin) + 3] + script
    return subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True, timeout=60
    )


def test_run_installs_once_another_apt_has_given_back_its_locks() -> None:
    begin = "apt-get() { tried=$((tried + 1)); echo $*; [ $tried -gt 3 ]; }; sleep() { :; }\n"
    done = run_with_function_of_run("install", begin + "tried=1; install redis-server gcc")
    assert done.stdout.split("\n") == [
        *["update -q"] * 3,
        "install -qy --no-install-recommends redis-server gcc",
        "",
    ]


def test_run_writes_of_each_stage_what_the_table_reads(tmp_path: Path) -> None:
    """On a command that fails, and on one that does not."""
    script = f"results={tmp_path}\nstage 'make: all' false\nstage 'make docs' true\n"
    run_with_function_of_run("stage", script)
    written = (tmp_path / "stages.txt").read_text()
    assert re.fullmatch(r"make: all: 1 \d+\nmake docs: 0 \d+\n", written), written


def test_skip_is_shown_with_the_reason_that_excuses_it(results: Results) -> None:
    results.stage("make test", "", skipped(EXCUSED), skipped(EXCUSED))
    text = results.table(status=0)
    assert f"skipped: {EXCUSED}: 2 in make test\n    the contract" in text


def test_skip_without_a_reason_fails(results: Results) -> None:
    results.stage("make test", "", skipped("the moon is full"))
    text = results.table(status=1)
    assert "NO REASON" in text
    assert text.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"


def test_each_failed_test_is_named_with_its_stage_below_the_error_it_shares_with_others(
    results: Results,
) -> None:
    log = "long log&#10;[ERROR] disk full"
    refused = f'<error message="failed on setup with &quot;port {{}}: refused&#10;{log}&quot;"/>'
    results.stage("make test", refused.format(1), "", refused.format(2), status=2)
    wrong = '<failure message="assert 1 == 2">E</failure>'
    results.stage("lowest", wrong, skipped(EXCUSED), refused.format(3))
    text = results.table(status=1)
    assert (
        "\nfailed: assert 1 == 2\n"
        "    tests/cli/test_edit.py::TestEdit::test_0 (lowest)\n"
        '\nfailed: failed on setup with "port 1: refused\n'
        '  | [ERROR] disk full"\n'
        "    tests/cli/test_edit.py::TestEdit::test_0 (make test)\n"
        "    tests/cli/test_edit.py::TestEdit::test_2 (make test, lowest)\n"
    ) in text
    # The end is what CI shows.
    assert text.index(EXCUSED) < text.index("\nfailed: ") < text.index("status  time")


def test_error_that_fails_most_tests_leaves_room_for_the_others(results: Results) -> None:
    results.stage("make test", *['<error message="no server"/>'] * 63, status=2)
    text = results.table(status=1)
    assert text.count("test_edit.py::") == 20
    assert "    and 43 more tests, in make test\n" in text


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
    assert "make docs: not run" not in results.table(status=0)


def test_run_that_was_cut_off_fails(results: Results) -> None:
    results.stage("make test", "")
    (results.folder / "make test tests.xml").unlink()
    text = results.table(status=1)
    assert "failed: cut off: it left no report\n    the run of tests (make test)\n" in text


def test_run_of_no_test_fails(results: Results) -> None:
    results.table(status=1)


def test_each_excuse_has_a_pattern_and_a_reason() -> None:
    lines = [line for line in (CI / "skips.txt").read_text().splitlines() if line[:1] not in "#"]
    for line in filter(None, lines):
        pattern, separator, reason = line.partition("  #  ")
        assert separator, line
        assert reason, line
        re.compile(pattern)
