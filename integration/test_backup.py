"""Backup, restore and copy between real stores, under real workers and on two hosts."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import peewee
import pytest

from tests.support.copying import check_copy
from uwsgi_waffle.operations import copy
from uwsgi_waffle.stores import Dump, Store, store_from_url
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.testing import LoadContract

from .conftest import StartUwsgi
from .support.find import need_module
from .support.uwsgi_server import UwsgiServer
from .test_backup_ways import asked_all_the_time
from .test_cli import CommandLine, assert_all_serve

pytestmark = [pytest.mark.redis_server, pytest.mark.timeout(180)]

MakeUrl = Callable[[str], str]
MakeStore = Callable[..., Store]
#: the stores that a URL names, and peewee's beside them
URLS = ("sqlite", "redis", "postgres", "mariadb")
KINDS = (*URLS, "peewee-postgres")


@pytest.fixture
def make_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeUrl]:
    """Return what makes an empty store of a kind and returns its URL."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def make(kind: str) -> str:
            number = next(numbers)
            if kind == "sqlite":
                return f"sqlite:////{tmp_path}/{number}.db"
            if kind == "redis":
                return f"{request.getfixturevalue('redis_server').url}?prefix=store{number}:"
            if kind == "mariadb":
                need_module("pymysql")
                server = request.getfixturevalue("mariadb")
                return str(server.url(database=stack.enter_context(server.database())))
            need_module("psycopg")
            server = request.getfixturevalue("postgres")
            scheme = "postgresql" if kind == "peewee-postgres" else "postgresql+psycopg"
            return str(server.url(scheme, stack.enter_context(server.database())))

        yield make


@pytest.fixture
def make_store(make_url: MakeUrl, tmp_path: Path) -> Iterator[MakeStore]:
    made: list[Store] = []

    def make(kind: str, url: str = "") -> Store:
        url = url or make_url(kind)
        if kind == "peewee-postgres":
            database: Any = peewee.PostgresqlDatabase
            made.append(PeeweeWaffleStore(database(url)))
        else:
            made.append(store_from_url(url, folder=tmp_path, timeout_s=2.0, write_timeout_s=20.0))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_any_store_is_copied_to_any_other_with_its_history(
    make_store: MakeStore, source: str, target: str
) -> None:
    check_copy(make_store(source), make_store(target))


class TestLoad(LoadContract):
    @pytest.fixture(params=KINDS)
    def store(self, request: pytest.FixtureRequest, make_store: MakeStore) -> Store:
        return make_store(request.param)


@pytest.mark.uwsgi
@pytest.mark.slow
@pytest.mark.parametrize("kind", URLS)
def test_every_worker_serves_what_was_restored_from_its_next_request_on(
    start_uwsgi: StartUwsgi, folder: Path, tmp_path: Path, make_url: MakeUrl, kind: str
) -> None:
    config = {"WAFFLE_STORE_URL": make_url(kind)}
    server = start_uwsgi("--master", "--lazy-apps", workers=3, config=config)
    flask = CommandLine(folder, **config)
    flask("set", "SITENAME=One")
    flask("backup", f"{tmp_path}/one", "--secrets")
    flask("set", "SITENAME=Two", "A=2")
    assert_all_serve(server, "Two", 2)
    assert "restored" in flask("restore", f"{tmp_path}/one", "--yes")
    assert_all_serve(server, "One", 1)
    # The revision comes back, with other content than it had.
    flask("set", "SITENAME=Three")
    assert_all_serve(server, "Three", 2)
    flask("backup", f"{tmp_path}/three")
    flask("set", "SITENAME=Four")
    flask("restore", f"{tmp_path}/three", "--yes")
    flask("set", "A=5")
    assert_all_serve(server, "Three", 3)
    assert "Four" not in flask("history")


@pytest.mark.uwsgi
@pytest.mark.parametrize("target", KINDS)
def test_workers_under_load_serve_what_any_store_was_copied_to_theirs(
    start_uwsgi: StartUwsgi,
    tmp_path: Path,
    make_url: MakeUrl,
    make_store: MakeStore,
    target: str,
) -> None:
    url = make_url(target)
    theirs = make_store(target, url)
    theirs.prepare()
    config = {"SITE_PEEWEE" if target.startswith("peewee") else "WAFFLE_STORE_URL": url}
    hosts = []
    # SQLite is for one host only.
    for name in ("one", "two") if target != "sqlite" else ("one",):
        (tmp_path / name).mkdir()
        hosts.append(
            start_uwsgi(
                "--master",
                "--lazy-apps",
                folder=tmp_path / name,
                config={**config, "WAFFLE_RESYNC_INTERVAL": 1},
            )
        )
    with asked_all_the_time(hosts):
        for number, kind in enumerate(KINDS):
            theirs.write({"SITENAME": '"Theirs"', "A": str(number)})
            source = make_store(kind)
            source.prepare()
            # Once to a higher revision than the workers are at, and once to a lower one.
            for count in range(1, 2 + 2 * number * (number % 2)):
                source.write({"SITENAME": f'"{kind} {count}"'})
            dump = copy(source, theirs, overwrite=True)
            for host in hosts:
                host.eventually(f"what {kind} had is served", functools.partial(_serve, host, dump))


@pytest.mark.uwsgi
def test_restore_under_load_leaves_no_worker_behind(
    start_uwsgi: StartUwsgi, folder: Path, tmp_path: Path
) -> None:
    server = start_uwsgi("--master", "--lazy-apps", workers=3)
    flask = CommandLine(folder)
    flask("set", "SITENAME=One")
    flask("backup", f"{tmp_path}/one")
    with asked_all_the_time([server]):
        for number in range(5):
            flask("set", f"SITENAME=N{number}")
            flask("restore", f"{tmp_path}/one", "--yes")
            assert_all_serve(server, "One", 1)


@pytest.mark.uwsgi
def test_restore_on_one_host_reaches_the_workers_of_another(
    start_uwsgi: StartUwsgi, tmp_path: Path, make_url: MakeUrl, redis_server: Any
) -> None:
    config = {
        "WAFFLE_STORE_URL": make_url("postgres"),
        "WAFFLE_WATCHTYPE": "redis",
        "WAFFLE_REDIS_URL": redis_server.url,
        "WAFFLE_RESYNC_INTERVAL": 3,
    }
    servers: list[UwsgiServer] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        servers.append(
            start_uwsgi("--master", "--lazy-apps", folder=tmp_path / name, config=config)
        )
    flask = CommandLine(tmp_path / "one", **config)
    flask("set", "SITENAME=One")
    flask("backup", f"{tmp_path}/backup")
    flask("set", "SITENAME=Two")
    flask("backup", f"{tmp_path}/backup2")
    servers[1].eventually("followed", lambda: _all(servers[1], "Two"))
    flask("restore", f"{tmp_path}/backup", "--yes")
    assert_all_serve(servers[0], "One", 1)
    servers[1].eventually("restored there", lambda: _all(servers[1], "One"))
    # To the very revision that all are at, with other content.
    flask("set", "SITENAME=Another")
    servers[1].eventually("followed again", lambda: _all(servers[1], "Another"))
    flask("restore", f"{tmp_path}/backup2", "--yes")
    assert_all_serve(servers[0], "Two", 2)
    servers[1].eventually("restored there again", lambda: _all(servers[1], "Two"))


def _all(server: UwsgiServer, name: str) -> bool:
    return all(report["config"]["SITENAME"] == name for report in server.reports())


def _serve(server: UwsgiServer, dump: Dump) -> bool:
    expected = (dump.revision, 0, json.loads(dump.raws["SITENAME"]))
    return all(
        (report["revision"], report["config"]["A"], report["config"]["SITENAME"]) == expected
        for report in server.reports()
    )
