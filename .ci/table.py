"""Prints what ran where in CI, every skip and every failure; fails on a skip without a reason.

``python .ci/table.py FOLDER``: the folder holds what ``recorded.py`` wrote, and nox's report.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

#: one a line: a pattern of a skip's message, and why a person accepts it
EXCUSES = Path(__file__).with_name("skips.txt")
#: of an error and of the tests that have it: all is to stand on the last page
_MOST_CHARACTERS = 300
_MOST_TESTS = 20
_MOST_CAUSES = 3
#: in a log of a server, which is long
_CAUSE = re.compile(r"(?i)\b(error|fatal|panic|denied|refused|no space)\b")
#: what differs each time that the same error comes
_VARIES = re.compile(r"/\S*|\b0x[0-9a-f]+|\d+")


class Failure(NamedTuple):
    """One test that failed, with the lines of its error's text that may say why."""

    test: str
    stage: str
    error: str
    causes: tuple[str, ...] = ()


class Run(NamedTuple):
    """One run of pytest."""

    about: dict[str, Any]
    passed: int
    failures: list[Failure]
    skips: Counter[str]
    seconds: float

    @property
    def row(self) -> list[str]:
        versions = " ".join(f"{name} {found}" for name, found in self.about["versions"].items())
        return [
            self.about["stage"],
            self.about["tests"],
            self.about["python"],
            self.about["server"],
            str(self.passed),
            str(len(self.failures)),
            str(self.skips.total()),
            f"{self.seconds:.0f} s",
            versions,
        ]


class Stage(NamedTuple):
    """One command of ``run``."""

    name: str
    status: int
    seconds: int


def main() -> int:
    """Print the table; return 1 if a test failed, a stage broke or a skip has no excuse."""
    folder = Path(sys.argv[1])
    runs = [_read(path) for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)]
    header = ["stage", "tests", "Python", "uWSGI", "passed", "failed", "skipped", "time", "with"]
    _print([header, *(run.row for run in runs)])
    stages = _read_stages(folder)
    unexcused = _print_skips(runs)
    passed = sum(run.passed for run in runs)
    failures = [failure for run in runs for failure in run.failures]
    skipped = sum(run.skips.total() for run in runs)
    _print_failures(failures)
    failed = len(failures) + _judge(stages, runs) + unexcused
    _print_times(stages)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def _read(path: Path) -> Run:
    about = json.loads(path.read_text())
    report = path.with_name(path.name.removesuffix(".json") + ".xml")
    stage = about["stage"]
    if not report.exists():
        cut_off = Failure(f"the run of {about['tests']}", stage, "cut off: it left no report")
        return Run(about, 0, [cut_off], Counter(), 0.0)
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    passed = 0
    failures: list[Failure] = []
    skips: Counter[str] = Counter()
    for case in suite.iter("testcase"):
        kinds = {child.tag: child for child in case}
        wrong = kinds.get("failure", kinds.get("error"))
        if wrong is not None:
            failures.append(Failure(_test_id(case), stage, *_said(wrong)))
        elif "skipped" in kinds:
            skips[kinds["skipped"].get("message", "")] += 1
        else:
            passed += 1
    return Run(about, passed, failures, skips, float(suite.get("time", "0")))


def _test_id(case: ElementTree.Element) -> str:
    """Return what pytest takes on its command line to run a test."""
    parts = case.get("classname", "").split(".")
    module = next((n for n, part in enumerate(parts, 1) if part.startswith("test_")), len(parts))
    return "::".join(["/".join(parts[:module]) + ".py", *parts[module:], case.get("name", "")])


def _said(wrong: ElementTree.Element) -> tuple[str, tuple[str, ...]]:
    """Return the first line of an error, and others that name one."""
    text = (wrong.get("message") or wrong.text or "").strip() or "no message"
    first, *others = map(_cut, text.splitlines())
    return first, tuple([line for line in others if _CAUSE.search(line)][:_MOST_CAUSES])


def _cut(line: str) -> str:
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"


def _print_failures(failures: list[Failure]) -> None:
    """Print each test that failed, with its stages, below the error that it shares with others."""
    errors: dict[str, list[Failure]] = {}
    for failure in failures:
        errors.setdefault(_VARIES.sub("", failure.error), []).append(failure)
    for same in sorted(errors.values(), key=len):
        print(f"\nfailed: {same[0].error}")
        # One that only names the test where all is shown has no such line.
        for line in max((failure.causes for failure in same), key=len):
            print(f"  | {line}")
        tests: dict[str, list[str]] = {}
        for failure in same:
            tests.setdefault(failure.test, []).append(failure.stage)
        for test, stages in list(tests.items())[:_MOST_TESTS]:
            print(f"    {test} ({', '.join(stages)})")
        if len(tests) > _MOST_TESTS:
            left = {stage: None for stages in tests.values() for stage in stages}
            print(f"    and {len(tests) - _MOST_TESTS} more tests, in {', '.join(left)}")


def _read_stages(folder: Path) -> list[Stage]:
    """Return what ``run`` wrote of each stage, in their order: name, status and seconds."""
    path = folder / "stages.txt"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        name, _, figures = line.rpartition(": ")
        status, seconds = figures.split()
        found.append(Stage(name, int(status), int(seconds)))
    return found


def _judge(stages: list[Stage], runs: list[Run]) -> int:
    """Print the stages that failed or ran no test; return how many failed beside their tests."""
    seen = {run.about["stage"] for run in runs}
    counted = {run.about["stage"] for run in runs if run.failures}
    wrong = 0
    for stage in stages:
        if stage.status:
            print(f"{stage.name}: failed with status {stage.status}")
            wrong += stage.name not in counted
        elif stage.name not in seen and not stage.name.startswith("make "):
            print(f"{stage.name}: not run, because its interpreter is not on this machine")
    return wrong


def _print_times(stages: list[Stage]) -> None:
    """Print each stage's status and seconds, what needs no test too, and the seconds of all."""
    rows = [[each.name, str(each.status), f"{each.seconds} s"] for each in stages]
    total = f"{sum(each.seconds for each in stages)} s"
    _print([["stage", "status", "time"], *rows, ["all", "", total]])


def _print_skips(runs: list[Run]) -> int:
    excuses = [
        line.split("  #  ", 1)
        for line in EXCUSES.read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    total: dict[str, Counter[str]] = {}
    for run in runs:
        for message, count in run.skips.items():
            total.setdefault(message, Counter())[run.about["stage"]] += count
    unexcused = 0
    for message, stages in sorted(total.items()):
        excuse = next((why for pattern, why in excuses if re.search(pattern, message)), None)
        where = ", ".join(f"{count} in {stage}" for stage, count in stages.items())
        unexcused += 0 if excuse else stages.total()
        print(f"\nskipped: {message}: {where}\n    {excuse or 'NO REASON IN .ci/skips.txt'}")
    return unexcused


def _print(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print()


if __name__ == "__main__":
    sys.exit(main())
