"""The SQLAlchemy store keeps the contract on SQLite, and works with a user's own db and model."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from uwsgi_waffle import (
    ConfigurationError,
    RevisionConflict,
    StoreError,
    StoreMissing,
    StoreUnavailable,
    WaffleConf,
)
from uwsgi_waffle.stores.base import Channel
from uwsgi_waffle.stores.mixin import WaffleMixin
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore, define_tables
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing import stored
from uwsgi_waffle.testing.assertions import read_after
from uwsgi_waffle.testing.report_contract import a_report

from ..support.file_store import FileStoreContract

pytestmark = pytest.mark.slow


class TestOwnTables(FileStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[AlchemyWaffleStore]:
        self.path = tmp_path / "waffle.db"
        store = AlchemyWaffleStore(
            f"sqlite+pysqlite:///{self.path}", timeout_s=15.0, write_timeout_s=30.0
        )
        yield store
        store.close()


class TestOwnModel(TestOwnTables):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[AlchemyWaffleStore]:
        self.path = tmp_path / "waffle.db"
        engine = sa.create_engine(f"sqlite+pysqlite:///{self.path}")
        store = AlchemyWaffleStore(engine, _confs(engine), timeout_s=15.0, write_timeout_s=30.0)
        yield store
        store.close()
        engine.dispose()


def test_only_postgresql_announces_and_only_on_its_own_kind_of_channel(tmp_path: Path) -> None:
    with contextlib.closing(AlchemyWaffleStore(f"sqlite:///{tmp_path}/waffle.db")) as store:
        assert not store.announces
        store.announce_on(Channel("postgresql", "waffle"))
        assert not store.announces
    with contextlib.closing(AlchemyWaffleStore("postgresql+psycopg://nowhere/waffle")) as store:
        store.announce_on(Channel("redis", "waffle", "redis://nowhere"))
        announces = [store.announces]
        store.announce_on(Channel("postgresql", "waffle"))
        assert [*announces, store.announces] == [False, True]


def test_file_that_create_tables_makes_is_for_its_owner_and_group(tmp_path: Path) -> None:
    with contextlib.closing(AlchemyWaffleStore(f"sqlite:///{tmp_path}/waffle.db")) as store:
        store.create_tables()
    assert stat.S_IMODE((tmp_path / "waffle.db").stat().st_mode) == 0o660


def test_one_refresh_is_one_statement(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/waffle.db")
    for model in (None, _confs(engine)):
        store = AlchemyWaffleStore(engine, model)
        store.prepare()
        store.write({"A": "1", "B": "2"})
        known = store.read_since(0, "")
        statements: list[str] = []

        def count(*args: Any, seen: list[str] = statements) -> None:
            seen.append(args[2])

        reader = store._connections()._reader
        sa.event.listen(reader, "before_cursor_execute", count)
        store.read_since(0, "")
        read_after(store, known)
        store.read_since(known.revision, "another", known.mark)
        # No ping before it and no BEGIN around it: the driver is in autocommit mode.
        assert [statement.split()[0] for statement in statements] == ["SELECT"] * 3
        store.close()
    engine.dispose()


def test_rows_that_the_user_wrote_by_hand_come_with_a_complete_read(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/waffle.db")
    confs = _confs(engine)
    store = AlchemyWaffleStore(engine, confs)
    store.prepare()
    store.write({"A": "1", "B": "1", "C": "1"})
    known = store.read_since(0, "")
    with engine.begin() as connection:
        connection.execute(sa.insert(confs).values(key="BY_HAND", value="7"))
        connection.execute(sa.update(confs).where(confs.c.key == "A").values(value="8"))
        connection.execute(sa.delete(confs).where(confs.c.key == "B"))
    assert read_after(store, known).rows == ()
    assert stored(store) == {"A": "8", "BY_HAND": "7", "C": "1"}
    store.write({"BY_HAND": "9", "B": "2"})
    assert dict(read_after(store, known).rows) == {"BY_HAND": "9", "B": "2"}
    assert store.history(name="BY_HAND")[0][2:4] == ("7", "9")
    with engine.connect() as connection:
        rows = connection.execute(sa.select(confs.c.key, confs.c.value)).all()
    assert {tuple(row) for row in rows} == {("A", "8"), ("B", "2"), ("C", "1"), ("BY_HAND", "9")}
    store.close()
    engine.dispose()


def test_listeners_of_the_user_hold_for_our_connections_but_not_the_pool(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/waffle.db")
    opened: list[object] = []
    sa.event.listen(engine, "connect", lambda connection, record: opened.append(connection))
    store = AlchemyWaffleStore(engine)
    store.prepare()
    assert store.write({"A": "1"}) == 1
    assert opened
    assert engine.pool.status() == sa.create_engine(engine.url).pool.status()
    # The recipe of SQLAlchemy's documentation, which takes the transactions over from the driver.
    sa.event.listen(engine, "connect", _leave_alone)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    other = AlchemyWaffleStore(engine)
    with pytest.raises(RevisionConflict):
        other.write({"A": "2"}, expected_revision=7)
    assert other.read_since(0, "").revision == 1
    assert other.write({"A": "2"}) == 2
    store.close()
    other.close()
    engine.dispose()


def _leave_alone(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None


@pytest.mark.parametrize("hosts", ["h1:5432,h2:5433", "h1,[::1]:5432"])
def test_several_hosts_are_refused_with_the_way_to_write_them(hosts: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\?host=h1:5432&host=h2:5432"):
        AlchemyWaffleStore(f"postgresql+psycopg://ann@{hosts}/site")


def test_driver_for_asyncio_is_refused_with_another() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(ConfigurationError, match=r"for asyncio only.*postgresql\+psycopg://"):
        AlchemyWaffleStore("postgresql+psycopg_async://ann@host/site")


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask("site", instance_path=str(tmp_path / "instance"))
    app.config["WAFFLE_CONFS"] = {
        "MAX_FILESIZE": {"desc": "Max upload filesize (in bytes)", "default": 1000},
        "SITENAME": {"desc": "Name of the site", "default": "Waffle"},
    }
    return app


@pytest.mark.parametrize("url", ["sqlite:///site.db", "sqlite://"])
def test_model_of_the_user_works_as_the_ancestor_documents(app: Flask, url: str) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = SQLAlchemy()
    base: Any = db.Model

    class ConfModel(base, WaffleMixin):  # type: ignore[misc]
        __tablename__ = "confs"
        id = sa.Column(sa.Integer, primary_key=True)
        key = sa.Column(sa.String(255), unique=True)
        value = sa.Column(sa.Text)

    # The store is made before there is an app.
    configstore = AlchemyWaffleStore(db=db, model=ConfModel)
    db.init_app(app)
    with app.app_context():
        db.create_all()
        db.session.add(ConfModel(key="SITENAME", value='"By hand"'))
        # What the ancestor left: base64 of a pickle.
        db.session.add(ConfModel(key="MAX_FILESIZE", value="gAN9cQAu"))
        db.session.commit()
    waffle = WaffleConf(app, configstore)
    assert app.config["SITENAME"] == "By hand"
    assert app.config["MAX_FILESIZE"] == 1000
    assert list(waffle.status().faults) == ["MAX_FILESIZE"]
    waffle.update({"SITENAME": "New"})
    assert app.config["SITENAME"] == "New"
    with app.app_context():
        rows = {row.get_key(): row.get_value() for row in db.session.query(ConfModel)}
        assert rows == {"SITENAME": '"New"', "MAX_FILESIZE": "gAN9cQAu"}
    waffle.reset(["MAX_FILESIZE"])
    assert waffle.status().faults == {}
    waffle.state.store.close()
    _dispose(app, db)


def test_store_finds_the_engine_of_the_model_among_several_binds(
    app: Flask, tmp_path: Path
) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/main.db"
    app.config["SQLALCHEMY_BINDS"] = {"confs": f"sqlite:///{tmp_path}/confs.db"}
    db = SQLAlchemy(app)
    base: Any = db.Model

    class ConfModel(base, WaffleMixin):  # type: ignore[misc]
        __bind_key__ = "confs"
        id = sa.Column(sa.Integer, primary_key=True)
        key = sa.Column(sa.String(255), unique=True)
        value = sa.Column(sa.Text)

    with app.app_context():
        db.create_all()
    waffle = WaffleConf(app, AlchemyWaffleStore(db, ConfModel))
    assert waffle.update({"SITENAME": "New"}) == 1
    names = _table_names(tmp_path / "confs.db")
    assert names == {
        "conf_model",
        "waffle_meta",
        "waffle_revisions",
        "waffle_history",
        "waffle_workers",
    }
    assert _table_names(tmp_path / "main.db") == set()
    _dispose(app, db)


def test_one_store_serves_several_apps_each_in_its_own_database(tmp_path: Path) -> None:
    db = SQLAlchemy()
    configstore = AlchemyWaffleStore(db)
    apps = []
    for name in ("one", "two"):
        app = Flask(name, instance_path=str(tmp_path / name))
        app.config["WAFFLE_CONFS"] = {"SITENAME": {"desc": "Name", "default": "Waffle"}}
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///site.db"
        db.init_app(app)
        waffle = WaffleConf(app, configstore)
        with app.app_context():
            waffle.update({"SITENAME": name})
        apps.append(app)
    assert [app.config["SITENAME"] for app in apps] == ["one", "two"]
    for app in apps:
        with app.app_context():
            assert configstore.history()[0].new_raw == f'"{app.name}"'
        _dispose(app, db)
    configstore.close()


def test_db_that_gets_its_app_later_heals(app: Flask) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///site.db"
    db = SQLAlchemy()
    waffle = WaffleConf(app, AlchemyWaffleStore(db))
    assert "db.init_app(app)" in str(waffle.status().last_error)
    db.init_app(app)
    assert waffle.refresh() == 0
    waffle.update({"SITENAME": "New"})
    assert app.config["SITENAME"] == "New"
    _dispose(app, db)


def test_timeouts_of_the_app_hold_unless_the_store_was_given_others(app: Flask) -> None:
    engine = sa.create_engine("sqlite:///unused.db")
    store = AlchemyWaffleStore(engine, timeout_s=0.3)
    bound = store.for_app(app, timeout_s=0.7, write_timeout_s=0.9, history_limit=7)
    attempts = bound._attempts
    assert (attempts._timeout_s, attempts._write_timeout_s) == (0.3, 0.9)
    assert (bound._timeout_s, bound._history_limit) == (0.3, 7)


def test_tables_can_be_made_by_migrations(tmp_path: Path) -> None:
    metadata = sa.MetaData()
    tables = define_tables(metadata)
    names = ("meta", "settings", "history", "workers")
    assert set(metadata.tables) == {f"waffle_{name}" for name in names}
    assert define_tables(metadata).meta is tables.meta
    engine = sa.create_engine(f"sqlite:///{tmp_path}/waffle.db")
    metadata.create_all(engine)
    store = AlchemyWaffleStore(engine)
    store.prepare()
    assert store.write({"A": "1"}) == 1
    store.close()
    engine.dispose()


def test_sqlite_file_can_be_moved_from_the_embedded_store(tmp_path: Path) -> None:
    path = tmp_path / "waffle.db"
    embedded = SqliteStore(path)
    embedded.prepare()
    embedded.write({"A": "1"}, author="ann")
    store = AlchemyWaffleStore(f"sqlite:///{path}")
    store.prepare()
    assert store.write({"B": "2"}) == 2
    assert embedded.read_since(0, "") == store.read_since(0, "")
    assert embedded.history() == store.history()
    embedded.close()
    store.close()


def test_model_without_key_and_value_is_refused() -> None:
    table = sa.Table("confs", sa.MetaData(), sa.Column("key", sa.String))
    with pytest.raises(ConfigurationError, match="no column value"):
        AlchemyWaffleStore("sqlite:///x.db", table)
    with pytest.raises(ConfigurationError, match="not a model"):
        AlchemyWaffleStore("sqlite:///x.db", object())
    with pytest.raises(ConfigurationError, match="URL, an engine"):
        AlchemyWaffleStore(object())


def test_missing_tables_of_a_read_only_database_are_an_error_that_says_so(tmp_path: Path) -> None:
    store = AlchemyWaffleStore(f"sqlite+pysqlite:///file:{tmp_path}/x.db?mode=ro&uri=true")
    (tmp_path / "x.db").touch()
    with pytest.raises(StoreError, match="let this user write"):
        store.prepare()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ann:s3cr%40t@127.0.0.1:1/x",
        "postgresql+psycopg://ann:s3cr%40t@nowhere.invalid/x",
        "postgresql+psycopg:///x?host=127.0.0.1&port=1&user=ann&password=s3cr%40t",
    ],
)
def test_password_is_in_no_error(url: str) -> None:
    store = AlchemyWaffleStore(url)
    with pytest.raises(StoreUnavailable) as caught:
        store.read_since(0, "")
    shown = [repr(store)]
    exc: BaseException | None = caught.value
    while exc is not None:
        shown.append(str(exc))
        exc = exc.__cause__ or exc.__context__
    assert not any("s3cr" in text for text in shown), shown


def test_bad_urls_and_missing_drivers_are_configuration_errors() -> None:
    password = "s3c" + "ret"
    with pytest.raises(ConfigurationError, match="dialect") as caught:
        AlchemyWaffleStore(f"postgresql+psycopg://ann:{password}@host:port/x")
    assert password not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigurationError, match="not installed"):
        AlchemyWaffleStore("postgresql+pg8000://host/x")
    with pytest.raises(ConfigurationError, match="dialect"):
        AlchemyWaffleStore("nosuch+driver://host/x")


def _confs(engine: sa.Engine) -> sa.Table:
    metadata = sa.MetaData()
    confs = sa.Table(
        "confs",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(255), unique=True),
        sa.Column("value", sa.Text),
    )
    metadata.create_all(engine)
    return confs


def _table_names(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }


def _dispose(app: Flask, db: SQLAlchemy) -> None:
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def test_read_that_fails_leaves_no_connection_open(tmp_path: Path) -> None:
    path = tmp_path / "lost.db"
    store = AlchemyWaffleStore(f"sqlite:///{path}")
    store.prepare()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE waffle_meta")
    # Its traceback holds all that was open: nothing is left to a collection of garbage.
    with pytest.raises(StoreMissing) as caught:
        store.read_since(0, "")
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        # That of the list itself is closed by now.
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    assert str(path) not in names, caught
    store.close()


def test_only_the_first_of_many_reports_reads_all_others(tmp_path: Path) -> None:
    store = AlchemyWaffleStore(f"sqlite:///{tmp_path / 'waffle.db'}")
    store.prepare()
    statements: list[str] = []
    assert store._engine is not None
    connections = store._connections()
    sa.event.listen(
        connections._reader, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    for revision in range(5):
        store.report(a_report(revision=revision))
    looks = [each for each in statements if "lifetime_s" in each and each.startswith("SELECT")]
    assert len(looks) == 1
    store.close()
