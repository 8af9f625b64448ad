"""``python -m mutants``: makes a sample of mutants, and counts those that the tests find."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from .operators import Mutant, mutants_of
from .reach import ROOT, Reach, measure

#: what is mutated: the core, of which each line carries a promise
CORE = (
    *("process", "notifiers", "stores/sqlite", "stores/redis/store.py", "stores/sql/changes.py"),
    *("reporting/last_known.py", "reporting/barrier.py", "runtime.py", "masking.py"),
    *("admin/access.py", "admin/tokens.py"),
)
EQUIVALENT = Path(__file__).parent / "equivalent.json"
WANTED = 0.95
_SLOWER = 5.0
_START_S = 60.0


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
    sample = random.Random(seed).sample(every, min(chosen.count, len(every)))
    print(f"seed {seed}: {len(sample)} of {len(every)} mutants", flush=True)
    with tempfile.TemporaryDirectory() as name:
        reach = measure(Path(name))
        print(f"the clean tests took {time.monotonic() - began:.0f} s", flush=True)
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(chosen.jobs):
            copies.put(_copied(Path(name) / f"copy-{number}"))
        with ThreadPoolExecutor(chosen.jobs) as pool:
            lived = list(pool.map(lambda mutant: _lives(mutant, reach, copies), sample))
    survivors = [mutant for mutant, alive in zip(sample, lived, strict=True) if alive]
    holes = [mutant for mutant in survivors if (mutant.path, _key(mutant)) not in known]
    for mutant in sorted(holes):
        print(f"survives: {mutant}" + ("" if reach.tests(mutant) else "  (no test comes here)"))
    equivalent = len(survivors) - len(holes)
    counted = len(sample) - equivalent
    share = (counted - len(holes)) / max(counted, 1)
    print(
        f"{counted - len(holes)} of {counted} killed, {share:.1%}; {equivalent} are equivalent "
        f"(mutants/equivalent.json); {time.monotonic() - began:.0f} s; again: --seed {seed}"
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


def _key(mutant: Mutant) -> str:
    return f"{' '.join(mutant.before.split())} -> {' '.join(mutant.after.split())}"


def _equivalent() -> set[tuple[str, str]]:
    """Return those that change nothing that anybody sees; each has its reason in the file."""
    entries = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    assert all(entry["why"] for entry in entries)
    return {(entry["path"], entry["change"]) for entry in entries}


def _copied(to: Path) -> Path:
    left_out = shutil.ignore_patterns(".*", "__pycache__", "dist", "_build")
    shutil.copytree(ROOT, to, ignore=left_out)
    return to


def _lives(mutant: Mutant, reach: Reach, copies: SimpleQueue[Path]) -> bool:
    """Return whether all tests that reach a mutant pass."""
    tests = reach.tests(mutant)
    if not tests:
        return True
    tree = copies.get()
    path = tree / mutant.path
    clean = path.read_bytes()
    chosen = tree / "chosen.txt"
    try:
        path.write_bytes(mutant.applied(clean))
        chosen.write_text("\n".join(tests))
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-qx", "-p", "no:cacheprovider", f"@{chosen}"],
            cwd=tree,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=_START_S + _SLOWER * reach.seconds(tests),
            check=False,
        )
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_bytes(clean)
        copies.put(tree)


if __name__ == "__main__":
    sys.exit(main())
