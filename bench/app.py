"""The app that the benchmarks run under uWSGI; what it is, the environment says."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from flask import Flask

from .reports import pack


def create_app() -> Flask:
    """Return a bare Flask app, or one with a live setting that reports its changes."""
    app = Flask("bench", instance_path=os.environ["BENCH_FOLDER"])

    @app.get("/")
    def index() -> str:
        return "ok"

    if os.environ["BENCH_KIND"] != "bare":
        _make_live(app)
    return app


def _make_live(app: Flask) -> None:
    # Imported here, so that the bare app is measured without it.
    from uwsgi_waffle import WaffleConf, setting_changed

    app.config["WAFFLE_CONFS"] = {"NUMBER": {"desc": "counts the rounds", "default": 0}}
    app.config.from_prefixed_env()
    WaffleConf(app)
    reports = os.environ.get("BENCH_REPORTS")
    if reports is None:
        return
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(reports)

    def report(app: Flask, *, new: int, **extra: Any) -> None:
        sender.send(pack(os.getpid(), new, time.monotonic_ns()))

    setting_changed.connect(report, app, weak=False)


app = create_app()
