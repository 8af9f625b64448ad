"""``python -m mutants``: makes a sample of mutants, and counts those that the tests find."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from .operators import Mutant, mutants_of
from .reach import ROOT, Reach, measure
from .warm import passes

#: what is mutated: the core, of which each line carries a promise
CORE = (
    *("process", "notifiers", "stores/sqlite", "stores/redis/store.py"),
    *("stores/sql/changes.py", "stores/sql/attempts.py", "ownership.py"),
    *("reporting/last_known.py", "reporting/barrier.py", "reporting/question.py"),
    *("reporting/host_rows.py", "runtime.py", "masking.py", "forking.py"),
    *("admin/access.py", "admin/tokens.py"),
)
EQUIVALENT = Path(__file__).parent / "equivalent.json"
WANTED = 0.95
# How much longer tests may take than in the clean run, which is slow itself.
_SLOWER = 4.0
_START_S = 20.0


def main() -> int:
    """Print who survives, and the share of those that were killed; return 1 if it is too low."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="how many are made")
    parser.add_argument("--seed", type=int, default=None, help="decides which; else a random one")
    parser.add_argument("--only", default="", help="a module or folder of the core")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at once")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    began = time.monotonic()
    every = [mutant for path in _modules(chosen.only) for mutant in _of(path)]
    known = _equivalent()
    for path, line, change in sorted(known - {_key(mutant) for mutant in every}):
        if not chosen.only:
            print(f"{EQUIVALENT.name} names what is no more: {path}: {line}: {change}")
    sample = random.Random(seed).sample(every, min(chosen.count, len(every)))
    print(f"seed {seed}: {len(sample)} of {len(every)} mutants", flush=True)
    with tempfile.TemporaryDirectory() as name:
        reach = measure(Path(name), chosen.jobs)
        print(f"the clean tests took {time.monotonic() - began:.0f} s", flush=True)
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(chosen.jobs):
            copies.put(_copied(Path(name) / f"copy-{number}"))
        tried = [mutant for mutant in sample if _key(mutant) not in known]
        with ThreadPoolExecutor(chosen.jobs) as pool:
            lived = pool.map(lambda mutant: _lives(mutant, reach, copies), tried)
            holes = []
            # At once, so that a long run can be used before it ends.
            for number, (mutant, alive) in enumerate(zip(tried, lived, strict=True), start=1):
                if alive:
                    holes.append(mutant)
                    unreached = "" if reach.turns(mutant) else "  (no test comes here)"
                    print(f"{number}: survives: {mutant}{unreached}", flush=True)
                if not number % 25:
                    spent_s = time.monotonic() - began
                    print(f"{number}: {len(holes)} survive so far; {spent_s:.0f} s", flush=True)
    counted, equivalent = len(tried), len(sample) - len(tried)
    share = (counted - len(holes)) / max(counted, 1)
    print(
        f"{counted - len(holes)} of {counted} killed, {share:.1%}; {equivalent} are equivalent "
        f"(mutants/equivalent.json); {time.monotonic() - began:.0f} s, load "
        f"{os.getloadavg()[2]:.1f}; again: --seed {seed}"
    )
    return int(share < WANTED)


def _modules(only: str) -> list[Path]:
    package = ROOT / "uwsgi_waffle"
    found = []
    for part in CORE:
        path = package / part
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [path for path in found if only in str(path.relative_to(package))]


def _of(path: Path) -> list[Mutant]:
    return list(mutants_of(path.relative_to(ROOT).as_posix(), path.read_bytes()))


def _key(mutant: Mutant) -> tuple[str, str, str]:
    change = f"{' '.join(mutant.before.split())} -> {' '.join(mutant.after.split())}"
    return mutant.path, mutant.source, change


def _equivalent() -> set[tuple[str, str, str]]:
    """Return those that change nothing that anybody sees; each has its reason in the file."""
    entries = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    assert all(entry["why"] for entry in entries)
    return {(entry["path"], entry["line"], entry["change"]) for entry in entries}


def _copied(to: Path) -> Path:
    """Copy the repository with its compiled modules, which are as old as their sources."""
    left_out = shutil.ignore_patterns(".*", "dist", "_build")
    shutil.copytree(ROOT, to, ignore=left_out)
    return to


def _lives(mutant: Mutant, reach: Reach, copies: SimpleQueue[Path]) -> bool:
    """Return whether all tests that reach a mutant pass."""
    tree = copies.get()
    path = tree / mutant.path
    clean, status = path.read_bytes(), path.stat()
    try:
        path.write_bytes(mutant.applied(clean))
        return all(_passes(tree, tests, reach) for tests in reach.turns(mutant))
    finally:
        path.write_bytes(clean)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        copies.put(tree)


def _passes(tree: Path, tests: list[str], reach: Reach) -> bool:
    limit_s = _START_S + _SLOWER * reach.seconds(tests)
    longest_s = _START_S + _SLOWER * max(reach.seconds([test]) for test in tests)
    passed = passes(tree, tests, limit_s, longest_s)
    if passed is None:
        # On a busy machine that may be slowness; only one that hangs does it twice.
        passed = passes(tree, tests, 2 * limit_s, 2 * longest_s)
    return bool(passed)


if __name__ == "__main__":
    sys.exit(main())
