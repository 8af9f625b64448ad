"""Two real apps with one store: one warning, and nothing of the other's is removed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartUwsgi
from .support.processes import clean_environment
from .support.uwsgi_server import TEST_CONFIG

pytestmark = [pytest.mark.uwsgi, pytest.mark.slow, pytest.mark.timeout(400)]

BLOG = """
import json, os
from flask import Flask
from uwsgi_waffle import WaffleConf

app = Flask("blog", instance_path=os.environ["SITE_INSTANCE"])
app.config["WAFFLE_CONFS"] = {"POSTS": {"desc": "Posts on a page", "default": 5}}
app.config.update(json.loads(os.environ["SITE_CONFIG"]))
waffle = WaffleConf(app)

@app.get("/posts")
def posts():
    return {"posts": app.config["POSTS"]}
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_second_app_is_warned_and_removes_nothing_of_the_first(
    kind: str, request: pytest.FixtureRequest, start_uwsgi: StartUwsgi, folder: Path, tmp_path: Path
) -> None:
    config: dict[str, Any] = {}
    if kind == "redis":
        config["WAFFLE_STORE_URL"] = request.getfixturevalue("redis_server").url
    (tmp_path / "blog.py").write_text(BLOG)

    def flask_waffle(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "blog:app", "waffle", *arguments],
            env=clean_environment(
                SITE_INSTANCE=str(folder), SITE_CONFIG=json.dumps({**TEST_CONFIG, **config, **more})
            ),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    shop = start_uwsgi("--master", "--lazy-apps", config=config)
    shop.post(1, {"SITENAME": "Kept", "A": 7, "B": 7})
    assert "shares this store" not in shop.log
    blog = start_uwsgi(
        "--master",
        "--lazy-apps",
        f"--pythonpath={tmp_path}",
        "--mount=/=blog:app",
        config=config,
    )
    blog.eventually("it serves", lambda: blog.get(1, "/posts") == {"posts": 5})
    blog.eventually("the warning", lambda: "shares this store" in blog.log)
    for worker in (1, 2):
        assert blog.get(worker, "/posts") == {"posts": 5}
    assert blog.log.count("shares this store") == 1
    assert "WAFFLE_STORE_PREFIX" in blog.log

    assert flask_waffle("set", "POSTS=6").returncode == 0
    shown = flask_waffle("doctor").stdout
    assert "D026" in shown
    assert "flask waffle prune" not in shown
    for command in (["prune"], ["reset", "--all"], ["rollback", "0"]):
        done = flask_waffle(*command, "--yes")
        assert done.returncode == 0, done
    for report in shop.reports():
        assert report["config"] == {"SITENAME": "Kept", "A": 7, "B": 7}
    assert "SITENAME (site)" in flask_waffle("prune", "--yes").stderr
    # The fix that the warning names.
    fixed = flask_waffle("doctor", WAFFLE_STORE_PREFIX="blog_")
    assert "D026" not in fixed.stdout
