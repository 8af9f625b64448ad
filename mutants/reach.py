"""Which tests reach which line, by one clean run of all that may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from coverage import CoverageData
from coverage.exceptions import CoverageException

from .operators import Mutant

ROOT = Path(__file__).resolve().parent.parent
#: what may reach the core
TESTS = (
    *("tests/process", "tests/notifiers", "tests/reporting", "tests/stores", "tests/operations"),
    *("tests/admin/test_access.py", "tests/admin/test_tokens.py", "tests/admin/test_rights.py"),
    *("tests/test_extension.py", "tests/test_runtime.py", "tests/test_main.py"),
    *("tests/test_masking.py", "tests/test_forking.py", "tests/test_ownership.py"),
    # The store of Redis needs a real one.
    "integration/test_store_redis.py",
)
#: they take long, and show the same of the core as those of SQLAlchemy
LEFT_OUT = ("test_peewee_store.py", "test_migrations.py")
#: how many parts the clean run has; the tests of each file are in one
_PARTS = 8
#: for each of the turns of one mutant, in seconds of the clean run; the rest is left out
_MOST_S = (150.0, 30.0, 30.0)
#: what takes longer has its turn after all others
_LONG_S = 5.0


class Reach(NamedTuple):
    """What a clean run has shown.

    :ivar lines: module and line -> the tests that reach it.
    :ivar durations: test -> seconds.
    """

    lines: dict[tuple[str, int], set[str]]
    durations: dict[str, float]

    def turns(self, mutant: Mutant) -> list[list[str]]:
        """Return the tests that reach a mutant, by when they have their turn.

        First those of the module's own files and the random histories, then some of each other
        file, those of its folder first, at last what takes long; of one file the quickest first.
        """
        found = self.lines.get((mutant.path, mutant.line), set())
        if mutant.at_import:
            # Whichever test imported it first.
            lines = [tests for (path, _), tests in self.lines.items() if path == mutant.path]
            found = set().union(*lines)
        # One may look at a constant alone; and a child that was killed, or lost its descriptors,
        # has not written down what it reached.
        found = found | {test for test in self.durations if _is_near(test, mutant.path)}
        of_file: Counter[str] = Counter()
        ranked = []
        for test in sorted(found, key=lambda test: (self.seconds([test]), test)):
            file = test.partition("::")[0]
            of_file[file] += 1
            turn = 2 if self.seconds([test]) > _LONG_S else int(not _is_near(test, mutant.path))
            ranked.append((turn, not _is_beside(file, mutant.path), of_file[file], test))
        turns: list[list[str]] = [[], [], []]
        for turn, *_, test in sorted(ranked):
            if not turns[turn] or self.seconds([*turns[turn], test]) <= _MOST_S[turn]:
                turns[turn].append(test)
        return [tests for tests in turns if tests]

    def seconds(self, tests: list[str]) -> float:
        """Return how long tests took in the clean run."""
        return sum(self.durations.get(test, 0.0) for test in tests)


def _is_near(test: str, module: str) -> bool:
    """Return whether a test's file is that of a module, or has random histories."""
    name = Path(test.partition("::")[0]).stem
    folder = Path(module).parent.name
    own = Path(module).stem in name or (folder in name and folder != "process")
    return own or "model" in name or "interleavings" in name


def _is_beside(file: str, module: str) -> bool:
    """Return whether a test's file is in the folder of the tests of a module's folder."""
    return Path(file).parent.name in Path(module).parent.parts


def measure(folder: Path, jobs: int) -> Reach:
    """Run the tests, so many at once; return what each of them reaches.

    :raises RuntimeError: a test fails on the code as it is.
    """
    # What a forked child reaches belongs to its test, too; it ends by os._exit().
    (folder / "coverage.ini").write_text(
        "[run]\nsource = uwsgi_waffle\nparallel = true\npatch = _exit\n"
    )
    files = [path for name in TESTS for path in _files(ROOT / name)]
    files.sort(key=lambda path: path.stat().st_size)
    lines: dict[tuple[str, int], set[str]] = {}
    durations: dict[str, float] = {}
    with ThreadPoolExecutor(jobs) as pool:
        parts = [files[number::_PARTS] for number in range(_PARTS)]
        list(pool.map(lambda numbered: _run(folder, *numbered), enumerate(parts)))
    for number in range(_PARTS):
        durations |= json.loads((folder / f"durations-{number}.json").read_text())
    for data in folder.glob("data-*"):
        for place, tests in _reached(data):
            lines.setdefault(place, set()).update(tests)
    return Reach(lines, durations)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.rglob("test_*.py")) if file.name not in LEFT_OUT]


def _run(folder: Path, number: int, files: list[Path]) -> None:
    environment = {
        **os.environ,
        "COVERAGE_FILE": str(folder / f"data-{number}"),
        "MUTANTS_DURATIONS": str(folder / f"durations-{number}.json"),
    }
    # The copies of the repository get the compiled modules.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={folder / 'coverage.ini'}"]
    command += ["-m", "pytest", "-q", "-p", "mutants.contexts", "-p", "no:cacheprovider"]
    command += [str(path.relative_to(ROOT)) for path in files]
    log = folder / f"log-{number}"
    with log.open("wb") as file:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    if done.returncode != 0:
        raise RuntimeError(log.read_text(errors="replace")[-3000:])


def _reached(file_of_data: Path) -> Iterator[tuple[tuple[str, int], set[str]]]:
    data = CoverageData(str(file_of_data))
    try:
        data.read()
    except CoverageException:
        # Of a child that was killed while it wrote this.
        return
    for file in data.measured_files():
        path = Path(file).relative_to(ROOT).as_posix()
        for line, tests in data.contexts_by_lineno(file).items():
            yield (path, line), set(filter(None, tests))
