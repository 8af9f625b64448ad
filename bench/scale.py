"""A thousand watchers, each as on a host of its own, on one Redis and one PostgreSQL."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from integration.support.postgres_server import PostgresServer

from .record import Record
from .watchers import measure

CROWDS = (10, 100, 1000)
MEMBERS_PER_PROCESS = 100
ROUNDS = 15


def run(record: Record) -> None:
    """Measure propagation and store reads per change, with and without rows in the message."""
    print("\nWatchers on one Redis and one PostgreSQL, each with a watch file of its own")
    with tempfile.TemporaryDirectory() as name, _postgres() as store_url:
        for crowd in CROWDS:
            for mode in ("redis", "redis rows"):
                measure(
                    record,
                    Path(name) / f"{crowd}-{mode.replace(' ', '-')}",
                    crowd,
                    store_url,
                    mode,
                    rounds=ROUNDS,
                    per_process=MEMBERS_PER_PROCESS,
                    suffix=", PostgreSQL",
                )


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    server = PostgresServer()
    try:
        server.start()
        yield server.url("postgresql+psycopg")
    finally:
        server.release()
