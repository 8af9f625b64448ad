"""The ways of docs/backup.md that use a database's own means, under real workers."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartRedis, StartUwsgi
from .support.find import missing, need_module
from .support.mariadb_server import MariadbServer
from .support.postgres_server import PostgresServer
from .support.processes import clean_environment
from .support.uwsgi_server import UwsgiServer
from .test_cli import CommandLine, assert_all_serve

pytestmark = [pytest.mark.uwsgi, pytest.mark.redis_server, pytest.mark.timeout(180)]

LIMIT_S = 60.0
StartHosts = Callable[[dict[str, Any]], list[UwsgiServer]]


def program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    missing(names[0])
    raise AssertionError("missing() skips or fails")


def run(*command: str | Path, given: bytes = b"") -> bytes:
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(
    hosts: Sequence[UwsgiServer],
    flask: CommandLine,
    back_up: Callable[[], object],
    restore: Callable[[], object],
) -> None:
    """Check that workers under load serve what was restored, without a touch by hand.

    :param hosts: the command line runs on the first; all see a restore at their next resync.
    """
    first, *others = hosts

    def all_serve(name: str, revision: int) -> None:
        assert_all_serve(first, name, revision)
        for other in others:
            _until_served(other, name, revision)

    with asked_all_the_time(hosts):
        flask("set", "SITENAME=One")
        back_up()
        flask("set", "SITENAME=Two", "A=2")
        flask("set", "SITENAME=Three")
        all_serve("Three", 3)
        restore()
        for host in hosts:
            _until_served(host, "One", 1)
        # On from there, at revisions that the workers have seen with other content.
        flask("set", "A=7")
        all_serve("One", 2)
        restore()
        flask("set", "SITENAME=Four")
        for host in hosts:
            _until_served(host, "Four", 2)
            assert all(report["config"]["A"] != 7 for report in host.reports())


@contextlib.contextmanager
def asked_all_the_time(hosts: Sequence[UwsgiServer]) -> Iterator[None]:
    """Ask every worker without a pause meanwhile; each request must be answered."""
    stop = threading.Event()
    failures: list[Exception] = []

    def ask(host: UwsgiServer, worker: int) -> None:
        while not stop.is_set():
            try:
                host.get(worker)
            except Exception as exc:
                failures.append(exc)
            time.sleep(0.01)

    threads = [
        threading.Thread(target=ask, args=(host, worker))
        for host in hosts
        for worker in range(1, host.workers + 1)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.fixture
def start_hosts(start_uwsgi: StartUwsgi, folder: Path, tmp_path: Path) -> StartHosts:
    """Return a function that starts two hosts on one store, which hear nothing of each other."""

    def start(config: dict[str, Any]) -> list[UwsgiServer]:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        return [
            start_uwsgi(
                "--master",
                "--lazy-apps",
                folder=place,
                config={**config, "WAFFLE_RESYNC_INTERVAL": 2},
            )
            for place in (folder, elsewhere)
        ]

    return start


def _until_served(server: UwsgiServer, name: str, revision: int) -> None:
    server.eventually(f"{name} is served", lambda: _serve(server, name, revision))


def _serve(server: UwsgiServer, name: str, revision: int) -> bool:
    return all(
        (report["config"]["SITENAME"], report["revision"]) == (name, revision)
        for report in server.reports()
    )


def test_sqlite_file_is_restored_under_running_workers(
    start_uwsgi: StartUwsgi, folder: Path, tmp_path: Path
) -> None:
    sqlite3 = program("sqlite3")
    # Its file is for one host only.
    server = start_uwsgi("--master", "--lazy-apps", workers=3)
    database, copy = folder / "waffle.db", tmp_path / "copy.db"
    check(
        [server],
        CommandLine(folder),
        lambda: run(sqlite3, database, f".backup {copy}"),
        lambda: run(sqlite3, database, f".restore {copy}"),
    )


def test_sqlite_file_is_replaced_while_the_workers_are_stopped(
    start_uwsgi: StartUwsgi, folder: Path, tmp_path: Path
) -> None:
    sqlite3 = program("sqlite3")
    flask = CommandLine(folder)
    flask("set", "SITENAME=One")
    database, copy = folder / "waffle.db", tmp_path / "copy.db"
    run(sqlite3, database, f"VACUUM INTO '{copy}'")
    flask("set", "SITENAME=Two")
    for name in ("waffle.db-wal", "waffle.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(copy, folder / "new.db")
    (folder / "new.db").replace(database)
    server = start_uwsgi("--master", "--lazy-apps", workers=3)
    assert_all_serve(server, "One", 1)
    flask("set", "A=2")
    assert_all_serve(server, "One", 2)


def test_redis_is_restored_from_its_file(
    start_hosts: StartHosts, folder: Path, tmp_path: Path, make_redis: StartRedis
) -> None:
    redis = make_redis()
    redis.start()
    config = {"WAFFLE_STORE_URL": redis.url}
    hosts = start_hosts(config)
    file, copy = tmp_path / "dump.rdb", tmp_path / "copy.rdb"

    def back_up() -> None:
        redis.ask("SAVE")
        shutil.copy(file, copy)

    def restore() -> None:
        redis.stop()
        shutil.copy(copy, file)
        redis.start()

    check(hosts, CommandLine(folder, **config), back_up, restore)


def psycopg_connection(postgres: PostgresServer) -> Any:
    import psycopg

    return psycopg.connect(postgres.url("postgresql", "postgres"))


def major_version(program: str) -> int:
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return int(printed.stdout.split(")")[1].split(".")[0])


def test_postgres_is_restored_from_a_dump(
    start_hosts: StartHosts, folder: Path, tmp_path: Path, postgres: PostgresServer
) -> None:
    need_module("psycopg")
    dump, psql = program("pg_dump"), program("psql")
    with contextlib.closing(psycopg_connection(postgres)) as connection:
        if connection.info.server_version // 10000 > major_version(dump):
            pytest.skip("pg_dump is older than the server")
    copy = tmp_path / "copy.sql"
    with postgres.database() as name:
        plain = postgres.url("postgresql", name)
        config = {"WAFFLE_STORE_URL": postgres.url("postgresql+psycopg", name)}
        check(
            start_hosts(config),
            CommandLine(folder, **config),
            lambda: run(dump, "--clean", "--if-exists", "--file", copy, plain),
            lambda: run(psql, "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", copy, plain),
        )


def test_mariadb_is_restored_from_a_dump(
    start_hosts: StartHosts, folder: Path, tmp_path: Path, mariadb: MariadbServer
) -> None:
    need_module("pymysql")
    dump, client = program("mariadb-dump", "mysqldump"), program("mariadb", "mysql")
    copy = tmp_path / "copy.sql"
    with mariadb.database() as name:
        config = {"WAFFLE_STORE_URL": mariadb.url(database=name)}
        hosts = start_hosts(config)
        login = ["-h", "127.0.0.1", "-P", str(mariadb.port), "-u", "waffle", "-ps3cret"]
        check(
            hosts,
            CommandLine(folder, **config),
            # A worker may report itself between the making of a table and its rows.
            lambda: copy.write_bytes(run(dump, *login, "--single-transaction", "--replace", name)),
            lambda: run(client, *login, name, given=copy.read_bytes()),
        )
