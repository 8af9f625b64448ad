"""Fuzzing in rounds: what fails is repeated by the command that it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """
from hypothesis import given, settings, strategies as st

@settings(database=None)
@given(st.integers(0, 2**64))
def test_number(number):
    assert number {than} 2**40
"""


def run(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        shell=True,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def rounds(tmp_path: Path, than: str, **more: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "test_numbers.py"
    path.write_text(TEXT.format(than=than))
    return run(f"{sys.executable} -m tests.support.fuzz_rounds {path}", **more)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_failed_round_prints_its_seed_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    done = rounds(tmp_path, "<")
    assert done.returncode == 1, done.stdout
    seeds = re.findall(r"^round \d+: seed (\d+)$", done.stdout, re.MULTILINE)
    (again,) = re.findall(r"^again: (.*)$", done.stdout, re.MULTILINE)
    assert f"--hypothesis-seed={seeds[-1]} " in again
    repeated = run(again)
    assert repeated.returncode == 1
    falsified = [re.findall(r"number=(\d+)", text) for text in (done.stdout, repeated.stdout)]
    assert falsified[0] == falsified[1] != []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rounds_end_when_their_time_is_over_each_with_another_seed(tmp_path: Path) -> None:
    done = rounds(tmp_path, "< 2**65 +", WAFFLE_FUZZ_S="3")
    assert done.returncode == 0, done.stdout
    seeds = re.findall(r"^round \d+: seed (\d+)$", done.stdout, re.MULTILINE)
    assert len(set(seeds)) == len(seeds) >= 1
    assert "whole rounds" in done.stdout
