"""Fixtures that start real servers and reap them."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.order import slow_first
from uwsgi_waffle.checks.binary import Server

from .support.find import need_uwsgi
from .support.mariadb_server import MariadbServer
from .support.postgres_server import PostgresServer
from .support.redis_server import RedisServer
from .support.said_once import pytest_runtest_makereport  # noqa: F401
from .support.uwsgi_server import UwsgiServer

# Tests that a shell runs in its background ignore SIGINT, and so would every program they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test trusts a public authority. PyMySQL reads the certificates of all of them for each
# connection: 35 ms of processor time of the 40 that a change takes.
os.environ["SSL_CERT_FILE"] = os.devnull

StartUwsgi = Callable[..., UwsgiServer]
StartRedis = Callable[..., RedisServer]


# After pytest's own order, which is by the parameters of fixtures.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See :func:`~tests.support.order.slow_first`."""
    slow_first(items)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The site's instance folder."""
    folder = tmp_path / "instance"
    folder.mkdir()
    return folder


@pytest.fixture
def start_uwsgi(folder: Path) -> Iterator[StartUwsgi]:
    """Return a function that starts a uWSGI with some options; all are stopped at the end."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(
            *options: str,
            workers: int = 2,
            config: dict[str, Any] | None = None,
            env: dict[str, str] | None = None,
            folder: Path = folder,
            server: Server | None = None,
            threads: bool = True,
            wrapper: Sequence[str] = (),
        ) -> UwsgiServer:
            nonlocal count
            count += 1
            running = UwsgiServer(
                f"uwsgi-{count}",
                server or need_uwsgi(),
                folder,
                options,
                workers=workers,
                config=config or {},
                env=env or {},
                threads=threads,
                wrapper=wrapper,
            )
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[StartRedis]:
    """Return a function that makes a redis-server, not started yet; ended at the end."""
    with contextlib.ExitStack() as stack:
        count = 0

        def make(**options: Any) -> RedisServer:
            nonlocal count
            count += 1
            server = RedisServer(tmp_path, name=f"redis-{count}", **options)
            stack.callback(server.stop)
            return server

        yield make


@pytest.fixture
def redis_server(make_redis: StartRedis) -> RedisServer:
    """A redis-server that runs."""
    server = make_redis()
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that runs, shared by all tests: each makes a database of its own."""
    server = PostgresServer(log_statements=True)
    try:
        server.start()
        yield server
    finally:
        server.release()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A MariaDB that runs, likewise."""
    server = MariadbServer()
    try:
        server.start()
        yield server
    finally:
        server.release()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="waffle") as name:
        yield Path(name)
