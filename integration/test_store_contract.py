"""Every store keeps the contract on real servers, through restarts and standstills."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pytest
import redis
import sqlalchemy as sa
from playhouse.pool import PooledPostgresqlDatabase
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Session

from uwsgi_waffle.errors import RevisionConflict, StoreError, StoreUnavailable
from uwsgi_waffle.notifiers.base import Notice
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.mixin import WaffleMixin
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing import in_processes
from uwsgi_waffle.testing.store_contract import StoreContract, raises, stored

from .support.postgres_server import PostgresServer
from .support.redis_server import RedisServer
from .support.waiting import eventually

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
    def _database(self, postgres: PostgresServer) -> Iterator[None]:
        self.server = postgres
        self.database = f"waffle_{next(_numbers)}"
        self._administer(f"CREATE DATABASE {self.database} TEMPLATE template0")
        yield
        # Each has hundreds of files, which would take a minute to remove together.
        self._administer(f"DROP DATABASE {self.database} WITH (FORCE)")

    def test_one_refresh_is_one_statement(self, store: Store) -> None:
        store.prepare()
        revision = store.write({"A": "1", "B": "2"})
        epoch = store.read_since(0, "").epoch
        known = ((0, ""), (revision, epoch), (revision, "another"))
        with self._statements() as seen:
            for each in known * 2:
                store.read_since(*each)
        # As the server saw them: neither a ping nor a BEGIN stands beside them.
        assert len(seen) == 6, seen
        assert all(statement.lstrip().startswith("SELECT") for statement in seen)

    def test_child_has_a_connection_of_its_own(self, store: Store) -> None:
        store.prepare()
        store.read_since(0, "")
        before = self._backends()
        assert len(before) == 1

        def run(number: int) -> list[int]:
            store.read_since(0, "")
            found = self._backends()
            store.close()
            return sorted(found)

        (seen,) = in_processes(1, run)
        assert len(seen) == 2
        assert before < set(seen)
        # What the child did, and its end, left the parent's connection alone.
        with self._statements() as statements:
            store.read_since(0, "")
        assert len(statements) == 1
        assert self._backends() == before
        store.close()
        eventually("closed", lambda: self._backends() == set())

    def test_writer_that_is_stopped_does_not_hold_others_up_for_ever(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        with self._admin(self.database) as other, other.begin():
            # Somebody else's transaction has the row of the revision.
            other.exec_driver_sql("UPDATE waffle_meta SET revision = revision")
            began = time.monotonic()
            with raises(StoreUnavailable):
                store.write({"A": "2"})
            assert 2.5 < time.monotonic() - began < 4.5
            # Reading goes on meanwhile.
            assert stored(store) == {"A": "1"}
        assert store.write({"A": "3"}) == 2

    def test_writer_gives_up_when_the_server_stands_still_within_its_change(
        self, store: Store
    ) -> None:
        """No timeout of the server's own helps then, as it helps against another's lock."""
        store.prepare()
        store.write({"A": "1"})
        freeze = threading.Timer(0.5, self.server.freeze)
        with self._admin(self.database) as other, other.begin():
            other.exec_driver_sql("UPDATE waffle_meta SET revision = revision")
            began = time.monotonic()
            freeze.start()
            try:
                with raises(StoreUnavailable):
                    store.write({"A": "2"})
                assert time.monotonic() - began < 4.5
            finally:
                freeze.join()
                self.server.thaw()
        assert store.write({"A": "3"}) == 2

    def test_database_without_the_right_to_make_tables(self, store: Store) -> None:
        with self._admin(self.database) as connection, connection.begin():
            connection.exec_driver_sql("ALTER SCHEMA public RENAME TO aside")
        with pytest.raises(StoreError, match="tables"):
            store.prepare()

    @contextlib.contextmanager
    def _admin(self, database: str = "postgres") -> Iterator[sa.Connection]:
        engine = sa.create_engine(self.server.url("postgresql+psycopg", database))
        with engine.connect() as connection:
            yield connection
        engine.dispose()

    def _backends(self) -> set[int]:
        with self._admin() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.database}'"
            )
            return {row[0] for row in rows}

    @contextlib.contextmanager
    def _statements(self) -> Iterator[list[str]]:
        """Give the list of what the server is asked by connections that are made meanwhile."""
        self._log_statements("all")
        log = self.server.log_path
        start = log.stat().st_size
        seen: list[str] = []
        yield seen
        self._log_statements("none")
        for line in log.read_text("utf-8")[start:].splitlines():
            _, found, statement = line.partition(f"@{self.database} LOG:  ")
            kind, _, statement = statement.partition(": ")
            if found and kind.startswith(("statement", "execute")):
                seen.append(statement)

    def _log_statements(self, level: str) -> None:
        self._administer(f"ALTER SYSTEM SET log_statement = '{level}'")
        self._administer("SELECT pg_reload_conf()")
        time.sleep(0.5)

    def _administer(self, statement: str) -> None:
        with self._admin() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql(statement)


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
        # What made the model is not counted among the store's connections.
        engine.dispose()
        yield store
        store.close()
        engine.dispose()

    def model(self, engine: sa.Engine) -> Any:
        return None

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


class TestAlchemyOnPostgresSerializable(TestAlchemyOnPostgres):
    isolation = "SERIALIZABLE"


class TestAlchemyModelOnPostgres(TestAlchemyOnPostgres):
    isolation = "REPEATABLE READ"

    def model(self, engine: sa.Engine) -> Any:
        return make_model(engine)


class TestPeeweeOnPostgres(_Postgres):
    @pytest.fixture
    def store(self, _database: None) -> Iterator[PeeweeWaffleStore]:
        make: Any = self.kind
        db = make(self.server.url("postgresql", self.database))
        store = PeeweeWaffleStore(db, self.model(), timeout_s=self.timeout_s, write_timeout_s=3.0)
        yield store
        store.close()

    kind: type[peewee.PostgresqlDatabase] = peewee.PostgresqlDatabase

    def model(self) -> Any:
        return None


class TestPeeweeModelOnPostgres(TestPeeweeOnPostgres):
    kind = PooledPostgresqlDatabase

    def model(self) -> Any:
        url = self.server.url("postgresql+psycopg", self.database)
        engine = sa.create_engine(url)
        make_model(engine)
        engine.dispose()
        return UserConfs


class _Mysql(StoreContract):
    """On the server of ``WAFFLE_MYSQL_URL``, a URL of SQLAlchemy's; there is none in a wheel."""

    bound_s = 8.0
    # Each waits for the disk, and 16 at once for each other.
    changes_per_writer = 3

    @pytest.fixture(autouse=True)
    def _database(self) -> Iterator[None]:
        url = os.environ.get("WAFFLE_MYSQL_URL")
        if url is None:
            pytest.skip("WAFFLE_MYSQL_URL names no MySQL")
        name = f"waffle_{os.getpid()}_{next(_numbers)}"
        base = sa.create_engine(url)
        with base.begin() as connection:
            # Not in utf8mb4, and deaf to cases: what the server's default may be.
            connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET latin1")
        self.url = base.url.set(database=name)
        yield
        with base.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        base.dispose()

    def make_model(self) -> sa.Table:
        engine = sa.create_engine(self.url)
        table = make_model(engine, collation="utf8mb4_bin", value=mysql.LONGTEXT(charset="utf8mb4"))
        engine.dispose()
        return table


class TestAlchemyOnMysql(_Mysql):
    @pytest.fixture
    def store(self, _database: None) -> Iterator[AlchemyWaffleStore]:
        store = AlchemyWaffleStore(self.url, self.model(), write_timeout_s=20.0)
        yield store
        store.close()

    def model(self) -> Any:
        return None

    def test_password_is_in_no_error(self, store: AlchemyWaffleStore) -> None:
        wrong = AlchemyWaffleStore(self.url.set(password="s3crab"))
        with pytest.raises(StoreUnavailable) as caught:
            wrong.read_since(0, "")
        assert "s3crab" not in str(caught.value) + repr(wrong)


class TestAlchemyModelOnMysql(TestAlchemyOnMysql):
    def model(self) -> Any:
        return self.make_model()


class TestPeeweeOnMysql(_Mysql):
    @pytest.fixture
    def store(self, _database: None) -> Iterator[PeeweeWaffleStore]:
        url = self.url
        db = peewee.MySQLDatabase(
            str(url.database),
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
        )
        store = PeeweeWaffleStore(db, self.model(), write_timeout_s=20.0)
        yield store
        store.close()

    def model(self) -> Any:
        return None


class TestPeeweeModelOnMysql(TestPeeweeOnMysql):
    def model(self) -> Any:
        self.make_model()
        return UserConfs


class UserConfs(WaffleMixin, peewee.Model):
    key = peewee.CharField(unique=True)
    value = peewee.TextField()

    class Meta:
        table_name = "User Confs"


def make_model(
    engine: sa.Engine, *, collation: str | None = None, value: Any = sa.Text
) -> sa.Table:
    """Make the table of a user's own model, with quoting to do."""
    metadata = sa.MetaData()
    table = sa.Table(
        "User Confs",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(255, collation), unique=True, nullable=False),
        sa.Column("value", value, nullable=False),
    )
    metadata.create_all(engine)
    return table


class TestRedis(ServerContract):
    @pytest.fixture
    def store(self, make_redis: Callable[..., RedisServer]) -> Iterator[RedisStore]:
        self.server = make_redis(password="s3cret", durable=True)
        self.server.start()
        store = RedisStore(
            f"{self.server.url}?prefix=site:&max_history=1000000",
            timeout_s=self.timeout_s,
            write_timeout_s=3.0,
        )
        yield store
        store.close()

    def test_read_and_change_are_one_round_trip_each(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1", "B": "1"})
        store.read_since(0, "")
        calls = self._calls()
        for _ in range(10):
            store.read_since(0, "")
        assert self._calls() - calls == {"evalsha": 10}
        calls = self._calls()
        for number in range(10):
            store.write({"A": str(number), "B": str(number)})
        assert self._calls() - calls == {"evalsha": 10}

    def test_keys_have_the_prefix_and_apps_share_a_server(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        other = RedisStore(f"{self.server.url}", prefix="other:")
        other.prepare()
        assert stored(other) == {}
        other.write({"A": "2"})
        assert stored(store) == {"A": "1"}
        keys = ("meta", "raws", "revisions", "history")
        assert {key.decode() for key in self.server.ask("KEYS", "*")} == {
            f"{prefix}{key}" for prefix in ("site:", "other:") for key in keys
        }
        other.close()

    def test_change_is_published_with_it(self, store: RedisStore) -> None:
        store.prepare()
        loud = RedisStore(f"{self.server.url}?prefix=site:&channel=waffleconf")
        notifier = RedisNotifier(self.server.url, "waffleconf")
        assert notifier.wait(1.0) == Notice(None)
        assert loud.write({"A": "1"}) == 1
        assert notifier.wait(1.0) == Notice(1)
        with raises(RevisionConflict):
            loud.write({"A": "2"}, expected_revision=7)
        assert notifier.wait(0.2) is None
        notifier._disconnect()
        notifier.close()
        loud.close()

    def test_history_is_capped(self, store: RedisStore) -> None:
        capped = RedisStore(self.server.url, prefix="capped:", max_history=100)
        capped.prepare()
        for number in range(10):
            capped.write({f"NAME_{name}": str(number) for name in range(50)})
        entries = capped.history(limit=1000)
        # Redis trims whole nodes only, of a hundred entries each.
        assert 100 <= len(entries) <= 200
        assert entries[0].revision == 10
        assert len(capped.history(name="NAME_7", limit=1)) == 1
        capped.close()

    def test_lost_data_is_an_error_and_a_fresh_start_begins_a_new_epoch(
        self, store: RedisStore
    ) -> None:
        store.prepare()
        store.write({"A": "1"})
        epoch = store.read_since(0, "").epoch
        self.server.ask("DEL", "site:meta")
        for call in (lambda: store.read_since(1, epoch), lambda: store.write({"A": "2"})):
            with pytest.raises(StoreUnavailable, match="lost its data"):
                call()
        store.prepare()
        delta = store.read_since(1, epoch)
        assert delta.complete
        assert delta.epoch != epoch
        assert (delta.revision, delta.rows) == (1, (("A", "1"),))
        assert store.write({"A": "2"}) == 2

    def test_key_of_a_wrong_type_leaves_nothing_half_done(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        self.server.ask("RENAME", "site:revisions", "aside")
        self.server.ask("SET", "site:revisions", "mine")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            store.write({"A": "2"})
        self.server.ask("RENAME", "aside", "site:revisions")
        assert stored(store) == {"A": "1"}
        assert len(store.history()) == 1

    def test_password_is_in_no_error(self, store: RedisStore) -> None:
        wrong = RedisStore(self.server.url.replace("s3cret", "s3crab"))
        self.server.stop()
        for refused in (store, wrong):
            with pytest.raises(StoreUnavailable) as caught:
                refused.read_since(0, "")
            self._check_secret(caught.value, refused)
        self.server.start()
        with pytest.raises(StoreUnavailable) as caught:
            wrong.read_since(0, "")
        self._check_secret(caught.value, wrong)
        wrong.close()

    def _check_secret(self, exc: BaseException, store: RedisStore) -> None:
        text = "".join(traceback.format_exception(exc)) + repr(store)
        assert "s3cr" not in text.replace('.replace("s3cret", "s3crab")', "")

    def _calls(self) -> Counter[str]:
        with redis.Redis.from_url(self.server.url) as client:
            info: Any = client.info("commandstats")
        return Counter(
            {
                name.removeprefix("cmdstat_"): stats["calls"]
                for name, stats in info.items()
                if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_multi", "cmdstat_ping")
            }
        )
