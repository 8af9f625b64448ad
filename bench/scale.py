"""A thousand watchers, each as on a host of its own, on one Redis and one PostgreSQL."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flask import Flask

from integration.support.postgres_server import PostgresServer
from integration.support.processes import clean_environment
from uwsgi_waffle import WaffleConf

from .crowd import CONFS, READY
from .reports import Reports
from .servers import redis_server, spawned
from .timing import show

CROWDS = (10, 100, 1000)
MEMBERS_PER_PROCESS = 100
ROUNDS = 15
CHANNEL = "bench-crowd"


def run() -> None:
    """Print propagation and store reads per change, with and without rows in the message."""
    print("\nWatchers on one Redis and one PostgreSQL, each with a watch file of its own")
    with tempfile.TemporaryDirectory() as name, _postgres() as store_url:
        for crowd in CROWDS:
            for rows in (False, True):
                folder = Path(name) / f"{crowd}-{rows}"
                folder.mkdir()
                with redis_server(folder) as url:
                    _measure(folder, crowd, store_url, url, rows=rows)


def _measure(folder: Path, crowd: int, store_url: str, url: str, *, rows: bool) -> None:
    app = Flask("bench", instance_path=str(folder / "writer"))
    app.config.update(
        WAFFLE_CONFS=CONFS,
        WAFFLE_WATCHTYPE="redis",
        WAFFLE_REDIS_URL=url,
        WAFFLE_REDIS_CHANNEL=CHANNEL,
        WAFFLE_REDIS_ROWS=rows,
        WAFFLE_STORE_URL=store_url,
    )
    waffle = WaffleConf(app)
    reports = Reports(folder / "reports", timeout_s=60)
    counts = folder / "counts"
    counts.mkdir()
    samples: list[float] = []
    processes = -(-crowd // MEMBERS_PER_PROCESS)
    with app.app_context(), contextlib.ExitStack() as stack:
        for number in range(processes):
            first = number * MEMBERS_PER_PROCESS
            count = min(MEMBERS_PER_PROCESS, crowd - first)
            command = [sys.executable, "-m", "bench.crowd", str(first), str(count)]
            command += [store_url, url, CHANNEL, str(folder / "reports")]
            env = clean_environment(
                PYTHONPATH=str(Path(__file__).parents[1]), BENCH_COUNTS=str(counts)
            )
            stack.enter_context(spawned(command, env, folder / f"crowd-{first}.log"))
        reports.of(READY, receivers=processes)
        base = waffle.snapshot["NUMBER"]
        for number in range(base + 1, base + 1 + ROUNDS):
            began = time.monotonic_ns()
            waffle.update({"NUMBER": number})
            samples += [at - began for at in reports.of(number, receivers=crowd)]
    reports.close()
    waffle.state.store.close()
    reads = sum(int(path.read_text()) for path in counts.iterdir())
    kind = "with rows" if rows else "without rows"
    show(f"{crowd:>5} watchers, {kind}: update() to applied", samples, unit_ns=1e6, unit="ms")
    print(f"        store reads of all watchers for each change: {reads / ROUNDS:.1f}")


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    server = PostgresServer()
    try:
        server.start()
        yield server.url("postgresql+psycopg")
    finally:
        server.release()
