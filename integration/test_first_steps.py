"""The first steps of a newcomer: what README and the page "Start" show is what happens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .support.first_steps import replay
from .support.uwsgi_server import ROOT

pytestmark = [pytest.mark.short, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("page", "steps"), [("README.md", 4), ("docs/start.md", 6)])
def test_steps_of_the_page_print_what_it_shows(page: str, steps: int, tmp_path: Path) -> None:
    assert len(replay(ROOT / page, sys.executable, tmp_path)) == steps
