"""The SQL stores keep the contract on a real MariaDB, through restarts and standstills."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import peewee
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from uwsgi_waffle.errors import StoreError, StoreUnavailable
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing import stored
from uwsgi_waffle.testing.assertions import raises

from .support.mariadb_server import MariadbServer
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


class _Database(OnServer):
    """A database of each test's own."""

    #: of the values in a table of the user's
    column: Any = mysql.LONGTEXT(charset="utf8mb4")

    @pytest.fixture(autouse=True)
    def _database(self, mariadb: MariadbServer) -> Iterator[None]:
        self.server = mariadb
        # Not in utf8mb4, and deaf to cases: what the server's default may be.
        with mariadb.database("CHARACTER SET latin1") as name:
            self.url = sa.make_url(mariadb.url(database=name))
            yield

    def going_back(self, store: Store) -> contextlib.AbstractContextManager[None]:
        return restored_rows(self.url)

    def lose(self, store: Store) -> None:
        drop_tables(self.url)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        engine = sa.create_engine(self.url)
        with engine.begin() as other:
            # Not an UPDATE that changes nothing: whether that locks is the server's affair.
            other.exec_driver_sql("SELECT revision FROM waffle_meta FOR UPDATE")
            yield
        engine.dispose()

    def make_model(self) -> sa.Table:
        engine = sa.create_engine(self.url)
        table = make_model(engine, collation="utf8mb4_bin", value=self.column)
        engine.dispose()
        return table


class _Alchemy(_Database):
    @pytest.fixture
    def store(self) -> Iterator[AlchemyWaffleStore]:
        store = self.make(self.url)
        yield store
        store.close()

    def make(self, url: sa.URL) -> AlchemyWaffleStore:
        return AlchemyWaffleStore(
            url, self.model(), timeout_s=self.timeout_s, write_timeout_s=self.write_timeout_s
        )

    def model(self) -> Any:
        return None


class _Peewee(_Database):
    @pytest.fixture
    def store(self) -> Iterator[PeeweeWaffleStore]:
        store = self.make(self.url)
        yield store
        store.close()

    def make(self, url: sa.URL) -> PeeweeWaffleStore:
        more: dict[str, Any] = dict(url.query)
        db = peewee.MySQLDatabase(
            str(url.database),
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            **more,
        )
        return PeeweeWaffleStore(
            db, self.model(), timeout_s=self.timeout_s, write_timeout_s=self.write_timeout_s
        )

    def model(self) -> Any:
        return None


class _Contract(KeptContract, ServerContract, _Database):
    @abstractmethod
    def make(self, url: sa.URL) -> Store: ...

    def connections(self) -> set[int]:
        rows = self.server.ask(
            f"SELECT id FROM information_schema.processlist WHERE db = '{self.url.database}'"
        )
        return {row[0] for row in rows}

    def kill(self, number: int) -> None:
        self.server.ask(f"KILL {number}")

    def test_server_that_takes_no_changes_is_read_and_heals(self, store: Store) -> None:
        """As a replica, or a primary that was made one."""
        store.prepare()
        store.write({"A": "1"})
        known = store.read_since(0, "")
        # The tests' own user writes all the same.
        self.server.ask("CREATE USER IF NOT EXISTS app@'127.0.0.1' IDENTIFIED BY 's3cret'")
        self.server.ask(f"GRANT ALL ON {self.url.database}.* TO app@'127.0.0.1'")
        app = self.make(self.url.set(username="app"))
        self.server.ask("SET GLOBAL read_only = 1")
        try:
            assert app.read_since(0, "") == known
            with raises(StoreUnavailable) as caught:
                app.write({"A": "2"})
        finally:
            self.server.ask("SET GLOBAL read_only = 0")
        assert "work again when it is the primary" in str(caught[0])
        assert app.write({"A": "2"}, expected_revision=1) == 2
        app.close()


class _LossyContract(_Database):
    """On connections that lose, in silence, what they can't keep: older releases' default."""

    column = sa.String(10, "utf8mb4_bin")

    @pytest.fixture(autouse=True)
    def _lossy(self, _database: None) -> None:
        self.url = self.url.update_query_dict({"charset": "utf8", "sql_mode": "PIPES_AS_CONCAT"})

    def test_no_character_is_lost(self, store: Store) -> None:
        store.prepare()
        store.write({"A": '"🧇x"'}, author="Åse 🧇", reason="why 🧇")
        assert stored(store) == {"A": '"🧇x"'}
        assert store.history()[0][3:6] == ('"🧇x"', "Åse 🧇", "why 🧇")

    def test_value_that_its_column_can_not_hold_is_refused(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        with pytest.raises(StoreError, match="too long"):
            store.write({"A": '"123456789"', "B": "1"})
        assert stored(store) == {"A": "1"}


@pytest.mark.short
class TestAlchemyOnMysql(_Alchemy, _Contract):
    def test_password_is_in_no_error(self, store: AlchemyWaffleStore) -> None:
        wrong = AlchemyWaffleStore(self.url.set(password="s3crab"))
        with pytest.raises(StoreUnavailable) as caught:
            wrong.read_since(0, "")
        assert "s3crab" not in str(caught.value) + repr(wrong)


class TestAlchemyModelOnMysql(_Alchemy, ServerContract):
    def model(self) -> Any:
        return self.make_model()


@pytest.mark.short
class TestPeeweeOnMysql(_Peewee, _Contract):
    pass


class TestPeeweeModelOnMysql(_Peewee, ServerContract):
    def model(self) -> Any:
        self.make_model()
        return UserConfs


@pytest.mark.short
class TestAlchemyOnLossyMysql(_Alchemy, _LossyContract):
    def model(self) -> Any:
        return self.make_model()


@pytest.mark.short
class TestPeeweeOnLossyMysql(_Peewee, _LossyContract):
    def model(self) -> Any:
        self.make_model()
        return UserConfs


class TestAlchemyOnFrozenMysql(_Alchemy, LockContract):
    pass


class TestPeeweeOnFrozenMysql(_Peewee, LockContract):
    pass
