"""The public interface as a type checker sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import uwsgi_waffle

USE = """\
from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from blinker import NamedSignal
from flask import Flask
from typing_extensions import assert_type

from uwsgi_waffle import Snapshot, State, Status, WaffleConf, setting_changed

app = Flask("shop")
waffle = WaffleConf(app)
later = WaffleConf()
assert_type(later.init_app(app, configstore=None), None)
assert_type(waffle.conf, Snapshot)
assert_type(waffle.conf["SITENAME"], Any)
assert_type(waffle.revision, int)
assert_type(waffle.update({"LIMIT": 1}, author="ann", expected_revision=None), int)
assert_type(waffle.reset(["LIMIT"]), int)
assert_type(waffle.override(LIMIT=1), AbstractContextManager[None])
assert_type(waffle.status(), Status)
assert_type(waffle.status().state, State)
assert_type(waffle.status().staleness_s, float | None)
assert_type(waffle.status().last_error, str | None)
assert_type(setting_changed, NamedSignal)
"""

MISUSE = """\
waffle.update({1: 2})  # E
waffle.update(SITENAME="New")  # E
waffle.update({"LIMIT": 1}, "ann")  # E
waffle.conf["SITENAME"] = "New"  # E
waffle.revision = 7  # E
waffle.init_app("shop")  # E
waffle.override({"LIMIT": 1})  # E
"""


def test_package_says_that_it_is_typed() -> None:
    assert (Path(uwsgi_waffle.__file__).parent / "py.typed").exists()


def test_every_public_name_is_there_once_and_in_order() -> None:
    names = uwsgi_waffle.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(uwsgi_waffle, name) for name in names)


@pytest.mark.timeout(120)
def test_public_interface_has_the_types_it_promises(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    file = tmp_path / "use.py"
    file.write_text(USE + MISUSE)
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--config-file", os.devnull, "--cache-dir", str(tmp_path / "cache")),
            *("--follow-imports", "silent", str(file)),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(uwsgi_waffle.__file__).parent.parent,
    )
    lines = (USE + MISUSE).splitlines()
    wanted = {number for number, line in enumerate(lines, 1) if line.endswith("# E")}
    found = {int(line.split(":")[1]) for line in answer.stdout.splitlines() if ": error:" in line}
    assert found == wanted, answer.stdout + answer.stderr
