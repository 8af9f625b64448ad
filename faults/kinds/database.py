"""The store locked, gone, read-only, emptied, or holding what can't be read."""

from __future__ import annotations

import json
import time

import msgspec

from ..bounds import FAR_S, WRITE_S
from ..databases import PostgresDatabase
from ..injection import Steps, fault
from ..record import Failure, Restored
from ..world import World

POISONS = (
    "",
    "{oops",
    "12",
    "null",
    "NaN",
    "1e999",
    '"\\ud800"',
    "[" * 100_000,
    '"' + "x" * 1_000_000 + '"',
)
# Whose connection is cut within COMMIT can't know whether it was made.
CUT: tuple[Failure, ...] = ("refused", "ambiguous")
SOUND = '"Default"'
#: changes that are lost when the store goes back, at least
LOST = 10
# Of SQLite, whose columns hold anything: no UTF-8, bytes, a number.
UNDECODABLE = ("CAST(x'22fffe22' AS TEXT)", "x'22fffe22'", "12", "1.5", "CAST(x'0022' AS TEXT)")


@fault(stale="store", explains=("refused",), hold_s=8.0, stores=("postgres",))
def database_locked(world: World) -> Steps:
    """Lock it for 8 s, for readers too."""
    with world.database.locked(), world.refusing():
        yield


# SQLite's readers wait for no writer, so that nothing at all may be stale.
@fault(explains=("refused",), hold_s=8.0, stores=("sqlite",), short=True)
def database_written_for_long(world: World) -> Steps:
    """Lock it for 8 s, as another program's long change does."""
    with world.database.locked(), world.refusing():
        yield


@fault(stale="store", explains=CUT, hold_s=4.0, stores=("sqlite", "postgres", "notify"))
def database_killed(world: World) -> Steps:
    """Kill -9 it, or take its file away; bring it back later."""
    with world.database.killed(), world.refusing():
        yield


@fault(stale="store", explains=CUT, hold_s=1.0, stores=("postgres", "notify"))
def database_restarted(world: World) -> Steps:
    """Restart it at once, twice."""
    assert isinstance(world.database, PostgresDatabase)
    for _ in range(2):
        world.database.restart()
    yield


# Longer than any change may take.
@fault(stale="store", explains=CUT, hold_s=1.5 * WRITE_S, stores=("postgres", "notify"))
def database_stopped(world: World) -> Steps:
    """SIGSTOP all its processes, SIGCONT them later."""
    assert isinstance(world.database, PostgresDatabase)
    with world.database.frozen(), world.refusing():
        yield


@fault(explains=("refused",))
def database_read_only(world: World) -> Steps:
    """Let nobody write to it; what is there can be read."""
    with world.database.read_only():
        if world.store == "sqlite":
            # SQLite goes on writing to a file that a process has open already.
            world.replace_workers(lambda: world.one.uwsgi.command("c"))
        with world.refusing():
            yield


@fault(stale="store", explains=("refused",))
def tables_dropped(world: World) -> Steps:
    """Drop its tables, bring them back from a dump later."""
    with world.database.dropped(), world.refusing():
        yield


@fault(hold_s=1.0, short=True)
def store_goes_back(world: World) -> Steps:
    """Put a backup back under running workers: what was changed since it was made is gone."""
    database = world.database
    # A change between the two would be taken for one that the backup has.
    with world.load.no_writers():
        database.back_up()
        kept = database.revision()
    world.until("changes since then", lambda: database.revision() >= kept + LOST)
    with world.load.no_writers():
        gone = [row for row in database.committed() if row.revision > kept]
        begin = time.monotonic()
        database.put_back()
        restored = Restored(begin, time.monotonic(), kept)
        world.restored += 1
        for row in gone:
            world.recorder.add(msgspec.structs.replace(row, gone=world.restored))
        world.recorder.add(restored)
        lost = {json.loads(row.raw) for row in gone if row.name == "A" and row.raw is not None}
        # In one run nobody changes anything until all have found it by themselves, in another
        # the very next change comes at once.
        if world.random.random() < 0.5:
            world.await_reads(
                "every worker at the backup",
                lambda read: lost.isdisjoint(read.values),
                limit_s=FAR_S,
            )
    yield


@fault(hold_s=1.0, short=True)
def row_poisoned(world: World) -> Steps:
    """Store what no declaration admits, beside the settings that are looked at."""
    for raw in POISONS:
        world.database.poison(raw)
        time.sleep(0.2)
    yield
    world.database.poison(SOUND)


@fault(hold_s=1.0, stores=("sqlite",))
def row_undecodable(world: World) -> Steps:
    """Store what is not even a text."""
    for value in UNDECODABLE:
        world.database.poison(value, as_sql=True)
        time.sleep(0.3)
    yield
    world.database.poison(SOUND)
