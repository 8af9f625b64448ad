"""The rows of Flask-WaffleConf are read from a real PostgreSQL."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from uwsgi_waffle import StoreError
from uwsgi_waffle.legacy import import_legacy, read_rows
from uwsgi_waffle.settings.declare import declare

from .support.postgres_server import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as name:
        yield postgres.url("postgresql+psycopg", name)


@pytest.mark.parametrize("kind", ["text", "varchar(9999)", "bytea"])
def test_rows_of_a_schema_are_read_whatever_their_columns_type(url: str, kind: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    encoded = base64.b64encode(pickle.dumps("Café"))
    value = encoded if kind == "bytea" else encoded.decode()
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "Old"'))
        connection.execute(sa.text(f'CREATE TABLE "Old"."Confs" (key text, value {kind})'))
        insert = sa.text('INSERT INTO "Old"."Confs" VALUES (:key, :value)')
        connection.execute(insert, {"key": "SITENAME", "value": value})
    rows = read_rows(url, table="Old.Confs")
    plan = import_legacy(rows, declare({"SITENAME": {"desc": "Name", "default": "Shop"}}))
    assert plan.raws == {"SITENAME": '"Café"'}


def test_a_missing_table_is_told(url: str) -> None:
    with pytest.raises(StoreError, match='relation "confs" does not exist') as caught:
        read_rows(url, table="confs")
    assert "s3cret" not in str(caught.value)
