"""Two hosts that hear of each other through a real Redis, and what they do without it.

Two servers with a watch file each, and one database: the one machine of a test stands in for a
database that two hosts share.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .conftest import StartRedis, StartUwsgi
from .support.find import need_module, need_uwsgi
from .support.following import assert_every_worker_follows
from .support.redis_server import RedisServer
from .support.stopwatch import Stopwatch
from .support.uwsgi_server import UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.redis_server, pytest.mark.timeout(180)]

LAZY = ("--master", "--lazy-apps")
# So long that only a notice can have brought a change.
NO_RESYNC = {"WAFFLE_RESYNC_INTERVAL": 600}
REDIS_TIMEOUT_S = 0.5


class Hosts(NamedTuple):
    """Two servers on one database."""

    one: UwsgiServer
    two: UwsgiServer

    def reports(self) -> list[dict[str, Any]]:
        return [*self.one.reports(), *self.two.reports()]


class StartHosts:
    """Starts two hosts on the same Redis."""

    def __init__(self, start_uwsgi: StartUwsgi, tmp_path: Path) -> None:
        self._start_uwsgi = start_uwsgi
        self._tmp_path = tmp_path

    def __call__(self, url: str, *options: str, **config: Any) -> Hosts:
        """Return two servers whose workers were all loaded."""
        servers = []
        for name in ("one", "two"):
            folder = self._tmp_path / name
            folder.mkdir()
            own = {
                "WAFFLE_WATCHTYPE": "redis",
                "WAFFLE_REDIS_URL": url,
                "WAFFLE_REDIS_TIMEOUT": REDIS_TIMEOUT_S,
                "WAFFLE_STORE_URL": f"sqlite:///{self._tmp_path / 'shared.db'}",
                **config,
            }
            servers.append(self._start_uwsgi(*LAZY, *options, folder=folder, config=own))
        hosts = Hosts(*servers)
        hosts.reports()
        return hosts


@pytest.fixture
def start_hosts(start_uwsgi: StartUwsgi, tmp_path: Path) -> StartHosts:
    return StartHosts(start_uwsgi, tmp_path)


def _until_subscribed(redis: RedisServer, count: int) -> None:
    def subscribed() -> bool:
        _, found = redis.ask("PUBSUB", "NUMSUB", "waffleconf")
        assert found == count
        return True

    redis.process.eventually(f"{count} subscribers", subscribed)


def _until_applied(host: UwsgiServer, revision: int) -> None:
    """Wait until every watcher has applied a revision, or a later one, without a request."""
    pids = host.worker_pids()
    host.eventually(f"at revision {revision} in {pids}", lambda: pids <= _pids_at(host, revision))


def _pids_at(host: UwsgiServer, revision: int) -> set[int]:
    return {line["pid"] for line in host.applied() if line["revision"] >= revision}


def _until_served(host: UwsgiServer, worker: int, revision: int) -> None:
    host.eventually("served", lambda: host.get(worker)["revision"] == revision)


def _until_warned(host: UwsgiServer) -> None:
    """Wait for the warning of a server that it can't use Redis."""
    _until_noticed(host)
    host.eventually("warned", lambda: "redis fails: Redis at redis://" in host.log)


def _until_noticed(host: UwsgiServer) -> None:
    """Wait until the ear and its deputy, here all workers, know that Redis fails."""
    host.eventually(
        "noticed", lambda: all("redis" in r["status"]["failing"] for r in host.reports())
    )


def _the_ear(host: UwsgiServer) -> dict[str, Any]:
    """Return the report of the one worker that hears.

    Redis has a subscription before its worker knows, and after a delay there may be two for a
    moment.
    """

    def found() -> dict[str, Any]:
        ears = [each for each in host.reports() if each["status"]["ear"]]
        assert len(ears) == 1, ears
        return ears[0]

    ear: dict[str, Any] = host.eventually("one ear", found)
    return ear


def _change(host: UwsgiServer, name: str, worker: int = 1) -> int:
    return int(host.post(worker, {"SITENAME": name})["revision"])


def _assert_a_change_travels(hosts: Hosts) -> None:
    for writer, reader in ((hosts.one, hosts.two), (hosts.two, hosts.one)):
        _until_applied(reader, _change(writer, f"From {writer.folder.name} at {time.time_ns()}"))


def test_change_reaches_every_worker_of_another_host_through_the_watcher_alone(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, **NO_RESYNC)
    _until_subscribed(redis_server, 2)
    seconds = []
    for number in range(20):
        writer, reader = (hosts.one, hosts.two) if number % 2 else (hosts.two, hosts.one)
        began = time.time()
        revision = _change(writer, f"Number {number}", worker=1 + number // 2 % 2)
        _until_applied(reader, revision)
        applied = [line["at"] for line in reader.applied() if line["revision"] == revision]
        seconds.append(max(applied) - began)
    median_s = sorted(seconds)[10]
    print(f"\nfrom the POST to the last watcher of the other host: {median_s * 1000:.1f} ms")
    # Generous: on an idle machine it takes a few milliseconds, by a resync it would take minutes.
    assert median_s < 1
    for report in hosts.reports():
        assert report["config"]["SITENAME"] == "Number 19"
        assert report["status"]["notices"] == "redis"
    assert_every_worker_follows(hosts.one)
    assert_every_worker_follows(hosts.two)


def test_all_workers_of_a_host_follow_each_other_while_redis_is_used(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url)
    for host in hosts:
        assert_every_worker_follows(host)


@pytest.mark.parametrize("mode", ["prefork", "threads"])
def test_one_worker_subscribes_for_its_host_after_the_fork(
    start_uwsgi: StartUwsgi, redis_server: RedisServer, mode: str
) -> None:
    """A subscription that is shared over a fork gives a message to any one of its workers."""
    options = {"prefork": [], "threads": ["--lazy-apps", "--threads=4"]}[mode]
    config = {"WAFFLE_WATCHTYPE": "redis", "WAFFLE_REDIS_URL": redis_server.url, **NO_RESYNC}
    server = start_uwsgi("--master", *options, config=config, workers=3)
    _until_subscribed(redis_server, 1)
    assert_every_worker_follows(server)
    _the_ear(server)
    _until_subscribed(redis_server, 1)


def test_hosts_of_a_redis_that_restarts_catch_up_and_subscribe_again(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, **NO_RESYNC)
    _until_subscribed(redis_server, 2)
    redis_server.stop()
    # Nobody can be told, but the change stands.
    revision = _change(hosts.one, "While Redis was away")
    assert hosts.one.get(2)["revision"] == revision
    assert "announcing by redis" in hosts.one.get(1)["status"]["failing"]
    redis_server.start()
    # Each confirmation of a subscription makes its worker read what it missed.
    _until_applied(hosts.two, revision)
    _until_subscribed(redis_server, 2)
    _assert_a_change_travels(hosts)


def test_hosts_without_redis_follow_by_resync(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, WAFFLE_RESYNC_INTERVAL=1)
    _until_subscribed(redis_server, 2)
    redis_server.stop()
    _until_applied(hosts.two, _change(hosts.one, "By resync"))
    for report in hosts.two.reports():
        assert report["config"]["SITENAME"] == "By resync"


def test_server_starts_without_redis_says_so_and_catches_up_when_it_appears(
    start_hosts: StartHosts, make_redis: StartRedis
) -> None:
    redis = make_redis()
    hosts = start_hosts(redis.url, **NO_RESYNC)
    for host in hosts:
        _until_warned(host)
        assert "WAFFLE_REDIS_URL" in host.log
        for report in host.reports():
            assert report["config"]["SITENAME"] == "Default"
            assert report["status"]["watcher_alive"]
    _change(hosts.one, "Before Redis")
    redis.start()
    _until_subscribed(redis, 2)
    _assert_a_change_travels(hosts)
    hosts.one.eventually(
        "works", lambda: all("redis" not in r["status"]["failing"] for r in hosts.reports())
    )


def test_death_of_the_ear_is_not_noticed_by_who_asks(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, **NO_RESYNC)
    for round_ in range(3):
        _until_subscribed(redis_server, 2)
        ear = _the_ear(hosts.two)
        os.kill(ear["pid"], signal.SIGKILL if round_ % 2 == 0 else signal.SIGSTOP)
        revision = _change(hosts.one, f"Without an ear {round_}")
        # A worker that is stopped is asked nothing.
        asked = [n for n in (1, 2) if round_ % 2 == 0 or n != ear["worker_id"]]
        for worker in asked:
            _until_served(hosts.two, worker, revision)
        if round_ % 2:
            os.kill(ear["pid"], signal.SIGCONT)
    _until_subscribed(redis_server, 2)
    _assert_a_change_travels(hosts)


def test_flood_of_malformed_messages_is_logged_once_and_survived(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, **NO_RESYNC)
    _until_subscribed(redis_server, 2)
    bad = ["", "not json", "[]", "null", '{"revision": "x"}', '{"revision": -1e999}', "9" * 5000]
    bad += ["[" * 5000, "\x00\xff", json.dumps({"revision": None}), '{"other": 1}']
    # On one connection: on a busy machine 2,000 would take longer than the log is silent.
    flood = (bad[number % len(bad)].encode() for number in range(2000))
    redis_server.publish("waffleconf", flood)
    # Revisions that never were are hints only: the store tells the truth.
    for number in (-1, 0, 10**6, 2**70):
        redis_server.ask("PUBLISH", "waffleconf", json.dumps({"revision": number}))
    revision = _change(hosts.one, "After the flood")
    _until_applied(hosts.two, revision)
    for report in hosts.reports():
        assert report["revision"] == revision
        assert report["watchers"] == 1
    # Each ear that hears of a change has heard all that was published before it.
    _assert_a_change_travels(hosts)
    for host in hosts:
        # By the ear, and not by those that follow it.
        assert host.log.count("ignored a malformed message") == 1, host.evidence()


def test_killed_connections_are_opened_again(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, **NO_RESYNC)
    for _ in range(3):
        _until_subscribed(redis_server, 2)
        redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        # Whether it is announced in the gap or not, nobody may miss it.
        _until_applied(hosts.two, _change(hosts.one, f"Killed at {time.time_ns()}"))
    _until_subscribed(redis_server, 2)
    _assert_a_change_travels(hosts)


def test_frozen_redis_delays_no_request_and_bounds_an_update(
    start_hosts: StartHosts, redis_server: RedisServer
) -> None:
    hosts = start_hosts(redis_server.url, **NO_RESYNC)
    _until_subscribed(redis_server, 2)
    _change(hosts.one, "Before")
    redis_server.freeze()
    with Stopwatch() as watch:
        revision = _change(hosts.one, "While Redis was frozen")
    # Connecting and publishing may each take WAFFLE_REDIS_TIMEOUT.
    watch.assert_within(2 * REDIS_TIMEOUT_S, margin_s=1)
    with Stopwatch() as watch:
        for _ in range(20):
            for worker in (1, 2):
                assert hosts.one.get(worker)["revision"] == revision
                hosts.two.get(worker)
    # 80 requests: had each waited for Redis, it would have taken 40 s.
    watch.assert_within(0, margin_s=80 * REDIS_TIMEOUT_S / 10)
    # Until all watchers know that nobody answers.
    for host in hosts:
        _until_noticed(host)
    redis_server.thaw()
    _until_applied(hosts.two, revision)
    _until_subscribed(redis_server, 2)
    _assert_a_change_travels(hosts)


def test_peer_that_takes_connections_and_never_answers_is_survived(
    start_hosts: StartHosts,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(black_hole.accept()[0])
                except OSError:
                    return

        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        try:
            url = f"redis://127.0.0.1:{black_hole.getsockname()[1]}/0"
            hosts = start_hosts(url, WAFFLE_RESYNC_INTERVAL=1)
            with Stopwatch() as watch:
                revision = _change(hosts.one, "Into the black hole")
            watch.assert_within(2 * REDIS_TIMEOUT_S, margin_s=1)
            _until_applied(hosts.two, revision)
        finally:
            black_hole.shutdown(socket.SHUT_RDWR)
            taking.join(10)
            for connection in taken:
                connection.close()
    assert not taking.is_alive()


def test_change_travels_over_a_unix_socket(
    start_hosts: StartHosts, make_redis: StartRedis, short_folder: Path
) -> None:
    path = short_folder / "redis.sock"
    redis = make_redis(socket=path)
    redis.start()
    hosts = start_hosts(f"unix://{path}", **NO_RESYNC)
    _until_subscribed(redis, 2)
    _assert_a_change_travels(hosts)


def test_password_opens_redis_and_never_reaches_a_log(
    start_hosts: StartHosts, make_redis: StartRedis
) -> None:
    password = "s3cret-of-redis"
    redis = make_redis(password=password)
    redis.start()
    hosts = start_hosts(redis.url, **NO_RESYNC)
    _until_subscribed(redis, 2)
    _assert_a_change_travels(hosts)
    redis.stop()
    _change(hosts.one, "Not announced")
    for host in hosts:
        _until_warned(host)
        assert password not in host.log
        assert password not in json.dumps(host.reports())


def test_wrong_password_is_a_warning_without_it(
    start_hosts: StartHosts, make_redis: StartRedis
) -> None:
    redis = make_redis(password="the-right-one")
    redis.start()
    wrong = redis.url.replace("the-right-one", "the-wrong-one")
    hosts = start_hosts(wrong, WAFFLE_RESYNC_INTERVAL=1)
    for host in hosts:
        _until_warned(host)
    _until_applied(hosts.two, _change(hosts.one, "By resync"))
    for host in hosts:
        assert "the-wrong-one" not in host.log
        assert "the-wrong-one" not in json.dumps(host.reports())


@pytest.mark.parametrize("patching", ["--gevent-early-monkey-patch", "--gevent-monkey-patch", None])
def test_gevent_workers_hear_of_another_host(
    start_hosts: StartHosts, redis_server: RedisServer, patching: str | None
) -> None:
    if "gevent" not in need_uwsgi().options:
        pytest.skip("this uWSGI was built without gevent")
    need_module("gevent")
    options = ["--gevent=20", *([patching] if patching else [])]
    hosts = start_hosts(redis_server.url, *options, **NO_RESYNC)
    _until_subscribed(redis_server, 2)
    for _ in range(3):
        _assert_a_change_travels(hosts)
    for host in hosts:
        assert_every_worker_follows(host)
