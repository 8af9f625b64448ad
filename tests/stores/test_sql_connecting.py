"""Connecting to a server is bounded, whatever it is that hangs, and whatever a driver raises."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import peewee
import pytest
import sqlalchemy as sa

from uwsgi_waffle.errors import StoreError, StoreUnavailable
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.sql.deadline import within
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore

pytestmark = pytest.mark.slow

TIMEOUT_S = 0.2
# What hangs here hangs without an end, so that no load of the machine is taken for it.
BOUND_S = 20.0
BOUNDS: Any = {"timeout_s": TIMEOUT_S, "write_timeout_s": TIMEOUT_S}

Make = Callable[[Callable[[], Any]], Store]


def _alchemy_creator(connect: Callable[[], Any]) -> Store:
    engine = sa.create_engine("postgresql+psycopg://db/site", creator=connect)
    return AlchemyWaffleStore(engine, **BOUNDS)


def _alchemy_listener(connect: Callable[[], Any]) -> Store:
    engine = sa.create_engine("mysql+pymysql://db/site")

    @sa.event.listens_for(engine, "do_connect")
    def _connect(*args: Any) -> Any:
        # As one that asks for a token.
        return connect()

    return AlchemyWaffleStore(engine, **BOUNDS)


def _peewee_subclass(connect: Callable[[], Any]) -> Store:
    class Database(peewee.MySQLDatabase):
        def _connect(self) -> Any:
            return connect()

    make: Any = Database
    return PeeweeWaffleStore(make("site"), **BOUNDS)


MAKES = pytest.mark.parametrize("make", [_alchemy_creator, _alchemy_listener, _peewee_subclass])


def _calls(store: Store) -> dict[str, Callable[[], object]]:
    return {
        "prepare": store.prepare,
        "read": lambda: store.read_since(0, ""),
        "write": lambda: store.write({"A": "1"}),
        "history": store.history,
        "workers": lambda: store.workers(60.0),
    }


@pytest.mark.parametrize("name", ["prepare", "read", "write", "history", "workers"])
@MAKES
def test_function_of_the_user_that_hangs_while_connecting_is_bounded(make: Make, name: str) -> None:
    """As one whose name server does not answer, or that tries one dead address after another."""
    released = threading.Event()

    def hang() -> NoReturn:
        released.wait()
        raise OSError("released")

    call = _calls(make(hang))[name]
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="did not connect in time"):
            call()
        assert time.monotonic() - began < BOUND_S
    finally:
        released.set()


@pytest.mark.parametrize(
    "error",
    [
        # PyMySQL's, at the login of a MySQL 8.
        RuntimeError("'cryptography' package is required for caching_sha2_password"),
        # PyMySQL's, of an answer that is none of a MySQL.
        IndexError("bytearray index out of range"),
        AssertionError("not EOF"),
        ConnectionResetError("reset by peer"),
    ],
)
@MAKES
def test_whatever_is_raised_while_connecting_is_an_outage(make: Make, error: Exception) -> None:
    def fail() -> NoReturn:
        raise error

    for call in _calls(make(fail)).values():
        with pytest.raises(StoreUnavailable, match=str(error).split()[0]):
            call()


@MAKES
def test_wrong_argument_of_connecting_is_an_error_of_the_store(make: Make) -> None:
    def fail() -> NoReturn:
        raise TypeError("connect() got an unexpected keyword argument")

    for call in _calls(make(fail)).values():
        with pytest.raises(StoreError, match="unexpected keyword") as caught:
            call()
        assert not isinstance(caught.value, StoreUnavailable)


@contextlib.contextmanager
def _silent() -> Iterator[int]:
    """Give a port that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


def _drivers(port: int) -> dict[str, Store]:
    postgres: Any = peewee.PostgresqlDatabase
    mysql: Any = peewee.MySQLDatabase
    options = {"host": "127.0.0.1", "port": port, "user": "ann", "password": "secret"}
    return {
        # By several addresses, and with a longer bound of the user's own.
        "psycopg": AlchemyWaffleStore(
            f"postgresql+psycopg://ann:s@/site?host=127.0.0.1:{port},127.0.0.1:{port}"
            "&connect_timeout=60",
            **BOUNDS,
        ),
        "pymysql": AlchemyWaffleStore(f"mysql+pymysql://ann:s@127.0.0.1:{port}/site", **BOUNDS),
        "peewee-postgres": PeeweeWaffleStore(postgres("site", **options), **BOUNDS),
        "peewee-mysql": PeeweeWaffleStore(mysql("site", **options), **BOUNDS),
        "redis": RedisStore(f"redis://:s@127.0.0.1:{port}/0", **BOUNDS),
    }


@pytest.mark.parametrize("driver", list(_drivers(1)))
def test_server_that_never_answers_is_an_outage_within_the_bound(driver: str) -> None:
    with _silent() as port:
        store = _drivers(port)[driver]
        for call in _calls(store).values():
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                call()
            assert time.monotonic() - began < BOUND_S
        store.close()


def test_what_connects_too_late_is_closed() -> None:
    released, discarded = threading.Event(), threading.Event()

    def connect() -> str:
        released.wait()
        return "connection"

    seen: list[str] = []

    def discard(late: str) -> None:
        seen.append(late)
        discarded.set()

    with pytest.raises(TimeoutError):
        within(0.01, connect, discard)
    released.set()
    assert discarded.wait(BOUND_S)
    assert seen == ["connection"]


def test_function_that_connects_sees_the_context_of_its_caller() -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("the caller's")
    assert within(BOUND_S, variable.get, lambda late: None) == "the caller's"


def test_failure_to_connect_keeps_no_caller_alive() -> None:
    class Local:
        """What a caller holds while it connects, as a request's ticket."""

    held: list[weakref.ref[Local]] = []

    def connect() -> None:
        raise ConnectionRefusedError

    def caller() -> None:
        local = Local()
        held.append(weakref.ref(local))
        within(BOUND_S, connect, lambda late: None)

    gc.disable()
    try:
        with contextlib.suppress(ConnectionRefusedError):
            caller()
        assert held[0]() is None
    finally:
        gc.enable()
