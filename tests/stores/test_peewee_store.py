"""The peewee store keeps the contract on SQLite, and works with a user's own db and model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from flask import Flask
from playhouse.pool import PooledSqliteDatabase

from uwsgi_waffle import ConfigurationError, StoreError, StoreUnavailable, WaffleConf
from uwsgi_waffle.stores.base import WorkerReport
from uwsgi_waffle.stores.mixin import WaffleMixin
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore, connections, reports
from uwsgi_waffle.stores.peewee.tables import Tables, model_of
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.testing import stored
from uwsgi_waffle.testing.assertions import read_after

from ..support.file_store import FileStoreContract

pytestmark = pytest.mark.slow


class TestOwnTables(FileStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[PeeweeWaffleStore]:
        self.path = tmp_path / "waffle.db"
        store = PeeweeWaffleStore(
            peewee.SqliteDatabase(str(self.path)), timeout_s=15.0, write_timeout_s=30.0
        )
        yield store
        store.close()


class TestOwnModel(TestOwnTables):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[PeeweeWaffleStore]:
        self.path = tmp_path / "waffle.db"
        make: Any = PooledSqliteDatabase
        db = make(self.path, max_connections=1)
        store = PeeweeWaffleStore(db, make_model(db), timeout_s=15.0, write_timeout_s=30.0)
        # The only connection of the user's pool is taken, and open when processes are forked.
        db.connect()
        yield store
        store.close()
        db.close_all()


def make_model(db: Any) -> Any:
    class ConfModel(WaffleMixin, peewee.Model):
        key = peewee.CharField(unique=True, column_name="the key")
        value = peewee.TextField()
        # Filled by peewee, not by the database.
        origin = peewee.CharField(default=lambda: "model")

        class Meta:
            database = db

    with db.connection_context():
        db.create_tables([ConfModel])
    return ConfModel


@pytest.fixture
def db(tmp_path: Path) -> Iterator[peewee.SqliteDatabase]:
    db = peewee.SqliteDatabase(str(tmp_path / "waffle.db"))
    yield db
    db.close()


def test_one_refresh_is_one_statement(
    db: peewee.SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (None, make_model(db)):
        store = PeeweeWaffleStore(db, model)
        store.prepare()
        store.write({"A": "1", "B": "2"})
        known = store.read_since(0, "")
        statements: list[str] = []
        fetch = connections._fetch

        def count(cursor: Any, statement: str, parameters: Any, *, fetch: Any = fetch) -> list[Any]:
            statements.append(statement)  # noqa: B023
            result: list[Any] = fetch(cursor, statement, parameters)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(connections, "_fetch", count)
            store.read_since(0, "")
            read_after(store, known)
            store.read_since(known.revision, "another", known.mark)
        assert [statement.split()[0] for statement in statements] == ["SELECT"] * 3
        store.close()


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        (peewee.SqliteDatabase, "sqlite"),
        (peewee.PostgresqlDatabase, "postgresql"),
        (peewee.MySQLDatabase, "mysql"),
    ],
)
def test_queries_are_written_for_each_database_without_a_connection(
    kind: Any, dialect: str
) -> None:
    db = kind("x")
    report = WorkerReport("app", "host", 1, 1, 1, None, "VALID", None, 3.0)

    class Confs(peewee.Model):
        key = peewee.CharField(column_name="the key")
        value = peewee.TextField()

        class Meta:
            database = db

    for model in (None, model_of(Confs)):
        tables = Tables("waffle_", model)
        for query in (
            tables.read_since(0, "", ""),
            tables.read_since(3, "epoch", "mark"),
            reports.put(tables.workers, dialect, report),
            reports.living(tables.workers, dialect, 3.0),
            reports.dead(tables.workers, dialect),
            reports.remove(tables.workers, "app", "host", 1),
        ):
            statement, parameters = db.get_sql_context().sql(query).query()
            assert statement.count(db.param) == len(parameters), statement
            # A value is never part of the text.
            assert not any(value in statement for value in ("'epoch'", "'mark'", "'host'"))
    assert db.is_closed()


def test_transaction_of_the_user_is_left_alone(db: peewee.SqliteDatabase) -> None:
    model = make_model(db)
    store = PeeweeWaffleStore(db, model)
    store.prepare()
    store.write({"A": "1"})
    with db.atomic() as transaction:
        assert model.get(model.key == "A").value == "1"
        assert stored(store) == {"A": "1"}
        transaction.rollback()
    with db.atomic():
        model.create(key="B", value="2")
        # Not committed yet, so that nobody else sees it.
        assert stored(store) == {"A": "1"}
    assert stored(store) == {"A": "1", "B": "2"}
    store.close()


def test_rows_that_the_user_wrote_by_hand_come_with_a_complete_read(
    db: peewee.SqliteDatabase,
) -> None:
    model = make_model(db)
    store = PeeweeWaffleStore(db, model)
    store.prepare()
    store.write({"A": "1", "B": "1", "C": "1"})
    known = store.read_since(0, "")
    model.create(key="BY_HAND", value="7")
    model.update(value="8").where(model.key == "A").execute()
    model.delete().where(model.key == "B").execute()
    assert read_after(store, known).rows == ()
    assert stored(store) == {"A": "8", "BY_HAND": "7", "C": "1"}
    store.write({"BY_HAND": "9", "B": "2", "C": None})
    assert dict(read_after(store, known).rows) == {"BY_HAND": "9", "B": "2", "C": None}
    assert {row.get_key(): row.get_value() for row in model.select()} == {
        "A": "8",
        "B": "2",
        "BY_HAND": "9",
    }
    assert {row.origin for row in model.select()} == {"model"}
    store.close()


def test_model_of_the_user_works_as_the_ancestor_documents(tmp_path: Path) -> None:
    app = Flask("site", instance_path=str(tmp_path / "instance"))
    app.config["WAFFLE_CONFS"] = {"SITENAME": {"desc": "Name of the site", "default": "Waffle"}}
    db = peewee.SqliteDatabase(None)
    proxy = peewee.DatabaseProxy()
    configstore_db = peewee.DatabaseProxy()

    class ConfModel(WaffleMixin, peewee.Model):
        key = peewee.CharField(max_length=255, unique=True)
        value = peewee.TextField()

        class Meta:
            database = proxy

    # The store is made before the database is known.
    configstore = PeeweeWaffleStore(db=configstore_db, model=ConfModel)
    with pytest.raises(StoreUnavailable, match="not initialised"):
        configstore.prepare()
    configstore_db.initialize(db)
    proxy.initialize(db)
    with pytest.raises(StoreUnavailable, match="not initialised"):
        configstore.prepare()
    db.init(str(tmp_path / "site.db"))
    db.create_tables([ConfModel])
    waffle = WaffleConf(app, configstore)
    waffle.update({"SITENAME": "New"})
    assert app.config["SITENAME"] == "New"
    assert ConfModel.get(ConfModel.key == "SITENAME").get_value() == '"New"'
    waffle.reset(["SITENAME"])
    assert ConfModel.select().count() == 0
    waffle.state.store.close()
    db.close()


def test_tables_are_those_of_the_sqlalchemy_store(db: peewee.SqliteDatabase) -> None:
    store = PeeweeWaffleStore(db)
    store.prepare()
    store.write({"A": "1"}, author="ann")
    other = AlchemyWaffleStore(f"sqlite:///{db.database}")
    other.prepare()
    assert other.write({"B": "2"}) == 2
    assert store.read_since(0, "") == other.read_since(0, "")
    assert store.history() == other.history()
    store.close()
    other.close()


def test_what_can_not_work_is_refused() -> None:
    class NoValue(peewee.Model):
        key = peewee.CharField()

    db = peewee.SqliteDatabase(":memory:")
    with pytest.raises(ConfigurationError, match="no field value"):
        PeeweeWaffleStore(db, NoValue)
    with pytest.raises(ConfigurationError, match="not a peewee model"):
        PeeweeWaffleStore(db, object())
    with pytest.raises(StoreError, match="in-memory"):
        PeeweeWaffleStore(db).prepare()


def test_password_is_in_no_error() -> None:
    for database in (
        peewee.PostgresqlDatabase("x", user="ann", password="s3cret", host="127.0.0.1", port=1),
        peewee.PostgresqlDatabase("postgresql://ann:s3cret@127.0.0.1:1/x"),
    ):
        store = PeeweeWaffleStore(database)
        with pytest.raises(StoreUnavailable) as caught:
            store.read_since(0, "")
        shown = [repr(store)]
        exc: BaseException | None = caught.value
        while exc is not None:
            shown.append(str(exc))
            exc = exc.__cause__ or exc.__context__
        assert not any("s3cret" in text for text in shown), shown
