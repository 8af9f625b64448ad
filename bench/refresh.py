"""A refresh with many settings: queries and time."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from unittest import mock

from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.stores.sqlite import SqliteStore

from .timing import samples_ns, show

SIZES = (10, 1_000, 10_000)


def _make_waffle(folder: Path, size: int) -> WaffleConf:
    app = Flask("bench", instance_path=str(folder))
    app.config["WAFFLE_CONFS"] = {
        f"SETTING_{number}": {"desc": "one of many", "default": 0} for number in range(size)
    }
    waffle = WaffleConf(app)
    waffle.update(dict.fromkeys(app.config["WAFFLE_CONFS"], 1))
    return waffle


def run() -> None:
    """Print the time of refreshes after 1 change, and of complete ones, and their queries."""
    print("\nRefresh of one process (SQLite on disk)")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            waffle = _make_waffle(Path(name), size)
            manager = waffle.state.engine.manager
            writer = SqliteStore(waffle.state.options.watcher_file.parent / "waffle.db")
            samples = []
            for number in range(100):
                writer.write({"SETTING_5": str(number + 2)})
                samples += samples_ns(manager.refresh, rounds=1)
            show(f"{size:>6} settings, 1 changed", samples, unit_ns=1e6, unit="ms")
            complete = samples_ns(lambda: manager.refresh(complete=True), rounds=20)  # noqa: B023
            show(f"{size:>6} settings, complete re-read", complete, unit_ns=1e6, unit="ms")
            print(f"         queries in such a refresh: {_count_queries(waffle)}")
            waffle.state.store.close()


def _count_queries(waffle: WaffleConf) -> int:
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
