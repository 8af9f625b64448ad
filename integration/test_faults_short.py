"""The short form of ``make faults``: a few quick faults under load, and the checked record."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .support.find import need_redis, need_uwsgi
from .support.uwsgi_server import ROOT

pytestmark = [
    *(pytest.mark.uwsgi, pytest.mark.redis_server, pytest.mark.slow),
    pytest.mark.timeout(240),
]

SEED = 5
LIMIT_S = 200.0


def test_no_promise_is_broken_by_a_few_quick_faults() -> None:
    need_uwsgi()
    need_redis()
    command = [sys.executable, "-m", "faults", "--short", "--seed", str(SEED)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            # It ends its servers itself; killed, it would leave them behind.
            process.terminate()
            output, _ = process.communicate(timeout=30)
            pytest.fail(f"not over within {LIMIT_S:g} s\n{output}")
    print(output)
    assert process.returncode == 0, output
    assert "all promises held" in output
