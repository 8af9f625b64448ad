"""The SQL stores keep the contract behind a PgBouncer that pools transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import peewee
import pytest
import sqlalchemy as sa

from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing.assertions import stored

from .support.pgbouncer import Pgbouncer
from .support.postgres_server import PostgresServer
from .support.server import Server
from .support.server_contract import (
    FrozenContract,
    OnServer,
    ServerContract,
    drop_tables,
    restored_rows,
)


@pytest.fixture(scope="module")
def pgbouncer(postgres: PostgresServer) -> Iterator[Pgbouncer]:
    server = Pgbouncer(postgres.port)
    try:
        server.start()
        yield server
    finally:
        server.release()


class _Behind(OnServer):
    """A database of each test's own, behind the PgBouncer."""

    pgbouncer: Pgbouncer
    database: str

    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer, pgbouncer: Pgbouncer) -> Iterator[None]:
        self.pgbouncer = pgbouncer
        self.server = self.broken(postgres)
        with postgres.database() as self.database:
            yield
            pgbouncer.restore()

    def broken(self, postgres: PostgresServer) -> Server:
        """Return the server that the test stops or freezes."""
        return self.pgbouncer


class _Alchemy(_Behind):
    @pytest.fixture
    def store(self, _database: None) -> Iterator[AlchemyWaffleStore]:
        store = AlchemyWaffleStore(
            sa.create_engine(self.pgbouncer.url("postgresql+psycopg", self.database)),
            timeout_s=self.timeout_s,
            write_timeout_s=self.write_timeout_s,
        )
        yield store
        store.close()


class _Peewee(_Behind):
    @pytest.fixture
    def store(self, _database: None) -> Iterator[PeeweeWaffleStore]:
        make: Any = peewee.PostgresqlDatabase
        store = PeeweeWaffleStore(
            make(self.pgbouncer.url("postgresql", self.database), prefer_psycopg3=True),
            timeout_s=self.timeout_s,
            write_timeout_s=self.write_timeout_s,
        )
        yield store
        store.close()


class _Pooled(ServerContract, _Behind):
    def going_back(self, store: Store) -> contextlib.AbstractContextManager[None]:
        return restored_rows(self.pgbouncer.url("postgresql+psycopg", self.database))

    def lose(self, store: Store) -> None:
        drop_tables(self.server.url("postgresql+psycopg", self.database))

    def test_many_statements_of_many_processes_share_few_connections(self, store: Store) -> None:
        """What a driver prepares, or sets for its session, is there for another's statements."""
        store.prepare()
        for number in range(20):
            store.write({"A": str(number)})
            assert stored(store) == {"A": str(number)}
            store.history()


class TestAlchemyOnPgbouncer(_Alchemy, _Pooled):
    pass


class TestPeeweeOnPgbouncer(_Peewee, _Pooled):
    pass


class _BeforeFrozen(FrozenContract, _Behind):
    """It takes the login, as it always does, and then waits for the server."""

    def broken(self, postgres: PostgresServer) -> Server:
        return postgres


class TestAlchemyOnPgbouncerBeforeFrozenPostgres(_Alchemy, _BeforeFrozen):
    pass


class TestPeeweeOnPgbouncerBeforeFrozenPostgres(_Peewee, _BeforeFrozen):
    pass
