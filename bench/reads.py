"""What a read and the check at a request's start cost."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import redis
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.process.gate import Gate

from .contenders import contenders
from .record import Record
from .servers import redis_server
from .timing import samples_ns


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


def run(record: Record) -> None:
    """Measure reads of one value, the floors, and the check at the start of a request."""
    print("\nRead of one value, and the check at the start of a request")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        _measure_here(record, Path(name), port)
        for contender in contenders(peers=record.peers):
            if contender.peer is None or contender.baseline is None:
                continue
            # How it is told of a change makes no difference to its read.
            if contender.name == "waffleconf-redis":
                continue
            folder = Path(name) / contender.name
            folder.mkdir()
            env = {"BENCH_FOLDER": str(folder), "BENCH_REDIS_PORT": str(port)}
            contender.run("prepare", **env)
            answer = json.loads(contender.run("reads", str(record.rounds(100, 3)), **env))
            for way, samples in answer.items():
                who = contender.name if way == "config" else f"{contender.name} {way}"
                record.samples("read", who, samples, unit="ns")


def _measure_here(record: Record, folder: Path, port: int) -> None:
    app, waffle = _make_app(folder, live=True)
    plain, _ = _make_app(folder, live=False)
    assert waffle is not None
    config, bare, path = app.config, plain.config, waffle.state.options.watcher_file
    gate = Gate(_nothing, waffle.state.serving.look, "bench", clears_environ=True)
    gate.tickets = waffle.state.engine.manager.tickets
    environ: dict[str, Any] = {}
    client = redis.Redis(port=port)
    client.set("SITENAME", "Waffle")
    with app.test_request_context():
        waffle.conf["SITENAME"]
        _in_turns(
            record,
            "read",
            {
                "flask": (lambda: bare["SITENAME"], 2_000),
                "waffle": (lambda: config["SITENAME"], 2_000),
                "waffle waffle.conf": (lambda: waffle.conf["SITENAME"], 500),
                "floor os.stat": (lambda: os.stat(path), 500),
                "floor Redis GET": (lambda: client.get("SITENAME"), 10),
            },
        )
    _in_turns(
        record,
        "check",
        {
            "waffle": (lambda: gate.wsgi_app(environ, print), 2_000),
            "waffle, one that looks": (lambda: waffle.state.serving.look(environ), 500),
            "floor os.stat": (lambda: os.stat(path), 500),
        },
    )
    client.close()
    clients = {"flask": plain.test_client(), "waffle": app.test_client()}
    _in_turns(
        record,
        "request in-process",
        {
            "flask": (lambda: clients["flask"].get("/").close(), 30),
            "waffle": (lambda: clients["waffle"].get("/").close(), 30),
        },
    )


def _nothing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return ()


def _in_turns(
    record: Record, measure: str, operations: dict[str, tuple[Callable[[], object], int]]
) -> None:
    # So that a drift of the machine hits all alike.
    samples: dict[str, list[float]] = {who: [] for who in operations}
    for _ in range(record.rounds(200, 5)):
        for who, (operation, repeat) in operations.items():
            samples[who] += samples_ns(operation, rounds=1, repeat=repeat)
    for who, figures in samples.items():
        record.samples(measure, who, figures, unit="µs" if "request" in measure else "ns")
