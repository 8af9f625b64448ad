"""What a type checker knows of settings that a class declares."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from typing import Annotated

import msgspec
from flask import Flask

from uwsgi_waffle import Setting, WaffleConf


class Settings(msgspec.Struct, frozen=True):
    SITENAME: Annotated[str, Setting("Name of the site")] = "Waffle"
    MAX_FILESIZE: Annotated[int, Setting("Largest upload, in bytes", min=1)] = 1000


app = Flask("test")
waffle = WaffleConf(app, settings=Settings)
reveal_type(waffle.conf.SITENAME)
reveal_type(waffle.conf.MAX_FILESIZE)
reveal_type(WaffleConf(settings=Settings))
waffle.conf.MISSPELT
waffle.conf.SITENAME = "x"
waffle.conf.MAX_FILESIZE + "x"

plain = WaffleConf(app)
reveal_type(plain)
reveal_type(plain.conf["SITENAME"])
annotated: WaffleConf = WaffleConf()
"""

EXPECTED = [
    'note: Revealed type is "str"',
    'note: Revealed type is "int"',
    'note: Revealed type is "uwsgi_waffle.extension.WaffleConf[use_them.Settings]"',
    'error: "Settings" has no attribute "MISSPELT"',
    'error: Property "SITENAME" defined in "Settings" is read-only',
    'error: Unsupported operand types for + ("int" and "str")',
    'note: Revealed type is "uwsgi_waffle.extension.WaffleConf[uwsgi_waffle.snapshot.Snapshot]"',
    'note: Revealed type is "Any"',
]


@pytest.mark.slow
def test_checker_knows_every_setting_of_a_class_by_name_and_type(tmp_path: Path) -> None:
    (tmp_path / "use_them.py").write_text(CODE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "use_them.py"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # Neither the error's code nor how a builtin is written is ours to hold.
    text = re.sub(r"  \[[\w-]+\]$|builtins\.", "", done.stdout, flags=re.MULTILINE)
    found = [line.partition(": ")[2] for line in text.splitlines()]
    assert found == EXPECTED, done.stdout + done.stderr
