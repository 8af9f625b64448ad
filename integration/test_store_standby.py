"""The SQL stores through a failover to an asynchronous standby of a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pytest

from uwsgi_waffle.errors import StoreUnavailable
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing.assertions import raises, read_after, stored

from .support.postgres_server import PostgresServer, PostgresStandby
from .support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

# No load of the machine is taken for an outage.
BOUNDS: Any = {"timeout_s": 15.0, "write_timeout_s": 30.0}


class Pair:
    """A primary and its standby, and the address that an app has of both."""

    def __init__(self, primary: PostgresServer, standby: PostgresStandby) -> None:
        self.primary = primary
        self.standby = standby

    def hosts(self) -> dict[str, str]:
        """Return where both are, for a driver that looks for the one that takes changes."""
        ports = f"{self.primary.port},{self.standby.port}"
        return {"host": "127.0.0.1,127.0.0.1", "port": ports, "target_session_attrs": "read-write"}

    def follows(self, revision: int) -> bool:
        """Say whether the standby has a revision."""
        if self.standby.ask("SELECT to_regclass('waffle_meta')") == [(None,)]:
            return False
        rows = self.standby.ask("SELECT revision FROM waffle_meta")
        return bool(rows) and rows[0][0] == revision

    def fail_over(self) -> None:
        """Lose the primary, and with it what the standby lacks."""
        self.primary.stop()
        self.standby.start()
        self.standby.promote()


@pytest.fixture
def pair() -> Iterator[Pair]:
    primary = PostgresServer()
    try:
        primary.start()
        standby = PostgresStandby(primary)
        try:
            standby.start()
            yield Pair(primary, standby)
        finally:
            standby.release()
    finally:
        primary.release()


def _alchemy(hosts: dict[str, str]) -> Store:
    query = "&".join(f"{name}={value}" for name, value in hosts.items())
    return AlchemyWaffleStore(f"postgresql+psycopg://waffle:s3cret@/postgres?{query}", **BOUNDS)


def _peewee(hosts: dict[str, str]) -> Store:
    make: Any = peewee.PostgresqlDatabase
    login = {"user": "waffle", "password": "s3cret", "prefer_psycopg3": True}
    return PeeweeWaffleStore(make("postgres", **hosts, **login), **BOUNDS)


Make = Callable[[dict[str, str]], Store]
MAKES = pytest.mark.parametrize("make", [_alchemy, _peewee])


@MAKES
def test_older_standby_that_is_promoted_is_read_completely(pair: Pair, make: Make) -> None:
    """Its next revisions have the numbers of those that were lost, with other content."""
    store, other = make(pair.hosts()), make(pair.hosts())
    store.prepare()
    store.write({"A": "1", "B": "1"})
    kept = store.read_since(0, "")
    eventually("followed", lambda: pair.follows(kept.revision))
    pair.standby.end()
    store.write({"A": "lost"})
    seen = store.read_since(0, "")
    store.write({"LOST": "1"})
    newest = store.read_since(0, "")

    pair.fail_over()
    # Not yet another change: every reader of what is lost notices that it is.
    for known in (seen, newest):
        assert read_after(store, known) == kept._replace(complete=True)
    assert other.write({"B": "2"}) == seen.revision
    for known in (seen, newest):
        delta = read_after(store, known)
        assert (delta.complete, delta.revision, delta.epoch) == (True, 2, seen.epoch)
        assert dict(delta.rows) == {"A": "1", "B": "2"}
    assert other.write({"C": "3"}) == newest.revision
    for known in (seen, newest):
        assert dict(read_after(store, known).rows) == {"A": "1", "B": "2", "C": "3"}
    # Who had not seen what is lost reads what is new only.
    assert dict(read_after(store, kept).rows) == {"B": "2", "C": "3"}
    store.close()
    other.close()


@MAKES
def test_failover_is_an_outage_that_ends_by_itself(pair: Pair, make: Make) -> None:
    store = make(pair.hosts())
    store.prepare()
    store.write({"A": "1"})
    known = store.read_since(0, "")
    eventually("followed", lambda: pair.follows(known.revision))
    pair.primary.stop()
    # None of both takes changes, so that the driver connects to none.
    for call in (lambda: read_after(store, known), lambda: store.write({"A": "2"}), store.prepare):
        with raises(StoreUnavailable):
            call()
    pair.standby.promote()
    assert read_after(store, known) == known._replace(rows=(), complete=False)
    assert store.write({"A": "2"}, expected_revision=known.revision) == known.revision + 1
    assert stored(store) == {"A": "2"}
    store.close()


@MAKES
def test_server_that_takes_no_changes_is_read_and_heals(pair: Pair, make: Make) -> None:
    """As the address of an app leads to a standby, or its primary was made one."""
    at_primary = make(pair.hosts())
    at_primary.prepare()
    at_primary.write({"A": "1"})
    known = at_primary.read_since(0, "")
    eventually("followed", lambda: pair.follows(known.revision))
    store = make({"host": "127.0.0.1", "port": str(pair.standby.port)})
    assert store.read_since(0, "") == known
    with raises(StoreUnavailable) as caught:
        store.write({"A": "2"})
    assert "work again when it is the primary" in str(caught[0])
    # Nothing was written, and nothing is unknown.
    assert at_primary.read_since(0, "") == known
    pair.primary.stop()
    pair.standby.promote()
    assert store.write({"A": "2"}) == known.revision + 1
    at_primary.close()
    store.close()
