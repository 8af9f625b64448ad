"""Which tests reach which line, by one clean run of all that may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from coverage import CoverageData

from .operators import Mutant

ROOT = Path(__file__).resolve().parent.parent
#: run side by side, and about as long as each other
PARTS = (
    ("tests/process", "tests/notifiers", "tests/reporting", "tests/doctor"),
    # The store of Redis needs a real one.
    ("tests/stores", "tests/operations", "integration/test_store_redis.py"),
    (
        *("tests/admin", "tests/test_extension.py", "tests/test_runtime.py", "tests/test_main.py"),
        *("tests/test_masking.py", "tests/test_forking.py", "tests/test_snapshot.py"),
    ),
)
#: for one mutant, in seconds of the clean run; what takes longest is left out
_MOST_S = 25.0


class Reach(NamedTuple):
    """What a clean run has shown.

    :ivar lines: module and line -> the tests that reach it.
    :ivar durations: test -> seconds.
    """

    lines: dict[tuple[str, int], set[str]]
    durations: dict[str, float]

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that reach a mutant, the quickest first, within a time for all."""
        found = self.lines.get((mutant.path, mutant.line), set())
        if not found and mutant.at_import:
            lines = [tests for (path, _), tests in self.lines.items() if path == mutant.path]
            found = set().union(*lines)
        chosen: list[str] = []
        left_s = _MOST_S
        for test in sorted(found, key=lambda test: self.durations.get(test, 0.0)):
            left_s -= self.durations.get(test, 0.0)
            if left_s < 0 and chosen:
                break
            chosen.append(test)
        return chosen

    def seconds(self, tests: list[str]) -> float:
        """Return how long tests took in the clean run."""
        return sum(self.durations.get(test, 0.0) for test in tests)


def measure(folder: Path) -> Reach:
    """Run the tests; return what each of them reaches.

    :raises RuntimeError: a test fails on the code as it is.
    """
    settings = folder / "coverage.ini"
    settings.write_text("[run]\nsource = uwsgi_waffle\n")
    running = []
    for number, part in enumerate(PARTS):
        log = open(folder / f"log-{number}", "wb")  # noqa: SIM115  # closed with the process
        environment = {
            **os.environ,
            "COVERAGE_FILE": str(folder / f"data-{number}"),
            "MUTANTS_DURATIONS": str(folder / f"durations-{number}.json"),
        }
        command = ["-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest", "-q"]
        command += ["-p", "mutants.contexts", "-p", "no:cacheprovider", *part]
        running.append(
            subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        )
    lines: dict[tuple[str, int], set[str]] = {}
    durations: dict[str, float] = {}
    for number, process in enumerate(running):
        if process.wait() != 0:
            raise RuntimeError((folder / f"log-{number}").read_text(errors="replace")[-3000:])
        durations |= json.loads((folder / f"durations-{number}.json").read_text())
        data = CoverageData(str(folder / f"data-{number}"))
        data.read()
        for file in data.measured_files():
            path = Path(file).relative_to(ROOT).as_posix()
            for line, tests in data.contexts_by_lineno(file).items():
                lines.setdefault((path, line), set()).update(filter(None, tests))
    return Reach(lines, durations)
