"""The app that the benchmarks run under uWSGI; what it is, the environment says."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, request

from .reports import pack

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

KIND = os.environ["BENCH_KIND"]


def create_app() -> Flask:
    """Return a bare Flask app, or one with a live setting that reports its changes."""
    app = Flask("bench", instance_path=os.environ["BENCH_FOLDER"])
    app.config["NUMBER"] = 0

    @app.get("/")
    def read() -> str:
        return str(app.config["NUMBER"])

    if KIND == "stat":
        _look_at_each_request(app)
    elif KIND != "plain":
        _make_live(app)
    return app


def looking(inner: WsgiApp, path: str) -> WsgiApp:
    """Return a WSGI app that looks at a file in each request, and does nothing with it."""

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        os.stat(path)
        return inner(environ, start_response)

    return serve


def _look_at_each_request(app: Flask) -> None:
    path = os.path.join(app.instance_path, "watched")
    Path(path).touch()
    app.__dict__["wsgi_app"] = looking(app.wsgi_app, path)


def _make_live(app: Flask) -> None:
    # Imported here, so that the bare app is measured without it.
    from uwsgi_waffle import WaffleConf, setting_changed

    more = {
        f"SETTING_{number}": {"desc": "one of many", "default": 0}
        for number in range(1, int(os.environ.get("BENCH_SETTINGS", "1")))
    }
    app.config.update(
        WAFFLE_CONFS={"NUMBER": {"desc": "counts the rounds", "default": 0}, **more},
        WAFFLE_WATCHTYPE=KIND,
        WAFFLE_REDIS_PORT=int(os.environ["BENCH_REDIS_PORT"]),
    )
    app.config.from_prefixed_env()
    waffle = WaffleConf(app, _make_store())

    @app.post("/")
    def write() -> str:
        began = time.monotonic_ns()
        waffle.update({"NUMBER": int(request.get_data())})
        return str(began)

    reports = os.environ.get("BENCH_REPORTS")
    if reports is None or not Path(reports).exists():
        return
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(reports)

    def report(app: Flask, *, name: str, new: Any, **extra: Any) -> None:
        if name == "NUMBER":
            sender.send(pack(os.getpid(), new, time.monotonic_ns()))

    setting_changed.connect(report, app, weak=False)


def _make_store() -> Any:
    url = os.environ.get("BENCH_PEEWEE")
    if url is None:
        return None
    # The one store that no URL of the configuration names.
    from playhouse import db_url

    from uwsgi_waffle import PeeweeWaffleStore

    connect: Any = db_url.connect  # without types
    return PeeweeWaffleStore(db=connect(url))


app = create_app()
