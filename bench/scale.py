"""Ten thousand workers on 1,250 hosts: one Redis for the notices, and a store of each kind.

Real are the store, Redis, the ear of each host with its subscription, its connection to the store,
its reads, its page and its answer to a barrier. Simulated are the hosts, all on this machine, whose
ears share a process by the hundred; and the other workers, which are views of their host's page:
whether a request would look is asked, but none is made.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .crowd import FOLLOWERS
from .hosts import postgres
from .record import Record
from .watchers import measure

HOSTS = (10, 100, 1250)
HOSTS_PER_PROCESS = 125
ROUNDS = 8
# What is neither an ear nor its host: the writer, and who looks.
_MORE_CONNECTIONS = 50


def run(record: Record) -> None:
    """Measure propagation, store reads and connections for a change, and the barrier."""
    print(f"\nHosts of {1 + FOLLOWERS} workers on one Redis, with the settings in either store")
    most = HOSTS[-1] + _MORE_CONNECTIONS
    with tempfile.TemporaryDirectory() as name, postgres(most) as server:
        for hosts in HOSTS[: record.rounds(len(HOSTS), 1)]:
            for store in ("PostgreSQL", "Redis"):
                measure(
                    record,
                    Path(name) / f"{hosts}-{store}",
                    hosts,
                    server.url("postgresql+psycopg") if store == "PostgreSQL" else "redis",
                    "redis",
                    rounds=record.rounds(ROUNDS, 2),
                    per_process=HOSTS_PER_PROCESS,
                    suffix=f", {store}",
                    barrier=True,
                )
