"""Two hosts that hear of each other through the PostgreSQL that their settings are in.

Each has a folder, a watch file and workers of its own, as two hosts have; nothing but the database
is common to them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.doctor import examine

from .apps.factory import SETTINGS
from .conftest import StartUwsgi
from .support.find import need_module, need_uwsgi
from .support.following import assert_every_worker_follows
from .support.pgbouncer import Pgbouncer
from .support.postgres_server import PostgresServer
from .support.processes import clean_environment
from .support.uwsgi_server import ROOT, UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(180)]

# So long that only a notice can have brought a change.
NO_RESYNC = {"WAFFLE_RESYNC_INTERVAL": 600}

# Makes a change and dies at once: when the database has committed, before anything else is done.
_KILLED_WRITER = """
import json, os, signal, sys
from flask import Flask
from uwsgi_waffle import WaffleConf
from integration.apps.factory import SETTINGS
app = Flask("site", instance_path=sys.argv[1])
app.config.update(json.loads(sys.argv[2]), WAFFLE_CONFS=SETTINGS)
waffle = WaffleConf(app)
store = waffle.state.store
write = store.write
def and_die(*arguments, **more):
    write(*arguments, **more)
    os.kill(os.getpid(), signal.SIGKILL)
store.write = and_die
with app.app_context():
    waffle.update({"SITENAME": sys.argv[3]})
"""


class Hosts(NamedTuple):
    """Two servers on one database."""

    one: UwsgiServer
    two: UwsgiServer

    def reports(self) -> list[dict[str, Any]]:
        return [*self.one.reports(), *self.two.reports()]


StartHosts = Callable[..., Hosts]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    need_module("psycopg")
    with postgres.database() as name:
        yield name


@pytest.fixture
def config(postgres: PostgresServer, database: str) -> dict[str, Any]:
    return {
        "WAFFLE_WATCHTYPE": "postgresql",
        "WAFFLE_STORE_URL": postgres.url("postgresql+psycopg", database),
        # A loaded machine is no outage.
        "WAFFLE_STORE_TIMEOUT": 5,
        **NO_RESYNC,
    }


@pytest.fixture
def start_hosts(start_uwsgi: StartUwsgi, tmp_path: Path, config: dict[str, Any]) -> StartHosts:
    def start(*options: str, **more: Any) -> Hosts:
        servers = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            own = {**config, **more}
            servers.append(
                start_uwsgi("--master", "--lazy-apps", *options, folder=folder, config=own)
            )
        hosts = Hosts(*servers)
        hosts.reports()
        return hosts

    return start


def _listeners(postgres: PostgresServer, database: str) -> set[int]:
    rows = postgres.ask(
        "SELECT pid FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND query = 'LISTEN \"waffle_changes\"'"
    )
    return {pid for (pid,) in rows}


def _until_listening(hosts: Hosts, postgres: PostgresServer, database: str) -> None:
    hosts.one.eventually("listening", lambda: len(_listeners(postgres, database)) >= 2)


def _until_well(hosts: Hosts) -> None:
    hosts.one.eventually(
        "well", lambda: all(not report["status"]["failing"] for report in hosts.reports())
    )


def _change(host: UwsgiServer, name: str) -> int:
    return int(host.post(1, {"SITENAME": name})["revision"])


def _until_applied(host: UwsgiServer, revision: int) -> None:
    """Wait until every watcher has applied a revision, or a later one, without a request."""
    pids = host.worker_pids()

    def applied() -> bool:
        return pids <= {each["pid"] for each in host.applied() if each["revision"] >= revision}

    host.eventually(f"at revision {revision} in {pids}", applied)


def _assert_a_change_travels(hosts: Hosts) -> None:
    for writer, reader in ((hosts.one, hosts.two), (hosts.two, hosts.one)):
        _until_applied(reader, _change(writer, f"From {writer.folder.name} at {time.time_ns()}"))


def test_hosts_follow_each_other_through_kills_and_restarts(
    start_hosts: StartHosts,
    postgres: PostgresServer,
    database: str,
    config: dict[str, Any],
    tmp_path: Path,
) -> None:
    hosts = start_hosts()
    _until_listening(hosts, postgres, database)
    for number in range(5):
        _assert_a_change_travels(hosts)
        assert len(_listeners(postgres, database)) >= 2, number
    for host in hosts:
        assert_every_worker_follows(host)
    for report in hosts.reports():
        assert report["status"]["notices"] == "postgresql"
    _until_well(hosts)

    # A writer that dies when its change is committed, before it could say so to anybody.
    third = tmp_path / "three"
    third.mkdir()
    name = f"Killed at {time.time_ns()}"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_WRITER, str(third), json.dumps(config), name],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    for host in hosts:
        pids = host.worker_pids()

        def applied(host: UwsgiServer = host, pids: set[int] = pids) -> bool:
            return pids <= {each["pid"] for each in host.applied() if each["new"] == name}

        host.eventually("the change of who was killed", applied)

    # Connections that are ended, while a change is made.
    for pid in _listeners(postgres, database):
        postgres.ask(f"SELECT pg_terminate_backend({pid})")
    _until_applied(hosts.two, _change(hosts.one, "While nobody listened"))
    _until_listening(hosts, postgres, database)
    _assert_a_change_travels(hosts)

    postgres.end()
    postgres.start()
    _until_listening(hosts, postgres, database)
    _assert_a_change_travels(hosts)
    _until_well(hosts)
    assert "s3cret" not in hosts.one.log + hosts.two.log


def test_master_that_forks_its_workers_has_no_thread(
    start_uwsgi: StartUwsgi, config: dict[str, Any]
) -> None:
    # One that runs meanwhile, as it reads the settings, would leave the workers without a lock.
    server = start_uwsgi("--master", config=config)
    reports = server.reports()
    assert all(report["status"]["watcher_alive"] for report in reports), server.evidence()
    threads = {
        task.name: (task / "comm").read_text()
        for task in Path(f"/proc/{server.pid}/task").iterdir()
    }
    assert len(threads) == 1, threads


def test_pooler_of_transactions_is_named_and_the_server_beside_it_is_heard(
    start_uwsgi: StartUwsgi, postgres: PostgresServer, database: str, config: dict[str, Any]
) -> None:
    pooler = Pgbouncer(postgres.port)
    try:
        pooler.start()
        url = pooler.url("postgresql+psycopg", database)
        # So long does it wait for a message that does not come.
        through = {"WAFFLE_STORE_URL": url, "WAFFLE_STORE_TIMEOUT": 1}
        deaf = start_uwsgi(
            *("--master", "--lazy-apps"),
            config={**config, **through},
            workers=1,
        )
        deaf.eventually(
            "named",
            lambda: all(
                "WAFFLE_POSTGRESQL_URL" in report["status"]["failing"].get("postgresql", "")
                for report in deaf.reports()
            ),
        )
        assert "D030" in _found_by_doctor(deaf.folder, config, **through)
        beside = {"WAFFLE_POSTGRESQL_URL": postgres.url("postgresql", database)}
        found = _found_by_doctor(deaf.folder, config, WAFFLE_STORE_URL=url, **beside)
        assert not {"D029", "D030"} & found
    finally:
        pooler.release()


def _found_by_doctor(folder: Path, config: dict[str, Any], **more: Any) -> set[str]:
    app = Flask("site", instance_path=str(folder))
    app.config.update(config, WAFFLE_CONFS=SETTINGS, **more)
    state = WaffleConf(app).state
    try:
        return {finding.id for finding in examine(state).findings}
    finally:
        state.store.close()


@pytest.mark.parametrize("patching", ["--gevent-early-monkey-patch", "--gevent-monkey-patch"])
def test_gevent_workers_hear_of_another_host(
    start_hosts: StartHosts, postgres: PostgresServer, database: str, patching: str
) -> None:
    if "gevent" not in need_uwsgi().options:
        pytest.skip("this uWSGI was built without gevent")
    need_module("gevent")
    hosts = start_hosts("--gevent=20", patching)
    _until_listening(hosts, postgres, database)
    for _ in range(3):
        _assert_a_change_travels(hosts)
    for host in hosts:
        assert_every_worker_follows(host)


def test_frozen_server_is_noticed_by_gevent_workers_whose_driver_waits_in_c(
    start_uwsgi: StartUwsgi, postgres: PostgresServer, config: dict[str, Any]
) -> None:
    """psycopg was imported before gevent patched, so that no greenlet can end what it waits for."""
    if "gevent" not in need_uwsgi().options:
        pytest.skip("this uWSGI was built without gevent")
    need_module("gevent")
    server = start_uwsgi(
        *("--master", "--gevent=20", "--gevent-monkey-patch"),
        config={**config, "WAFFLE_STORE_TIMEOUT": 1, "WAFFLE_RESYNC_INTERVAL": 1},
    )
    server.eventually("an ear", lambda: any(each["status"]["ear"] for each in server.reports()))
    postgres.freeze()
    try:
        server.eventually(
            "no ear, and it is shown why",
            lambda: any(
                "postgresql" in each["status"]["failing"] and not each["status"]["ear"]
                for each in server.reports()
            ),
        )
    finally:
        postgres.thaw()
    server.eventually(
        "well", lambda: all(not each["status"]["failing"] for each in server.reports())
    )
