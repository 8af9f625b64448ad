"""Reading settings where no ordinary request is: async views, shells, threads, scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from uwsgi_waffle import WaffleConf

CONFS = {"A": {"desc": "Always equal to B", "default": 0}, "B": {"desc": "As A", "default": 0}}

APP = """
from flask import Flask
from uwsgi_waffle import WaffleConf

app = Flask("shell", instance_path="{folder}")
app.config["WAFFLE_CONFS"] = {{"A": {{"desc": "a", "default": 0}}}}
waffle = WaffleConf(app)
"""


MakeSite = Callable[[], tuple[Flask, WaffleConf]]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """Makes what one process of a site has; several stand in for several processes."""
    made: list[WaffleConf] = []

    def make() -> tuple[Flask, WaffleConf]:
        app = Flask("site", instance_path=str(tmp_path))
        app.config["WAFFLE_CONFS"] = CONFS
        made.append(WaffleConf(app))
        return app, made[-1]

    yield make
    for waffle in made:
        waffle.state.store.close()


def test_async_view_reads_one_revision_across_its_awaits(make_site: MakeSite) -> None:
    app, waffle = make_site()
    # Its state, because within the view the current app is this one.
    other = make_site()[1].state

    @app.get("/")
    async def view() -> list[int]:
        import asyncio

        first = waffle.conf["A"]
        await asyncio.to_thread(other.update_db, {"A": 7, "B": 7})
        return [first, waffle.conf["A"], waffle.conf["B"], app.config["B"]]

    assert app.test_client().get("/").json == [0, 0, 0, 0]
    assert app.test_client().get("/").json == [7, 7, 7, 7]


def test_script_without_a_watcher_reads_what_others_changed(make_site: MakeSite) -> None:
    app, waffle = make_site()
    other = make_site()[1].state
    other.update_db({"A": 7})
    assert waffle.conf["A"] == 7
    assert (waffle.revision, app.config["A"]) == (1, 7)


def test_thread_of_the_app_reads_what_others_changed(make_site: MakeSite) -> None:
    app, waffle = make_site()
    other = make_site()[1].state
    waffle.start()
    try:
        seen: list[int] = []
        found = threading.Event()

        def work() -> None:
            while not found.wait(0.01):
                seen.append(waffle.conf["A"])
                if seen[-1] == 7:
                    found.set()

        thread = threading.Thread(target=work)
        thread.start()
        other.update_db({"A": 7})
        assert found.wait(10), seen[-5:]
        thread.join(10)
        assert app.config["A"] == 7
    finally:
        waffle.stop()


def test_flask_shell_reads_and_changes_settings(tmp_path: Path) -> None:
    (tmp_path / "shell_app.py").write_text(APP.format(folder=tmp_path / "instance"))
    code = "from shell_app import waffle\nwaffle.update({'A': 5})\nprint('now', waffle.conf['A'])\n"
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shell_app", "shell"],
        input=code,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert "now 5" in done.stdout, done.stdout + done.stderr
