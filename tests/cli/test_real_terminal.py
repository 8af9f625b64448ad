"""The command line on a pseudo-terminal, as a person has it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIMIT_S = 60.0
APP = """\
from flask import Flask
from uwsgi_waffle import WaffleConf

def create_app():
    app = Flask("shop", instance_path={folder!r})
    app.config["WAFFLE_CONFS"] = {{
        "SITENAME": {{"desc": "Name", "default": "x" * 300}},
        "TOKEN": {{"desc": "Token", "default": "hush", "secret": True}},
    }}
    WaffleConf(app)
    return app
"""


def on_terminal(folder: Path, *arguments: str, typed: str = "", **env: str) -> tuple[int, str]:
    """Run ``flask waffle`` on a terminal of 60 columns; return its status and what it showed."""
    (folder / "shop.py").write_text(APP.format(folder=str(folder)))
    command = [sys.executable, "-m", "flask", "--app", "shop:create_app", "waffle", *arguments]
    parent, child = pty.openpty()
    environment = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")
    }
    process = subprocess.Popen(
        command,
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=folder,
        env={**environment, "TERM": "xterm", "COLUMNS": "60", **env},
        start_new_session=True,
    )
    os.close(child)
    shown = b""
    deadline = time.monotonic() + LIMIT_S
    try:
        while time.monotonic() < deadline:
            if not select.select([parent], [], [], 0.1)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                piece = os.read(parent, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not piece:
                break
            shown += piece
            if typed and re.search(rb"\]: $|shown\): $|Ctrl-D:\r\n$", shown):
                os.write(parent, typed.encode())
                typed = ""
        return process.wait(LIMIT_S), shown.decode().replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def test_table_is_cut_and_colored_unless_colors_are_not_wanted(tmp_path: Path) -> None:
    status, shown = on_terminal(tmp_path, "list")
    assert status == 0
    assert "\x1b[1mNAME" in shown
    plain = re.sub(r"\x1b\[\d*m", "", shown)
    assert "…" in plain
    assert all(len(line) <= 60 for line in plain.splitlines())
    status, shown = on_terminal(tmp_path, "list", NO_COLOR="1")
    assert "\x1b" not in shown


def test_question_is_asked_and_no_means_no(tmp_path: Path) -> None:
    assert on_terminal(tmp_path, "set", "SITENAME=New")[0] == 0
    status, shown = on_terminal(tmp_path, "reset", "--all", typed="n\n")
    assert status == 1
    assert "Reset all settings? [y/N]: n" in shown
    status, shown = on_terminal(tmp_path, "reset", "--all", typed="y\n")
    assert (status, shown.splitlines()[-1]) == (0, "revision 2")


def test_secret_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    status, shown = on_terminal(tmp_path, "set", "TOKEN", typed="open-sesame\n")
    assert status == 0
    assert "TOKEN (not shown): " in shown
    assert "sesame" not in shown
    assert on_terminal(tmp_path, "get", "TOKEN", "--show-secrets") == (0, "open-sesame\n")


def test_value_can_not_steer_the_terminal(tmp_path: Path) -> None:
    status, shown = on_terminal(tmp_path, "set", "SITENAME=\x1b]0;owned\x07\x9b2J\u202eevil")
    assert status == 0
    for arguments in (["get", "SITENAME"], ["list"], ["history"], ["describe", "SITENAME"]):
        shown += on_terminal(tmp_path, *arguments)[1]
    shown += on_terminal(tmp_path, "export")[1]
    assert r"\x1b]0;owned\x07\x9b2J\u202eevil" in shown
    plain = re.sub(r"\x1b\[\d*m", "", shown)
    assert all(char.isprintable() or char == "\n" for char in plain)


@pytest.mark.parametrize("name", ["list", "get"])
def test_pipe_gets_all_of_a_value(tmp_path: Path, name: str) -> None:
    (tmp_path / "shop.py").write_text(APP.format(folder=str(tmp_path)))
    command = [sys.executable, "-m", "flask", "--app", "shop:create_app", "waffle", name]
    done = subprocess.run(
        [*command, *(["SITENAME"] if name == "get" else [])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=LIMIT_S,
        check=True,
    )
    assert "x" * 300 in done.stdout
    assert "\x1b" not in done.stdout
