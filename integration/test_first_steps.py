"""The first steps of a newcomer: what README and the page "Start" show is what happens."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .support.find import need_uwsgi
from .support.first_steps import replay, steps
from .support.processes import clean_environment
from .support.uwsgi_server import ROOT

pytestmark = pytest.mark.timeout(600)


@pytest.mark.short
@pytest.mark.parametrize(("page", "count"), [("README.md", 4), ("docs/start.md", 6)])
def test_steps_of_the_page_print_what_it_shows(page: str, count: int, tmp_path: Path) -> None:
    assert len(replay(ROOT / page, sys.executable, tmp_path)) == count


@pytest.mark.uwsgi
def test_commands_of_the_page_of_uwsgi_print_what_it_shows(tmp_path: Path) -> None:
    binary = need_uwsgi().path
    done = []
    for command, shown in steps(ROOT / "docs" / "uwsgi.md"):
        if command.startswith("python -m uwsgi_waffle"):
            result = subprocess.run(
                [sys.executable, *shlex.split(command)[1:], "--uwsgi", binary],
                cwd=tmp_path,
                env=clean_environment(PYTHONUTF8="1"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=120,
                check=False,
            )
            assert general(result.stdout) == general(shown), command
            assert result.returncode == 0, command
            done.append(command)
    assert len(done) == 2
    assert "module = app:app" in (tmp_path / "uwsgi.ini").read_text()


def general(printed: str) -> str:
    """Return what is printed, without the versions of what is installed."""
    return re.sub(r"\(parser: .*\)", "(parser: …)", printed)
