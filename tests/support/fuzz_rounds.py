"""``python -m tests.support.fuzz_rounds``: the fuzzed tests in rounds, each with a fresh seed.

``WAFFLE_FUZZ_S`` is for how many seconds; without it the rounds go on until one fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time

TESTS = (
    "tests/test_fuzz.py",
    "tests/stores/test_model_store.py",
    "tests/process/test_model_workers.py",
    "tests/legacy/test_legacy_fuzz.py",
    "tests/process/test_interleavings.py",
)
_ENDED_S = 10.0


def main() -> int:
    """Print the seed of each round; return 1 and print how to repeat it when a test fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz_rounds")
    parser.add_argument("--seed", type=int, help="one round, with this seed")
    parser.add_argument("tests", nargs="*", default=TESTS)
    chosen = parser.parse_args()
    deadline = time.monotonic() + float(os.environ.get("WAFFLE_FUZZ_S") or "inf")
    done = 0
    while time.monotonic() < deadline:
        seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
        print(f"round {done + 1}: seed {seed}", flush=True)
        text = _failure(seed, chosen.tests, deadline)
        if text is None:
            print(f"{done} whole rounds; the last was stopped, because the time is over")
            return 0
        if text:
            failed = sorted(set(re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)))
            print(text)
            print(f"again: WAFFLE_FUZZ=deep {shlex.join(_command(seed, failed or chosen.tests))}")
            return 1
        done += 1
        if chosen.seed is not None:
            break
    print(f"{done} whole rounds, and no test failed")
    return 0


def _command(seed: int, tests: list[str], *more: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", *more, f"--hypothesis-seed={seed}", *tests]


def _failure(seed: int, tests: list[str], deadline: float) -> str | None:
    """Run one round; return what pytest printed if a test failed, ``None`` if time was over."""
    parallel = ["-n", "auto", "--dist", "worksteal"] if len(tests) > 1 else []
    process = subprocess.Popen(
        _command(seed, tests, *parallel),
        env={**os.environ, "WAFFLE_FUZZ": "deep"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # So that its workers can be ended with it.
        start_new_session=True,
    )
    rest_s = deadline - time.monotonic()
    try:
        text, _ = process.communicate(timeout=None if rest_s == float("inf") else rest_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDED_S)
    return text if process.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
