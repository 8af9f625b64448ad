"""Two uWSGI instances as on two hosts: how a change travels between them, what a store weighs.

And whether a notice is lost when writers are killed.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from integration.support.killed_writers import tally
from integration.support.postgres_server import PostgresServer
from uwsgi_waffle.notifiers.postgresql import PostgresqlNotifier
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.process.manager import NOTICE_PAUSE_S
from uwsgi_waffle.stores import Channel, Store
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore

from .contenders import BY_NAME, ON_POSTGRESQL, Contender
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
            for contender in (BY_NAME["waffle-redis"], ON_POSTGRESQL):
                _measure_travel(record, root / contender.name, port, server, contender)
            _measure_memory(record, root, port, server)
            _count_lost(record, port, server)


def _measure_travel(
    record: Record, root: Path, port: int, server: PostgresServer, contender: Contender
) -> None:
    root.mkdir()
    reports = Reports(root / "reports")
    with (
        server.database() as database,
        contextlib.ExitStack() as stack,
    ):
        common = {"FLASK_WAFFLE_STORE_URL": server.url("postgresql+psycopg", database)}
        one = stack.enter_context(
            site(contender, root / "one", workers=WORKERS, redis_port=port, **common)
        )
        stack.enter_context(
            site(
                contender,
                root / "two",
                workers=WORKERS,
                redis_port=port,
                BENCH_REPORTS=str(root / "reports"),
                **common,
            )
        )
        served: list[float] = []
        applied: list[float] = []
        warm_up, order = 5, random.Random(1)
        for number in range(1, warm_up + record.rounds(200, 5) + 1):
            # Of notices that come sooner, a process makes one read.
            time.sleep(NOTICE_PAUSE_S + order.uniform(0.0, 0.05))
            began = ask(one.port, number)
            seen = reports.of(number, receivers=WORKERS)
            if number > warm_up:
                # The ear marks the page before it applies: each request sees it from then on.
                served.append(seen[0] - began)
                applied.append(seen[-1] - began)
    reports.close()
    who = contender.name
    record.samples("update() to served on the other host", who, served, unit="ms")
    record.samples("update() to applied by all of the other host", who, applied, unit="ms")


def _count_lost(record: Record, port: int, server: PostgresServer) -> None:
    changes, kills = record.rounds(10_000, 50), record.rounds(250, 5)
    print(f"\n{changes} changes by one writer after the other, {kills} of them killed within one")
    url = f"redis://127.0.0.1:{port}/0"
    with server.database() as database:
        postgresql = AlchemyWaffleStore(server.url("postgresql+psycopg", database), timeout_s=10.0)
        stores: list[tuple[Store, Channel, Callable[[], PostgresqlNotifier | RedisNotifier]]] = [
            (
                postgresql,
                Channel("postgresql", "bench"),
                lambda: PostgresqlNotifier(
                    postgresql.listen, postgresql.notify, "bench", shown="", timeout_s=10.0
                ),
            ),
            (
                RedisStore(url, prefix="lost:", timeout_s=10.0),
                Channel("redis", "bench-lost", url),
                lambda: RedisNotifier(url, "bench-lost", timeout_s=10.0),
            ),
        ]
        for store, channel, make in stores:
            store.prepare()
            store.announce_on(channel)
            notifier = make()
            found = tally(store, notifier, changes=changes, kills=kills, order=random.Random(1))
            notifier.close()
            store.close()
            who = f"{channel.kind} store"
            record.value("changes whose notices were counted", who, found.changes, unit="")
            record.value("killed writers", who, found.kills, unit="")
            record.value("changes of killed writers", who, found.unanswered, unit="")
            record.value("lost notices", who, len(found.lost), unit="")


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
def postgres(connections: int = 100) -> Iterator[PostgresServer]:
    """Run a PostgreSQL of this benchmark's own, which takes so many connections at once."""
    server = PostgresServer(connections=connections)
    try:
        server.start()
        yield server
    finally:
        server.release()
