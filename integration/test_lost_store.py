"""A real store that loses its data under a running uWSGI: nobody but the one command makes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from .conftest import StartUwsgi
from .support.client import StatusError
from .support.postgres_server import PostgresServer
from .support.processes import clean_environment
from .support.redis_server import RedisServer
from .support.server_contract import drop_tables
from .support.uwsgi_server import ROOT, TEST_CONFIG, UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.slow, pytest.mark.timeout(400)]

LAZY = ["--lazy-apps", "--master"]
PREFORK = ["--master"]


class Lossy(NamedTuple):
    """A store whose data a test can take away.

    :ivar exists: whether there is a store.
    :ivar is_empty: whether there is nothing at all, no report either.
    """

    url: str
    lose: Callable[[], object]
    exists: Callable[[], bool]
    is_empty: Callable[[], bool]


@pytest.fixture(params=["redis", "sqlite", "postgres"])
def lossy(request: pytest.FixtureRequest, folder: Path) -> Iterator[Lossy]:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        yield Lossy(
            f"{redis.url}?prefix=site:",
            lambda: redis.ask("FLUSHALL"),
            lambda: bool(redis.ask("EXISTS", "{site}:meta")),
            lambda: redis.ask("DBSIZE") == 0,
        )
    elif request.param == "sqlite":
        file = folder / "waffle.db"

        def remove() -> None:
            for part in folder.glob("waffle.db*"):
                part.unlink()

        yield Lossy("sqlite:///waffle.db", remove, file.exists, lambda: not file.exists())
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        with postgres.database() as name:
            url = postgres.url("postgresql+psycopg", name)

            def tables() -> list[str]:
                engine = sa.create_engine(url, poolclass=sa.NullPool)
                with engine.connect() as connection:
                    return sa.inspect(connection).get_table_names()

            yield Lossy(
                str(url),
                lambda: drop_tables(url),
                lambda: "waffle_meta" in tables(),
                lambda: tables() == [],
            )


def flask(
    folder: Path, config: dict[str, Any], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the site, as an operator does on the host of the workers."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "integration.apps.serve:app", *arguments],
        env=clean_environment(
            SITE_INSTANCE=str(folder), SITE_CONFIG=json.dumps({**TEST_CONFIG, **config})
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def all_serve(server: UwsgiServer, sitename: str, state: str) -> None:
    def probe() -> bool:
        for report in server.reports():
            assert report["config"]["SITENAME"] == report["conf"]["SITENAME"] == sitename
            assert report["status"]["state"] == state
        return True

    server.eventually(f"every worker serves {sitename!r}, {state}", probe)


@pytest.mark.parametrize("options", [LAZY, PREFORK], ids=["lazy-apps", "prefork"])
def test_values_outlive_their_store_until_the_one_command_makes_it_again(
    lossy: Lossy, options: list[str], start_uwsgi: StartUwsgi, folder: Path
) -> None:
    config = {"WAFFLE_STORE_URL": lossy.url}
    server = start_uwsgi(*options, config=config)
    server.post(1, {"SITENAME": "Kept"})
    all_serve(server, "Kept", "VALID")
    server.eventually("the last known values", lambda: _are_kept(folder, "Kept"))

    lossy.lose()
    all_serve(server, "Kept", "INTERRUPTED")
    # Who starts again, or only looks, makes no store.
    before = server.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    server.eventually("new workers", lambda: len(server.worker_pids() - before) == 2)
    all_serve(server, "Kept", "INTERRUPTED")
    for command in (["waffle", "list"], ["waffle", "history"], ["routes"]):
        flask(folder, config, *command)
    shown = flask(folder, config, "waffle", "doctor")
    assert "flask waffle recreate" in shown.stdout, shown
    assert not lossy.exists()
    with pytest.raises(StatusError, match="flask waffle recreate"):
        server.post(1, {"SITENAME": "Lost"})
    all_serve(server, "Kept", "INTERRUPTED")

    made = flask(folder, config, "waffle", "recreate", "--last-known", "--yes")
    assert made.returncode == 0, made
    all_serve(server, "Kept", "VALID")
    server.post(2, {"SITENAME": "New"})
    all_serve(server, "New", "VALID")


def test_whole_restart_makes_no_store_again_either(
    lossy: Lossy, start_uwsgi: StartUwsgi, folder: Path
) -> None:
    config = {"WAFFLE_STORE_URL": lossy.url}
    server = start_uwsgi(*LAZY, config=config)
    server.post(1, {"SITENAME": "Kept"})
    server.eventually("the last known values", lambda: _are_kept(folder, "Kept"))
    server.stop()
    lossy.lose()
    server = start_uwsgi(*LAZY, config=config)
    all_serve(server, "Kept", "INTERRUPTED")
    assert not lossy.exists()
    made = flask(folder, config, "waffle", "recreate", "--empty", "--yes")
    assert made.returncode == 0, made
    all_serve(server, "Default", "VALID")


def test_commands_that_read_make_nothing_where_there_is_nothing(lossy: Lossy, folder: Path) -> None:
    config = {"WAFFLE_STORE_URL": lossy.url}
    for command in (
        ["waffle", "list"],
        ["waffle", "history"],
        ["waffle", "workers"],
        ["waffle", "doctor"],
        ["waffle", "backup", "-"],
        ["routes"],
    ):
        done = flask(folder, config, *command)
        # The default name of a channel, and the like, are findings.
        assert done.returncode == 0 or command[1] == "doctor", done
        assert lossy.is_empty(), command
    assert list(folder.iterdir()) == []
    done = flask(folder, config, "waffle", "set", "SITENAME=New")
    assert done.returncode == 0, done
    assert lossy.exists()
    assert "New" in flask(folder, config, "waffle", "get", "SITENAME").stdout


def _are_kept(folder: Path, sitename: str) -> bool:
    return any(sitename in path.read_text() for path in folder.glob("*.last"))
