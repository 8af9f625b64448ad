"""A thousand watchers, each as on a host of its own, on one Redis and one PostgreSQL."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .hosts import postgres
from .record import Record
from .watchers import measure

CROWDS = (10, 100, 1000)
MEMBERS_PER_PROCESS = 100
ROUNDS = 15


def run(record: Record) -> None:
    """Measure propagation and store reads per change."""
    print("\nWatchers on one Redis and one PostgreSQL, each with a watch file of its own")
    with tempfile.TemporaryDirectory() as name, postgres() as server:
        for crowd in CROWDS:
            measure(
                record,
                Path(name) / str(crowd),
                crowd,
                server.url("postgresql+psycopg"),
                "redis",
                rounds=ROUNDS,
                per_process=MEMBERS_PER_PROCESS,
                suffix=", PostgreSQL",
            )
