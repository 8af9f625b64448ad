"""Two uWSGI instances as on two hosts: how a change travels between them, what a store weighs."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from integration.support.postgres_server import PostgresServer

from .contenders import BY_NAME
from .record import Record
from .reports import Reports
from .servers import Site, ask, redis_server, site

WORKERS = 2
MIB = 1024 * 1024


def run(record: Record) -> None:
    """Measure propagation between two instances, and the memory of a worker for each store."""
    print("\nTwo uWSGI instances with a folder each, one PostgreSQL and one Redis between them")
    with tempfile.TemporaryDirectory() as name, postgres() as server:
        root = Path(name)
        with redis_server(root) as port:
            _measure_travel(record, root, port, server.url("postgresql+psycopg"))
            _measure_memory(record, root, port, server)


def _measure_travel(record: Record, root: Path, port: int, store_url: str) -> None:
    reports = Reports(root / "reports")
    common = {"FLASK_WAFFLE_STORE_URL": store_url}
    contender = BY_NAME["waffle-redis"]
    with (
        site(contender, root / "one", workers=WORKERS, redis_port=port, **common) as one,
        site(
            contender,
            root / "two",
            workers=WORKERS,
            redis_port=port,
            BENCH_REPORTS=str(root / "reports"),
            **common,
        ),
    ):
        samples: list[float] = []
        warm_up = 5
        for number in range(1, warm_up + record.rounds(200, 5) + 1):
            began = ask(one.port, number)
            seen = reports.of(number, receivers=WORKERS)
            if number > warm_up:
                samples += [at - began for at in seen]
    reports.close()
    record.samples("update() to applied on the other host", "waffle-redis", samples, unit="ms")


def _measure_memory(record: Record, root: Path, port: int, server: PostgresServer) -> None:
    url = server.url("postgresql")
    stores = {
        "SQLite": {},
        "SQLAlchemy": {"FLASK_WAFFLE_STORE_URL": server.url("postgresql+psycopg")},
        "peewee": {"BENCH_PEEWEE": url},
        "Redis": {"FLASK_WAFFLE_STORE_URL": f"redis://127.0.0.1:{port}/0"},
    }
    plain = BY_NAME["flask"]
    with site(plain, root / "plain", workers=WORKERS, redis_port=port) as running:
        bare_mib = _memory_mib(running)
    for store, env in stores.items():
        folder = root / f"store-{store}"
        with site(
            BY_NAME["waffle-file"], folder, workers=WORKERS, redis_port=port, **env
        ) as running:
            more_mib = _memory_mib(running) - bare_mib
        record.value("memory more than plain Flask", f"{store} store", more_mib, unit="MiB")


def _memory_mib(running: Site) -> float:
    # Private memory: what is shared with the master is paid for once.
    return (
        statistics.median(psutil.Process(pid).memory_full_info().uss for pid in running.pids) / MIB
    )


@contextlib.contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL of this benchmark's own."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.release()
