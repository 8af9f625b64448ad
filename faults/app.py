"""The app under fault: it serves two settings that change together, and can be harmed on demand.

``FAULTS_FOLDER`` holds what the driver harms it with: ``clock``, the nanoseconds by which the wall
clock is off, and ``die``, which kills the next process that changes something: at the instant of
:data:`INSTANTS` that it names.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, request

from uwsgi_waffle import ChangeRefused, State, Status, StoreError, WaffleConf
from uwsgi_waffle.process.announcer import Announcer
from uwsgi_waffle.process.changes import Changes
from uwsgi_waffle.process.page import PageChange

SETTINGS: dict[str, dict[str, Any]] = {
    "A": {"desc": "Always equal to B", "default": 0},
    "B": {"desc": "Always equal to A", "default": 0},
    "SITENAME": {"desc": "Harmed in the store", "default": "Default"},
}
CLOCK = "clock"
DIE = "die"
#: Where a writer dies: its change is on the page and not committed; committed, and on the page as
#: under way only; marked on the page, and not announced.
INSTANTS = ("opened", "committed", "marked")
TOOK = "X-Took-S"
#: where the environment of a request has the status at its beginning
BEFORE = "faults.status"


def make_app() -> Flask:
    """Return the app, set up by the environment."""
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s")
    logging.captureWarnings(True)
    folder = Path(os.environ["FAULTS_FOLDER"])
    _shift_clock(folder / CLOCK)
    _die_on_demand(str(folder / DIE))
    app = Flask("faults", instance_path=str(folder))
    app.config["WAFFLE_CONFS"] = SETTINGS
    app.config.update(json.loads(os.environ["FAULTS_CONFIG"]))
    waffle = WaffleConf(app)
    # Outside of the extension's own layer, so that its work is measured too.
    app.wsgi_app = _Observed(app.wsgi_app, waffle)  # type: ignore[method-assign]

    @app.get("/read")
    def read() -> list[int]:
        before: Status = request.environ[BEFORE]
        conf, config = waffle.conf, app.config
        a, conf_a = config["A"], conf["A"]
        pause_s = float(request.args.get("pause_s", 0))
        if pause_s:
            time.sleep(pause_s)
        values = [a, config["B"], conf_a, waffle.conf["B"]]
        after = waffle.status()
        # Of a read that failed while this request was under way, too.
        valid = before.state is after.state is State.VALID and before.failures == after.failures
        return [os.getpid(), waffle.revision, not valid, *values]

    @app.post("/update")
    def update() -> Any:
        try:
            revision = waffle.update(request.get_json(), author="faults")
        except (ChangeRefused, StoreError) as exc:
            return {"error": f"{type(exc).__name__}: {exc}", "pid": os.getpid()}, 409
        return {"revision": revision, "pid": os.getpid()}

    @app.get("/status")
    def status() -> dict[str, Any]:
        status = waffle.status()
        return {
            "pid": status.pid,
            "watcher_alive": status.watcher_alive,
            "state": status.state.value,
            "failing": status.failing,
            "revision": status.revision,
            "source": status.source,
        }

    return app


class _Observed:
    """Says in a header how long the app took to answer; keeps how the settings did before."""

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]], waffle: WaffleConf) -> None:
        self._wsgi_app = wsgi_app
        self._waffle = waffle

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        began = time.monotonic()
        environ[BEFORE] = self._waffle.status()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            took = (TOOK, f"{time.monotonic() - began:.4f}")
            return start_response(status, [*headers, took], *rest)

        return self._wsgi_app(environ, start)


def _shift_clock(path: Path) -> None:
    with path.open("rb") as file:
        offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    read = struct.Struct("<q").unpack_from
    real_time, real_time_ns = time.time, time.time_ns
    time.time = lambda: real_time() + read(offset)[0] / 1e9
    time.time_ns = lambda: real_time_ns() + int(read(offset)[0])


def _die_on_demand(path: str) -> None:
    def dies(at: str, own: type, name: str, *, after: bool = False) -> None:
        inner = getattr(own, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not after:
                _die(path, at)
            result = inner(*args, **kwargs)
            if after:
                _die(path, at)
            return result

        setattr(own, name, call)

    dies("opened", PageChange, "open", after=True)
    dies("committed", Changes, "_written", after=True)
    dies("marked", Announcer, "announce")


def _die(path: str, at: str) -> None:
    try:
        if Path(path).read_text() == at:
            # Only one process succeeds, so only one dies.
            os.unlink(path)
            os.kill(os.getpid(), signal.SIGKILL)
    except FileNotFoundError:
        pass
