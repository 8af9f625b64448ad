"""Two releases of an app beside each other do what docs/deploying.md shows."""

from __future__ import annotations

import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.cli import group

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "deploying.md"
SITENAME = {"desc": "Name of the site", "default": "Waffle"}
RELEASES: dict[str, Any] = {
    "1": {
        "SITENAME": SITENAME,
        "LIMIT": {"desc": "Largest upload, in KiB", "default": 1000},
        "SKIN": {"desc": "Colours", "default": "light"},
    },
    "2": {
        "SITENAME": SITENAME,
        "LIMIT": {"desc": "Largest upload, with its unit", "default": "1000 KiB"},
        "BANNER": {"desc": "Shown on top of each page", "default": ""},
    },
}


def test_session_of_two_releases_is_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the log says of values that do not fit is left out on the page.
    monkeypatch.setattr(logging.getLogger("uwsgi_waffle"), "disabled", True)
    apps = {}
    for release, confs in RELEASES.items():
        apps[release] = app = Flask("shop", instance_path=str(tmp_path))
        app.config["WAFFLE_CONFS"] = confs
        WaffleConf(app)
    text = "".join(re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL))
    parts = re.split(r"^releases/(\d) \$ (.*)\n", text, flags=re.MULTILINE)[1:]
    assert len(parts) == 3 * 8
    for release, command, shown in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        shown, *status = re.split(r"^\(exit status (\d)\)\n", shown, flags=re.MULTILINE)
        result = apps[release].test_cli_runner().invoke(group, shlex.split(command)[2:])
        assert result.output == shown, command
        assert result.exit_code == (int(status[0]) if status else 0), command
    for app in apps.values():
        app.extensions["waffleconf"].store.close()
