"""Two hosts with one real PostgreSQL and one real Redis between them.

Each has a folder, a watch file and workers of its own, as two hosts have; nothing but the
database and Redis is common to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .conftest import StartUwsgi
from .support.client import StatusError
from .support.find import need_module
from .support.postgres_server import PostgresServer
from .support.redis_server import RedisServer
from .support.stopwatch import Stopwatch
from .support.uwsgi_server import UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.redis_server, pytest.mark.timeout(180)]

STORE_TIMEOUT_S = 0.5


class Hosts(NamedTuple):
    """Two servers of two workers each."""

    one: UwsgiServer
    two: UwsgiServer

    def reports(self) -> list[dict[str, Any]]:
        return [*self.one.reports(), *self.two.reports()]

    def change(self, name: str) -> int:
        """Change a setting on the first host; return the revision."""
        return int(self.one.post(1, {"SITENAME": name})["revision"])

    def until_everywhere(self, revision: int) -> None:
        """Wait until every other worker has applied a revision, or a later one, unasked."""
        for host in self:
            pids = host.worker_pids()

            def applied(host: UwsgiServer = host, pids: set[int] = pids) -> bool:
                return pids <= {
                    line["pid"] for line in host.applied() if line["revision"] >= revision
                }

            host.eventually(f"at revision {revision} in {pids}", applied)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    need_module("psycopg")
    with postgres.database() as name:
        yield postgres.url("postgresql+psycopg", name)


@pytest.fixture
def hosts(
    start_uwsgi: StartUwsgi, tmp_path: Path, redis_server: RedisServer, database: str
) -> Hosts:
    servers = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        config = {
            "WAFFLE_WATCHTYPE": "redis",
            "WAFFLE_REDIS_URL": redis_server.url,
            "WAFFLE_REDIS_TIMEOUT": 0.5,
            "WAFFLE_STORE_URL": database,
            "WAFFLE_STORE_TIMEOUT": STORE_TIMEOUT_S,
            "WAFFLE_RESYNC_INTERVAL": 2,
        }
        servers.append(start_uwsgi("--master", "--lazy-apps", folder=folder, config=config))
    hosts = Hosts(*servers)
    # On a busy machine a first connection may take longer than its bound.
    hosts.one.eventually("well", lambda: all(not r["status"]["failing"] for r in hosts.reports()))
    return hosts


def test_change_on_one_host_reaches_every_worker_of_the_other(hosts: Hosts) -> None:
    hosts.until_everywhere(hosts.change("Both"))
    for report in hosts.reports():
        assert report["config"]["SITENAME"] == "Both"


def test_without_redis_a_change_arrives_within_the_resync_interval(
    hosts: Hosts, redis_server: RedisServer
) -> None:
    redis_server.stop()
    with Stopwatch() as watch:
        hosts.until_everywhere(hosts.change("By resync"))
    # The interval of 2 s; a lost message costs no more.
    watch.assert_within(2, margin_s=4)
    redis_server.start()
    hosts.one.eventually("heard again", lambda: _all_valid(hosts))


def test_without_postgres_both_hosts_keep_serving_and_catch_up(
    hosts: Hosts, postgres: PostgresServer
) -> None:
    before = hosts.change("Before the outage")
    hosts.until_everywhere(before)
    postgres.stop()
    hosts.one.eventually("noticed", lambda: _all_interrupted(hosts))
    with Stopwatch() as watch:
        for _ in range(10):
            for report in hosts.reports():
                assert report["config"]["SITENAME"] == "Before the outage"
                assert report["revision"] == before
    # 40 requests: had each waited for the store, it would have taken 20 s.
    watch.assert_within(0, margin_s=40 * STORE_TIMEOUT_S / 4)
    with pytest.raises(StatusError, match=r"status 409: .*StoreUnavailable") as refused:
        hosts.change("Into the void")
    assert "s3cret" not in hosts.one.log + hosts.two.log + str(refused.value)

    postgres.start()
    hosts.one.eventually("caught up", lambda: _all_valid(hosts))
    hosts.until_everywhere(hosts.change("After the outage"))
    for report in hosts.reports():
        assert report["config"]["SITENAME"] == "After the outage"


def test_frozen_postgres_delays_no_more_than_a_request_or_two(
    hosts: Hosts, postgres: PostgresServer
) -> None:
    revision = hosts.change("Before the frost")
    hosts.until_everywhere(revision)
    postgres.freeze()
    try:
        hosts.one.eventually("noticed", lambda: _all_interrupted(hosts))
        with Stopwatch() as watch:
            for _ in range(10):
                for report in hosts.reports():
                    assert report["config"]["SITENAME"] == "Before the frost"
        watch.assert_within(0, margin_s=40 * STORE_TIMEOUT_S / 4)
    finally:
        postgres.thaw()
    hosts.one.eventually("caught up", lambda: _all_valid(hosts))
    hosts.until_everywhere(hosts.change("After the frost"))


def _all_valid(hosts: Hosts) -> bool:
    return all(report["status"]["state"] == "VALID" for report in hosts.reports())


def _all_interrupted(hosts: Hosts) -> bool:
    return all("store" in report["status"]["failing"] for report in hosts.reports())
