"""PostgreSQL's notices: the connections that listen killed, and silent without an end."""

from __future__ import annotations

import time

from ..bounds import FAR_S
from ..databases import PostgresDatabase
from ..injection import Steps, fault
from ..world import World

NOTIFY = ("notify",)
_TURNS = 3
_PAUSE_S = 0.3
#: longer than a silent connection is believed, with the answer that is waited for
_SILENT_S = 8.0


@fault(stores=NOTIFY)
def listeners_killed(world: World) -> Steps:
    """pg_terminate_backend on each connection that listens, again and again."""
    for _ in range(_TURNS):
        _kill_listeners(world)
        committed = world.look()
        world.await_reads(
            f"every worker at {committed} after the connections that listen were killed",
            lambda read, committed=committed: read.revision >= committed,  # type: ignore[misc]
            limit_s=FAR_S,
        )
        time.sleep(_PAUSE_S)
    yield


@fault(hold_s=_SILENT_S, stores=NOTIFY)
def listener_half_open(world: World) -> Steps:
    """Let nothing through where the second host listens, until it has found that out."""
    with world.relay.silent():
        yield


def _kill_listeners(world: World) -> None:
    database = world.database
    assert isinstance(database, PostgresDatabase)
    world.until("both hosts listen", lambda: len(database.listeners()) >= len(world.hosts))
    database.kill_listeners()
