"""Every store keeps the contract on real servers, through restarts and standstills."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from uwsgi_waffle.errors import StoreUnavailable
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing import StoreContract, raises

from .support.postgres_server import PostgresServer

_numbers = itertools.count()


class ServerContract(StoreContract):
    """What a store in another process must do besides."""

    #: the server that the store of this test is in
    server: Any
    timeout_s = 1.0

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    def test_server_that_stands_still_is_reported_within_the_bound(self, store: Store) -> None:
        store.prepare()
        revision = store.write({"A": "1"})
        epoch = store.read_since(0, "").epoch
        self.server.freeze()
        try:
            # On the connection that is open, then on a new one, which takes longer to give up.
            for bound_s in (self.timeout_s + 0.5, self.bound_s):
                began = time.monotonic()
                with raises(StoreUnavailable):
                    store.read_since(revision, epoch)
                assert time.monotonic() - began < bound_s
            began = time.monotonic()
            with raises(StoreUnavailable):
                store.history()
            assert time.monotonic() - began < self.bound_s
        finally:
            self.server.thaw()
        assert store.read_since(revision, epoch).revision == revision
        assert store.write({"A": "2"}) == revision + 1

    def test_writer_gives_up_within_its_bound_on_a_server_that_stands_still(
        self, store: Store
    ) -> None:
        store.prepare()
        store.write({"A": "1"})
        self.server.freeze()
        try:
            began = time.monotonic()
            with raises(StoreUnavailable):
                store.write({"A": "2"})
            assert time.monotonic() - began < self.bound_s + 1
        finally:
            self.server.thaw()


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.release()


class _Postgres(ServerContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> None:
        self.server = postgres
        self.database = f"waffle_{next(_numbers)}"
        engine = sa.create_engine(postgres.url("postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {self.database} TEMPLATE template0")
        engine.dispose()


class TestAlchemyOnPostgres(_Postgres):
    isolation: str | None = None

    @pytest.fixture
    def store(self, _database: None) -> Iterator[AlchemyWaffleStore]:
        url = self.server.url("postgresql+psycopg", self.database)
        options = {} if self.isolation is None else {"isolation_level": self.isolation}
        engine = sa.create_engine(url, **options)
        store = AlchemyWaffleStore(
            engine, self.model(engine), timeout_s=self.timeout_s, write_timeout_s=3.0
        )
        yield store
        store.close()
        engine.dispose()

    def model(self, engine: sa.Engine) -> Any:
        return None


class TestAlchemyOnPostgresSerializable(TestAlchemyOnPostgres):
    isolation = "SERIALIZABLE"


class TestAlchemyModelOnPostgres(TestAlchemyOnPostgres):
    isolation = "REPEATABLE READ"

    def model(self, engine: sa.Engine) -> Any:
        return make_model(engine)


def make_model(engine: sa.Engine, **key_options: Any) -> sa.Table:
    """Make the table of a user's own model, with quoting to do."""
    metadata = sa.MetaData()
    table = sa.Table(
        "User Confs",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(255, **key_options), unique=True, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
    )
    metadata.create_all(engine)
    return table
