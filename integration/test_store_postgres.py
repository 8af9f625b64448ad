"""The SQL stores keep the contract on a real PostgreSQL, through restarts and standstills."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import peewee
import pytest
import sqlalchemy as sa
from playhouse.pool import PooledPostgresqlDatabase
from sqlalchemy.orm import Session

from uwsgi_waffle.errors import StoreError, StoreUnavailable
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing import in_processes
from uwsgi_waffle.testing.assertions import raises, stored

from .support.find import missing
from .support.postgres_server import PostgresServer, found_postgres, need_postgres
from .support.server_contract import (
    KeptContract,
    LockContract,
    OnServer,
    ServerContract,
    UserConfs,
    drop_tables,
    make_model,
    restored_rows,
)
from .support.stopwatch import Stopwatch
from .support.waiting import eventually


class _Database(OnServer):
    """A database of each test's own."""

    server: Any
    database: str

    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> Iterator[None]:
        self.server = postgres
        with postgres.database() as self.database:
            yield

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        # Not a crash, which says nothing: a shutdown answers a statement with an error of its own.
        self.server.end()
        try:
            yield
        finally:
            self.server.start()

    def going_back(self, store: Store) -> contextlib.AbstractContextManager[None]:
        return restored_rows(self.server.url("postgresql+psycopg", self.database))

    def lose(self, store: Store) -> None:
        drop_tables(self.server.url("postgresql+psycopg", self.database))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        engine = sa.create_engine(self.server.url("postgresql+psycopg", self.database))
        with engine.begin() as other:
            other.exec_driver_sql("UPDATE waffle_meta SET revision = revision")
            yield
        engine.dispose()


class _Alchemy(_Database):
    scheme = "postgresql+psycopg"
    #: of the user's engine
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def store(self, _database: None) -> Iterator[AlchemyWaffleStore]:
        engine = sa.create_engine(self.server.url(self.scheme, self.database), **self.options)
        store = AlchemyWaffleStore(
            engine,
            self.model(engine),
            timeout_s=self.timeout_s,
            write_timeout_s=self.write_timeout_s,
        )
        # What made the model is not counted among the store's connections.
        engine.dispose()
        yield store
        store.close()
        engine.dispose()

    def model(self, engine: sa.Engine) -> Any:
        return None


class _Peewee(_Database):
    kind: type[peewee.PostgresqlDatabase] = peewee.PostgresqlDatabase
    # Else it takes psycopg2, if that is installed.
    psycopg3 = True

    @pytest.fixture
    def store(self, _database: None) -> Iterator[PeeweeWaffleStore]:
        make: Any = self.kind
        db = make(self.server.url("postgresql", self.database), prefer_psycopg3=self.psycopg3)
        store = PeeweeWaffleStore(
            db,
            self.model(),
            timeout_s=self.timeout_s,
            write_timeout_s=self.write_timeout_s,
        )
        yield store
        store.close()

    def model(self) -> Any:
        return None


class _Contract(KeptContract, ServerContract, _Database):
    def test_one_refresh_is_one_statement(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1", "B": "2"})
        known = store.read_since(0, "")
        revision, epoch, mark = known.revision, known.epoch, known.mark
        asked = ((0, "", ""), (revision, epoch, mark), (revision, "another", mark))
        with self._statements() as seen:
            for each in asked * 2:
                store.read_since(*each)
        # As the server saw them: neither a ping nor a BEGIN stands beside them.
        assert len(seen) == 6, seen
        assert all(statement.lstrip(" (\n").startswith("SELECT") for statement in seen)

    def test_child_has_a_connection_of_its_own(self, store: Store) -> None:
        store.prepare()
        store.read_since(0, "")
        # The server takes its time to end those that were closed.
        eventually("one connection", lambda: len(self.connections()) == 1)
        before = self.connections()

        def run(number: int) -> list[int]:
            store.read_since(0, "")
            found = self.connections()
            store.close()
            return sorted(found)

        (seen,) = in_processes(1, run)
        assert len(seen) == 2
        assert before < set(seen)
        # What the child did, and its end, left the parent's connection alone.
        with self._statements() as statements:
            store.read_since(0, "")
        assert len(statements) == 1
        eventually("one connection", lambda: self.connections() == before)
        store.close()
        eventually("closed", lambda: self.connections() == set())

    def test_database_without_the_right_to_make_tables(self, store: Store) -> None:
        self.server.ask("ALTER SCHEMA public RENAME TO aside", self.database)
        with pytest.raises(StoreError, match="tables"):
            store.prepare()

    def connections(self) -> set[int]:
        rows = self.server.ask(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.database}'"
        )
        return {row[0] for row in rows}

    def kill(self, number: int) -> None:
        self.server.ask(f"SELECT pg_terminate_backend({number}, 60000)")

    @contextlib.contextmanager
    def _statements(self) -> Iterator[list[str]]:
        """Give the list of what the server is asked within the context, filled at its end."""
        log = self.server.log_path
        start = log.stat().st_size
        seen: list[str] = []
        yield seen
        for line in log.read_bytes()[start:].decode().splitlines():
            _, found, statement = line.partition(f"@{self.database} LOG:  ")
            kind, _, statement = statement.partition(": ")
            if found and kind.startswith(("statement", "execute")):
                seen.append(statement)


class _Listened(_Alchemy):
    def test_what_a_listener_of_the_user_sets_holds_even_if_it_leaves_a_transaction_open(
        self, store: AlchemyWaffleStore
    ) -> None:
        engine = store._engine
        assert engine is not None
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA theirs")
        sa.event.listen(engine, "connect", _use_their_schema)
        store.prepare()
        assert store.write({"A": "1"}) == 1
        assert stored(store) == {"A": "1"}
        assert self._schemas() == [("theirs",)]
        listening = store.listen()
        listening.listen("theirs")
        store.notify("theirs", "heard")
        eventually("heard", lambda: ("theirs", "heard") in listening.take())
        listening.close()

    def _schemas(self) -> list[tuple[Any, ...]]:
        query = "SELECT schemaname FROM pg_tables WHERE tablename = 'waffle_meta'"
        return list(self.server.ask(query, self.database))


def _use_their_schema(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO theirs")


@pytest.mark.short
class TestAlchemyOnPostgres(_Listened, _Contract):
    def test_open_session_of_the_user_is_left_alone(self, store: AlchemyWaffleStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        engine = store._engine
        assert engine is not None
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE theirs (id INTEGER)")
        with Session(engine) as session:
            session.execute(sa.text("INSERT INTO theirs VALUES (1)"))
            assert session.scalar(sa.text("SELECT revision FROM waffle_meta")) == 1
            assert store.write({"A": "2"}) == 2
            assert stored(store) == {"A": "2"}
            assert session.in_transaction()
            session.rollback()
            assert session.scalar(sa.text("SELECT count(*) FROM theirs")) == 0
        # The only connection of the user's pool was the user's.
        assert engine.pool.status().count("Connections in pool: 1") == 1


class TestAlchemyOnPostgresSerializable(_Alchemy, _Contract):
    options: ClassVar = {"isolation_level": "SERIALIZABLE"}


class TestAlchemyModelOnPostgres(_Alchemy, _Contract):
    options: ClassVar = {"isolation_level": "REPEATABLE READ"}

    def model(self, engine: sa.Engine) -> Any:
        return make_model(engine)


@pytest.mark.short
class TestPeeweeOnPostgres(_Peewee, _Contract):
    pass


class TestPeeweeModelOnPostgres(_Peewee, _Contract):
    kind = PooledPostgresqlDatabase

    def model(self) -> Any:
        engine = sa.create_engine(self.server.url("postgresql+psycopg", self.database))
        make_model(engine)
        engine.dispose()
        return UserConfs


class _ByCommand(_Database):
    """The app's user may create nothing: another made the tables, as `create-tables` does."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> Iterator[None]:
        with postgres.database() as self.database:
            owner = AlchemyWaffleStore(
                postgres.url("postgresql+psycopg", self.database), write_timeout_s=30.0
            )
            owner.create_tables()
            owner.close()
            self.server = _AsUser(postgres, f"user_of_{self.database}")
            for statement in (
                f"CREATE ROLE {self.server.user} LOGIN",
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public "
                f"TO {self.server.user}",
            ):
                postgres.ask(statement, self.database)
            try:
                yield
            finally:
                postgres.restore()
                postgres.ask(f"DROP OWNED BY {self.server.user}", self.database)
                postgres.ask(f"DROP ROLE {self.server.user}")


class _AsUser:
    """A server of whose databases another user's URL is given."""

    def __init__(self, server: PostgresServer, user: str) -> None:
        self._server = server
        self.user = user

    def url(self, scheme: str, database: str) -> str:
        return self._server.url(scheme, database).replace("waffle:", f"{self.user}:", 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class _ByCommandContract(_ByCommand, ServerContract):
    # Whose user can make no table has a store that another made: it is never missing before, and
    # prepare() does not bring it back.
    test_store_that_was_never_made_is_missing_and_is_not_made_by_reading = None  # type: ignore[assignment]  # not of these
    test_store_whose_data_is_lost_is_missing_until_it_is_prepared = None  # type: ignore[assignment]  # nor this


class TestAlchemyWithTablesByCommand(_ByCommandContract, _Alchemy):
    pass


class TestPeeweeWithTablesByCommand(_ByCommandContract, _Peewee):
    pass


class _Psycopg2(_Database):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> Iterator[None]:
        if importlib.util.find_spec("psycopg2") is None:
            pytest.skip("psycopg2 is not installed")
        self.server = postgres
        with postgres.database() as self.database:
            yield


class TestAlchemyOnPsycopg2(_Psycopg2, _Listened, _Contract):
    scheme = "postgresql+psycopg2"


class TestPeeweeOnPsycopg2(_Psycopg2, _Peewee, _Contract):
    psycopg3 = False


class _Frozen(_Database, LockContract):
    pass


class TestAlchemyOnFrozenPostgres(_Alchemy, _Frozen):
    # The user's own sessions ask before each use; ours would ask what stands still.
    options: ClassVar = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 0}

    def test_threads_that_wait_for_a_server_use_up_no_pool(self, store: AlchemyWaffleStore) -> None:
        """The user's would let the second wait for 30 s."""
        store.prepare()
        with self.frozen(), Stopwatch() as watch:
            threads = [threading.Thread(target=self._fail, args=(store,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        watch.assert_within(self.timeout_s)

    def _fail(self, store: AlchemyWaffleStore) -> None:
        with raises(StoreUnavailable):
            store.history()


class TestPeeweeOnFrozenPostgres(_Peewee, _Frozen):
    pass


class TestAlchemyOnFrozenPsycopg2(_Psycopg2, _Alchemy, _Frozen):
    scheme = "postgresql+psycopg2"


class TestPeeweeOnFrozenPsycopg2(_Psycopg2, _Peewee, _Frozen):
    psycopg3 = False


class _Vanished(_Database):
    """The peer of the kept connection is gone without a word, as behind a firewall."""

    write_timeout_s = 16.0

    def test_change_is_made_on_another_connection(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        (backend,) = self.server.ask(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.database}'"
        )[0]
        os.kill(backend, signal.SIGSTOP)
        try:
            assert store.write({"A": "2"}) == 2
        finally:
            os.kill(backend, signal.SIGCONT)


class TestAlchemyOnVanishedPostgres(_Alchemy, _Vanished):
    pass


class TestPeeweeOnVanishedPostgres(_Peewee, _Vanished):
    pass


@pytest.fixture(scope="module")
def other_postgres() -> Iterator[PostgresServer]:
    """Another PostgreSQL of this machine than all other tests run on."""
    others = [folder for folder in found_postgres() if folder != need_postgres()]
    if not others:
        missing("a second PostgreSQL")
    server = PostgresServer(others[0])
    try:
        server.start()
        yield server
    finally:
        server.release()


class _Other(ServerContract, _Database):
    @pytest.fixture
    def postgres(self, other_postgres: PostgresServer) -> PostgresServer:
        return other_postgres


class TestAlchemyOnOtherPostgres(_Alchemy, _Other):
    pass


class TestPeeweeOnOtherPostgres(_Peewee, _Other):
    pass
