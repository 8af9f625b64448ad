"""The doctor finds in real servers what a stand-in can only claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import peewee
import pytest
import sqlalchemy as sa
from flask import Flask

from uwsgi_waffle import WaffleConf, doctor
from uwsgi_waffle.cli import group
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore

from .support.postgres_server import PostgresServer

CONFS = {"LIMIT": {"desc": "Limit", "default": 10}}


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as name:
        yield name


def alchemy(server: PostgresServer, database: str) -> Store:
    return AlchemyWaffleStore(server.url("postgresql+psycopg", database))


def with_peewee(server: PostgresServer, database: str) -> Store:
    url = sa.make_url(server.url("postgresql", database))
    db = peewee.PostgresqlDatabase(
        database, host=url.host, port=url.port, user=url.username, password=url.password
    )
    return PeeweeWaffleStore(db)


@pytest.mark.parametrize("make", [alchemy, with_peewee])
@pytest.mark.parametrize(("setting", "found"), [("off", ["D021"]), ("local", []), ("on", [])])
def test_database_that_confirms_what_is_not_on_its_disk_is_found(
    postgres: PostgresServer,
    database: str,
    tmp_path: Path,
    make: Callable[[PostgresServer, str], Store],
    setting: str,
    found: list[str],
) -> None:
    engine = sa.create_engine(postgres.url("postgresql+psycopg", database))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f'ALTER DATABASE "{database}" SET synchronous_commit = {setting}'
        )
    engine.dispose()
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["WAFFLE_CONFS"] = CONFS
    waffle = WaffleConf(app, make(postgres, database))
    state = app.extensions["waffleconf"]
    assert [finding.id for finding in doctor.examine(state).findings] == found
    waffle.stop()
    state.store.close()


def test_user_who_may_create_no_table_is_found_with_the_one_command(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    admin = postgres.url("postgresql+psycopg", database)
    engine = sa.create_engine(admin)
    user = f"user_of_{database}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f'CREATE ROLE "{user}" LOGIN')
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    own = str(sa.make_url(admin).set(username=user).render_as_string(hide_password=False))
    app = Flask("shop", instance_path=str(tmp_path))
    app.config.update(WAFFLE_CONFS=CONFS, WAFFLE_STORE_URL=own)
    WaffleConf(app)
    state = app.extensions["waffleconf"]
    (found,) = doctor.examine(state).findings
    assert found.id == "D002"
    command = "flask waffle create-tables --url"
    assert command in found.detail
    result = app.test_cli_runner().invoke(group, ["create-tables", "--url", admin])
    assert result.exit_code == 0, result.output
    with engine.begin() as connection:
        tables = sa.inspect(connection).get_table_names()
        assert len(tables) == 4
        for table in tables:
            if table != "waffle_workers":
                connection.exec_driver_sql(f'GRANT ALL ON "{table}" TO "{user}"')
    (found,) = doctor.examine(state).findings
    assert found.id == "D022"
    assert command in found.fix
    with engine.begin() as connection:
        connection.exec_driver_sql(f'GRANT ALL ON "waffle_workers" TO "{user}"')
    assert doctor.examine(state).findings == ()
    state.store.close()
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP OWNED BY "{user}"')
        connection.exec_driver_sql(f'DROP ROLE "{user}"')
    engine.dispose()
