"""Prints what ran where in CI, and every skip; fails on a skip that no reason excuses.

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


class Run(NamedTuple):
    """One run of pytest."""

    about: dict[str, Any]
    passed: int
    failed: int
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
            str(self.failed),
            str(self.skips.total()),
            f"{self.seconds:.0f} s",
            versions,
        ]


def main() -> int:
    """Print the table; return 1 if a test failed, a stage broke or a skip has no excuse."""
    folder = Path(sys.argv[1])
    runs = [_read(path) for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)]
    header = ["stage", "tests", "Python", "uWSGI", "passed", "failed", "skipped", "time", "with"]
    _print([header, *(run.row for run in runs)])
    broken = _stages(folder, runs)
    unexcused = _print_skips(runs)
    passed = sum(run.passed for run in runs)
    failed = sum(run.failed for run in runs) + broken + unexcused
    skipped = sum(run.skips.total() for run in runs)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def _read(path: Path) -> Run:
    about = json.loads(path.read_text())
    report = path.with_name(path.name.removesuffix(".json") + ".xml")
    if not report.exists():
        return Run(about, 0, 1, Counter(), 0.0)
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    passed = failed = 0
    skips: Counter[str] = Counter()
    for case in suite.iter("testcase"):
        kinds = {child.tag: child for child in case}
        if "failure" in kinds or "error" in kinds:
            failed += 1
        elif "skipped" in kinds:
            skips[kinds["skipped"].get("message", "")] += 1
        else:
            passed += 1
    return Run(about, passed, failed, skips, float(suite.get("time", "0")))


def _stages(folder: Path, runs: list[Run]) -> int:
    """Print the stages that failed or ran no test; return how many failed beside their tests."""
    seen = {run.about["stage"] for run in runs}
    counted = {run.about["stage"] for run in runs if run.failed}
    wrong = 0
    stages = folder / "stages.txt"
    for line in stages.read_text().splitlines() if stages.exists() else []:
        stage, _, status = line.partition(": ")
        if status != "0":
            print(f"{stage}: failed with status {status}")
            wrong += stage not in counted
        elif stage not in seen and not stage.startswith("make "):
            print(f"{stage}: not run, because its interpreter is not on this machine")
    return wrong


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
