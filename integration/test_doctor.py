"""The doctor finds in real servers what a stand-in can only claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import peewee
import pytest
import sqlalchemy as sa
from flask import Flask

from uwsgi_waffle import WaffleConf, doctor
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
