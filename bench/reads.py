"""What a read and the check at a request's start cost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from flask import Flask

from uwsgi_waffle import WaffleConf

from .timing import samples_ns, show


def _make_app(folder: Path, *, live: bool) -> tuple[Flask, WaffleConf | None]:
    app = Flask("bench", instance_path=str(folder))
    app.config["SITENAME"] = "Waffle"

    @app.get("/")
    def index() -> str:
        return "ok"

    if not live:
        return app, None
    app.config["WAFFLE_CONFS"] = {"SITENAME": {"desc": "name", "default": "Waffle"}}
    return app, WaffleConf(app)


def run() -> None:
    """Print the cost of reads, of the check, and of a whole request with and without it."""
    print("\nReads and the check at the start of a request")
    with tempfile.TemporaryDirectory() as name:
        app, waffle = _make_app(Path(name), live=True)
        plain, _ = _make_app(Path(name), live=False)
        assert waffle is not None
        config, path = app.config, waffle.state.options.watcher_file
        manager = waffle.state.engine.manager
        ns: dict[str, Any] = {"unit_ns": 1.0, "unit": "ns"}
        for label, operation in (
            ("plain app.config['SITENAME']", lambda: plain.config["SITENAME"]),
            ("live app.config['SITENAME']", lambda: config["SITENAME"]),
            ("os.lstat of the watch file (the floor of the check)", lambda: os.lstat(path)),
            ("check at request start, nothing changed", manager.begin_request),
        ):
            show(label, samples_ns(operation, rounds=200, repeat=2_000), **ns)
        with app.test_request_context():
            waffle.conf["SITENAME"]
            operation = lambda: waffle.conf["SITENAME"]  # noqa: E731
            show(
                "waffle.conf['SITENAME'] in a request",
                samples_ns(operation, rounds=200, repeat=500),
                **ns,
            )
        # In turns, so that a drift of the machine hits both alike.
        clients = {"plain": plain.test_client(), "live": app.test_client()}
        rounds: dict[str, list[float]] = {"plain": [], "live": []}
        for _ in range(60):
            for kind, client in clients.items():
                rounds[kind] += samples_ns(lambda: client.get("/").close(), rounds=1, repeat=30)  # noqa: B023
        medians = {
            kind: show(
                f"whole request through the test client, {kind}",
                rounds[kind],
                unit_ns=1_000.0,
                unit="µs",
            )
            for kind in clients
        }
        print(f"  requests per second, live to plain: {medians['plain'] / medians['live']:.3f}")
