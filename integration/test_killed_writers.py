"""No notice of a committed change is lost, at whatever instant its writer is killed."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from typing import Any

import peewee
import pytest

from uwsgi_waffle.notifiers.postgresql import PostgresqlNotifier
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores.base import Channel
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.sql.changes import SqlStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore

from .support.killed_writers import LATEST_S, Tally, tally
from .support.postgres_server import PostgresServer
from .support.redis_server import RedisServer

pytestmark = pytest.mark.slow

CHANGES = 200
KILLS = 20


def _assert_none_lost(found: Tally) -> None:
    print(f"\n{found}")
    assert found.lost == set(), found
    assert found.changes >= CHANGES, found


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    with postgres.database() as name:
        yield name


def _count(store: SqlStore[Any]) -> Tally:
    store.prepare()
    store.announce_on(Channel("postgresql", "shop"))
    notifier = PostgresqlNotifier(store.listen, store.notify, "shop", shown="db", timeout_s=10.0)
    try:
        return tally(store, notifier, changes=CHANGES, kills=KILLS, order=random.Random(1))
    finally:
        notifier.close()
        store.close()


def test_sqlalchemy_store_loses_no_notice(postgres: PostgresServer, database: str) -> None:
    url = postgres.url("postgresql+psycopg", database)
    _assert_none_lost(_count(AlchemyWaffleStore(url, timeout_s=10.0, write_timeout_s=LATEST_S)))


def test_peewee_store_loses_no_notice(postgres: PostgresServer, database: str) -> None:
    make: Any = peewee.PostgresqlDatabase
    db = make(postgres.url("postgresql", database), prefer_psycopg3=True)
    _assert_none_lost(_count(PeeweeWaffleStore(db, timeout_s=10.0, write_timeout_s=LATEST_S)))


@pytest.mark.redis_server
def test_redis_store_loses_no_notice(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, timeout_s=10.0, write_timeout_s=LATEST_S)
    store.prepare()
    store.announce_on(Channel("redis", "shop", redis_server.url))
    notifier = RedisNotifier(redis_server.url, "shop", timeout_s=10.0)
    try:
        _assert_none_lost(
            tally(store, notifier, changes=CHANGES, kills=KILLS, order=random.Random(1))
        )
    finally:
        notifier._disconnect()
        notifier.close()
        store.close()
