"""How many connections to the channel's server a host with many workers has."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis

from integration.support.postgres_server import IS_LISTENING

from .contenders import ON_POSTGRESQL, contenders
from .hosts import postgres
from .record import Record
from .servers import ask, redis_server, site

WORKERS = 64
#: so many of them then make a change
WRITERS = 4
_STEADY_S = 3.0
_MOST_S = 60.0


def run(record: Record) -> None:
    """Count what one uWSGI of many workers has, at rest and after changes by some of them."""
    workers = record.rounds(WORKERS, 8)
    print(f"\nConnections of one host of {workers} workers; then {WRITERS} of them make a change")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        root = Path(name)
        client = redis.Redis(port=port)

        def at_redis() -> tuple[int, int]:
            own = client.client_id()
            others = [each for each in client.client_list() if int(each["id"]) != own]
            return len(others), sum(int(each["sub"]) > 0 for each in others)

        for one in contenders(peers=record.peers):
            if one.kind in ("redis", "cachingredis"):
                with site(one, root / one.name, workers=workers, redis_port=port) as running:
                    _count(record, one.name, workers, running.ports, at_redis)
        client.close()
        with postgres() as server, server.database() as database:

            def at_postgresql() -> tuple[int, int]:
                ((count, listening),) = server.ask(
                    f"SELECT count(*), count(*) FILTER (WHERE {IS_LISTENING}) "
                    f"FROM pg_stat_activity WHERE datname = '{database}'"
                )
                return count, listening

            url = server.url("postgresql+psycopg", database)
            who = ON_POSTGRESQL
            folder, env = root / who.name, {"FLASK_WAFFLE_STORE_URL": url}
            with site(who, folder, workers=workers, redis_port=port, **env) as running:
                _count(record, who.name, workers, running.ports, at_postgresql)


def _count(
    record: Record,
    who: str,
    workers: int,
    ports: list[int],
    counted: Callable[[], tuple[int, int]],
) -> None:
    """Record how many connections there are, and how many of these listen."""
    at_rest, listening = _steady(counted)
    for number, port in enumerate(ports[:WRITERS], 1):
        ask(port, number)
    for port in ports:
        ask(port)
    after, _ = _steady(counted)
    record.value("connections, at rest", who, at_rest, unit="connections", at=workers)
    record.value("connections that listen", who, listening, unit="connections", at=workers)
    record.value("connections, after changes", who, after, unit="connections", at=workers)


def _steady(counted: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """Return the numbers once they have stood for some seconds."""
    began = since = time.monotonic()
    seen = counted()
    while time.monotonic() - since < _STEADY_S:
        time.sleep(0.1)
        if (now := counted()) != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - began > _MOST_S:
            raise RuntimeError(f"the number of connections does not stand: {seen}")
    return seen
