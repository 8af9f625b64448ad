"""The app that the tests serve: it reports how its settings are doing, and changes them.

``SITE_INSTANCE`` is its instance folder, ``SITE_CONFIG`` its configuration as JSON. Every change
that a process applies is appended to ``applied.jsonl`` there, so that a test can watch a worker
without a request.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import threading
import time
from typing import Any, NamedTuple

from flask import Flask, request, stream_with_context

from uwsgi_waffle import ChangeRefused, Laggards, Store, StoreError, WaffleConf, setting_changed
from uwsgi_waffle.app_state import state_of

SETTINGS: dict[str, dict[str, Any]] = {
    "A": {"desc": "Always equal to B", "default": 0},
    "B": {"desc": "Always equal to A", "default": 0},
    "SITENAME": {"desc": "Name of the site", "default": "Default"},
}


class Site(NamedTuple):
    """An app with its extension."""

    app: Flask
    waffle: WaffleConf


def make_site(name: str) -> Site:
    """Return a new site, set up by the environment."""
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    app = Flask(name, instance_path=os.environ["SITE_INSTANCE"])
    app.config["WAFFLE_CONFS"] = SETTINGS
    app.config.update(json.loads(os.environ.get("SITE_CONFIG", "{}")))
    waffle = WaffleConf(app, _configstore(app))
    # In the app: the signal holds its receivers weakly.
    app.extensions["recorder"] = recorder = _Recorder(name, app.instance_path)
    setting_changed.connect(recorder.record, app)

    app.register_blueprint(waffle.health_blueprint())

    @app.get("/")
    def report() -> dict[str, Any]:
        return make_report(app, waffle)

    @app.get("/read")
    def read() -> list[Any]:
        """Return revision and both pairs of values, read as far apart as ``pause_s`` asks."""
        conf, config = waffle.conf, app.config
        a, conf_a = config["A"], conf["A"]
        pause_s = float(request.args.get("pause_s", 0))
        if pause_s:
            time.sleep(pause_s)
        return [waffle.revision, a, config["B"], conf_a, waffle.conf["B"]]

    @app.get("/fail")
    def fail() -> Any:
        raise RuntimeError("as the test asked")

    @app.get("/stream")
    def stream() -> Any:
        """Send lines without an end, until nobody takes them."""
        return stream_with_context(itertools.repeat("a line\n" * 1000))

    @app.post("/update")
    def update() -> Any:
        began = time.monotonic()
        try:
            revision = waffle.update(request.get_json(), author="test")
        except (ChangeRefused, StoreError) as exc:
            return {"error": f"{type(exc).__name__}: {exc}"}, 409
        return {"revision": revision, "took_s": time.monotonic() - began, "pid": os.getpid()}

    @app.post("/wait")
    def wait() -> Any:
        """Change settings, if some are given, and wait until every process serves them."""
        asked = request.get_json()
        values, more = asked.pop("values", {}), asked
        revision = waffle.update(values, author="test") if values else more.pop("revision")
        began = time.monotonic()
        served, laggards = 0, []
        try:
            served = state_of(app).wait(revision, **more).served
        except Laggards as exc:
            served, laggards = exc.served, [each._asdict() for each in exc.laggards]
        took_s = time.monotonic() - began
        return {"revision": revision, "took_s": took_s, "served": served, "laggards": laggards}

    return Site(app, waffle)


def _configstore(app: Flask) -> Store | None:
    """Return the store of its own that ``SITE_PEEWEE`` asks for: a URL of PostgreSQL."""
    url = app.config.get("SITE_PEEWEE")
    if url is None:
        return None
    import peewee

    from uwsgi_waffle.stores.peewee import PeeweeWaffleStore

    database: Any = peewee.PostgresqlDatabase
    return PeeweeWaffleStore(database(url))


def make_report(app: Flask, waffle: WaffleConf) -> dict[str, Any]:
    """Return all that a test asks of one worker."""
    with app.app_context():
        # Times as text: a mule writes the report as plain JSON.
        status = json.loads(json.dumps(dataclasses.asdict(waffle.status()), default=str))
        return {
            "app": app.name,
            "pid": os.getpid(),
            "worker_id": status["worker_id"],
            "revision": waffle.revision,
            "config": {name: app.config[name] for name in SETTINGS},
            "conf": dict(waffle.conf),
            "watchers": live_watchers(),
            "status": status,
        }


def live_watchers() -> int:
    """Return how many watcher threads this process has; those of an interpreter of its own."""
    return sum(thread.name == "uwsgi_waffle" for thread in threading.enumerate())


class _Recorder:
    def __init__(self, name: str, folder: str) -> None:
        self._name = name
        self._path = os.path.join(folder, "applied.jsonl")

    def record(self, app: Flask, *, name: str, new: Any, revision: int, **_: Any) -> None:
        line = {
            "app": self._name,
            "pid": os.getpid(),
            "revision": revision,
            "name": name,
            "new": new,
            "at": time.time(),
        }
        # One write of one short line to a file opened for appending is not torn.
        with open(self._path, "a") as applied:
            applied.write(json.dumps(line) + "\n")
