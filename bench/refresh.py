"""A refresh with many settings: statements and time."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from unittest import mock

from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.stores.sqlite import SqliteStore

from .contenders import contenders
from .record import Record
from .servers import redis_server
from .timing import samples_ns

SIZES = (10, 1_000, 10_000)


def run(record: Record) -> None:
    """Measure refreshes after one change, and of everything, and their statements."""
    print("\nRefresh of one process (SQLite on disk)")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            _measure_here(record, Path(name), size)
    peers = [one for one in contenders(peers=record.peers) if one.peer and one.baseline]
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        for contender in peers:
            # How it is told of a change makes no difference to what it reads then.
            if contender.name == "waffleconf-redis":
                continue
            for size in SIZES:
                folder = Path(name) / f"{contender.name}-{size}"
                folder.mkdir()
                env = {"BENCH_FOLDER": str(folder), "BENCH_REDIS_PORT": str(port)}
                contender.run("prepare", **env)
                # It takes seconds where each setting is a statement of its own.
                rounds = str(record.rounds(20 if size < 10_000 else 5, 1))
                answer = json.loads(contender.run("refresh", str(size), rounds, **env))
                record.samples("refresh all", contender.name, answer["ns"], unit="ms", at=size)
                if answer["queries"] is not None:
                    record.value(
                        "refresh statements", contender.name, answer["queries"], unit="", at=size
                    )


def _measure_here(record: Record, folder: Path, size: int) -> None:
    waffle = _make_waffle(folder, size)
    manager = waffle.state.engine.manager
    writer = SqliteStore(waffle.state.options.watcher_file.parent / "waffle.db")
    samples = []
    for number in range(record.rounds(100, 5)):
        writer.write({"SETTING_5": str(number + 2)})
        samples += samples_ns(manager.refresh, rounds=1)
    writer.close()
    record.samples("refresh one", "waffle", samples, unit="ms", at=size)
    complete = samples_ns(lambda: manager.refresh(complete=True), rounds=record.rounds(20, 2))
    record.samples("refresh all", "waffle", complete, unit="ms", at=size)
    record.value("refresh statements", "waffle", _count_statements(waffle), unit="", at=size)
    waffle.state.store.close()


def _make_waffle(folder: Path, size: int) -> WaffleConf:
    app = Flask("bench", instance_path=str(folder))
    app.config["WAFFLE_CONFS"] = {
        f"SETTING_{number}": {"desc": "one of many", "default": 0} for number in range(size)
    }
    waffle = WaffleConf(app)
    waffle.update(dict.fromkeys(app.config["WAFFLE_CONFS"], 1))
    return waffle


def _count_statements(waffle: WaffleConf) -> int:
    """Return how many statements a complete refresh sends on an open connection."""
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: object, **options: object) -> sqlite3.Connection:
        connection = connect(*args, **options)  # type: ignore[call-overload]  # passed through
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(statements.append)
        return connection

    waffle.state.store.close()
    with mock.patch.object(sqlite3, "connect", traced):
        waffle.refresh()
    statements.clear()
    waffle.state.engine.manager.refresh(complete=True)
    return len(statements)
