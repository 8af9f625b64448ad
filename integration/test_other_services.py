"""What docs/other-services.md says that another service may write, on the real databases."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from uwsgi_waffle import WaffleConf, operations

from .support.postgres_server import PostgresServer
from .support.redis_server import RedisServer

PAGE = Path(__file__).parents[1] / "docs" / "other-services.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
(CHANGE, GRANTS), (SCRIPT,) = (
    [text for language, text in BLOCKS if language == wanted] for wanted in ("sql", "lua")
)


def statements(text: str) -> list[str]:
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def change(name: str, value: object) -> dict[str, Any]:
    """Return the parameters of one change."""
    return {
        "name": name,
        "raw": None if value is None else json.dumps(value),
        "mark": secrets.token_hex(8),
        "author": "billing",
        "reason": None,
        "at": datetime.now(timezone.utc).isoformat(),
    }


def make_app(folder: Path, **config: object) -> WaffleConf[Any]:
    app = Flask("shop", instance_path=str(folder))
    app.config.update(
        WAFFLE_CONFS={
            "LIMIT": {"desc": "Upload limit", "default": 10},
            "SITENAME": {"desc": "Name of the site", "default": "Shop"},
        },
        **config,
    )
    return WaffleConf(app)


def check(waffle: WaffleConf[Any], write: Any) -> None:
    """Check that a running worker serves, shows and takes back what another service writes."""
    worker = waffle.state
    waffle.update({"LIMIT": 20}, author="ann")
    write(change("LIMIT", 30))
    # What is not touched by hand: the same worker reads only what is newer.
    assert waffle.refresh() == 2
    assert waffle.conf["LIMIT"] == 30
    write(change("SITENAME", "Ours"))
    waffle.update({"LIMIT": 40})
    assert waffle.revision == 4
    assert waffle.conf["SITENAME"] == "Ours"
    items = waffle.history()
    assert [(i.revision, i.name, i.old, i.new, i.author) for i in items] == [
        (4, "LIMIT", "30", "40", None),
        (3, "SITENAME", "default", '"Ours"', "billing"),
        (2, "LIMIT", "20", "30", "billing"),
        (1, "LIMIT", "default", "20", "ann"),
    ]
    assert operations.changed_by_hand(worker) == set()
    # A reader that has the mark of another service's change is no stranger to the store.
    since = worker.store.read_since(0, "")
    assert not worker.store.read_since(since.revision, since.epoch, since.mark).complete
    assert waffle.rollback(1) == 5
    assert dict(waffle.conf) == {"LIMIT": 20, "SITENAME": "Shop"}


@pytest.fixture
def sqlite(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(
        sqlite3.connect(folder / "waffle.db", isolation_level=None)
    ) as connection:
        yield connection


def test_another_service_writes_to_sqlite(folder: Path, sqlite: sqlite3.Connection) -> None:
    waffle = make_app(folder)

    def write(values: dict[str, Any]) -> None:
        sqlite.execute("BEGIN IMMEDIATE")
        for statement in statements(CHANGE):
            sqlite.execute(statement, values)
        sqlite.execute("COMMIT")

    check(waffle, write)
    write(change("LIMIT", None))
    assert waffle.refresh() == 6
    assert waffle.conf["LIMIT"] == 10


def test_another_service_writes_to_postgresql_with_the_rights_of_the_page(
    folder: Path, postgres: PostgresServer
) -> None:
    with postgres.database() as database, contextlib.ExitStack() as stack:
        url = postgres.url("postgresql+psycopg", database)
        waffle = make_app(folder, WAFFLE_STORE_URL=url)
        stack.callback(waffle.state.store.close)
        engine = sa.create_engine(url)
        stack.callback(engine.dispose)
        role = f"other_{secrets.token_hex(4)}"
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role}")
            for statement in statements(GRANTS.replace("other_service", role)):
                connection.exec_driver_sql(statement)

        def write(values: dict[str, Any]) -> None:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
                for statement in statements(CHANGE):
                    connection.execute(sa.text(statement), values)

        check(waffle, write)
        write(change("LIMIT", None))
        assert waffle.refresh() == 6
        assert waffle.conf["LIMIT"] == 10
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")


def test_another_service_writes_to_redis(folder: Path, redis_server: RedisServer) -> None:
    waffle = make_app(folder, WAFFLE_STORE_URL=redis_server.url)
    keys = [f"{{waffle}}:{name}" for name in ("meta", "raws", "revisions", "history")]

    def write(values: dict[str, Any]) -> None:
        arguments = [values[key] for key in ("name", "raw", "mark", "at", "author")]
        redis_server.ask("EVAL", SCRIPT, len(keys), *keys, *arguments, "waffleconf")

    try:
        check(waffle, write)
    finally:
        waffle.state.store.close()
