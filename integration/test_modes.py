"""The watcher runs once in every worker, and every worker follows, in each mode of uWSGI."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import StartUwsgi
from .support.client import StatusError, call
from .support.find import need_module, need_uwsgi, need_uwsgi_without_threads
from .support.following import (
    assert_every_worker_follows,
    assert_watchers_follow_before_any_request,
)
from .support.outsider import make_outsider
from .support.uwsgi_server import APPS, UwsgiServer
from .support.waiting import eventually

pytestmark = [pytest.mark.short, pytest.mark.uwsgi, pytest.mark.timeout(120)]

LOADING = {
    "lazy-apps": ["--lazy-apps"],
    "prefork": [],
}
each_loading = pytest.mark.parametrize("loading", LOADING.values(), ids=LOADING)


def _replaced(server: UwsgiServer, old: set[int]) -> Callable[[], bool]:
    """Return a probe: every worker is another process than before, and serves."""

    def probe() -> bool:
        new = {report["pid"] for report in server.reports()}
        return not new & old and new == server.worker_pids()

    return probe


def _until_workers(server: UwsgiServer, count: int) -> None:
    server.eventually(f"{count} workers", lambda: len(server.worker_pids()) == count)


@each_loading
def test_each_worker_follows_under_a_master(start_uwsgi: StartUwsgi, loading: list[str]) -> None:
    server = start_uwsgi("--master", *loading, workers=3)
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


@each_loading
def test_each_worker_follows_without_a_master(start_uwsgi: StartUwsgi, loading: list[str]) -> None:
    server = start_uwsgi(*loading, workers=2)
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


def test_single_process_without_a_master_follows(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi(workers=1)
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


@each_loading
def test_each_worker_follows_with_several_threads(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", "--threads=4", *loading)
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


def _failing(port: int) -> None:
    with pytest.raises(StatusError):
        call(port, "/fail")


def _of_head_only(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("HEAD", "/")
    assert connection.getresponse().status == 200
    connection.close()


def _left_in_mid_stream(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
        assert connection.recv(4096)


@pytest.mark.parametrize(
    "options",
    [[], ["--wsgi-env-behaviour=holy"], ["--wsgi-env-behavior=holy"], ["--threads=4"]],
    ids=["cheat", "holy", "holy in American", "threads"],
)
@pytest.mark.parametrize("ask", [_failing, _of_head_only, _left_in_mid_stream])
def test_watcher_applies_a_change_after_a_request_that_ended_oddly(
    start_uwsgi: StartUwsgi, ask: Callable[[int], None], options: list[str]
) -> None:
    server = start_uwsgi("--master", "--lazy-apps", *options, workers=1)
    assert_watchers_follow_before_any_request(server)
    for _ in range(3):
        ask(server.ports[0])
    revision = make_outsider(server.folder).update(SITENAME="After it")
    server.eventually(
        "applied without a request", lambda: server.appliers(revision) >= server.worker_pids()
    )


@each_loading
def test_each_mount_in_an_interpreter_of_its_own_follows(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    """Under prefork uWSGI calls no hook in the second interpreter; its requests start the watcher.

    Source: uWSGI 2.0.21 to 2.0.31, measured.
    """
    server = start_uwsgi(
        "--master",
        "--manage-script-name",
        f"--mount=/one={APPS / 'serve.py'}",
        f"--mount=/two={APPS / 'other.py'}",
        "--callable=app",
        *loading,
    )
    for report in server.reports("/two/"):
        assert report["app"] == "other"
    assert server.get(1, "/two/readyz")["ready"]
    assert_every_worker_follows(server, path="/one")
    assert_every_worker_follows(server, path="/two", app="other")
    assert_every_worker_follows(server, path="/one")
    # Both of each worker: the locks of one process do not keep its interpreters apart.
    answer = server.post(1, {"revision": 1, "timeout_s": 20, "expected": 4}, "/one/wait")
    assert (answer["served"], answer["laggards"]) == (4, []), server.evidence()


@each_loading
def test_each_mount_in_one_interpreter_has_its_watcher(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi(
        "--master",
        "--single-interpreter",
        "--manage-script-name",
        f"--mount=/one={APPS / 'serve.py'}",
        f"--mount=/two={APPS / 'other.py'}",
        "--callable=app",
        *loading,
    )
    assert_watchers_follow_before_any_request(server)
    assert_watchers_follow_before_any_request(server, app="other")
    assert_every_worker_follows(server, path="/one", watchers=2)
    assert_every_worker_follows(server, path="/two", watchers=2, app="other")


def _give_order(fifo: Path, order: bytes) -> None:
    """Write to a master's FIFO; never make one.

    The master removes it and makes it again after each order, and ends if there is one by then.
    """
    descriptor = eventually("a FIFO", lambda: os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    try:
        os.write(descriptor, order)
    finally:
        os.close(descriptor)


@each_loading
def test_worker_added_by_cheaper_serves_current_values_and_follows(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    # Not the usual algorithm, which ends a worker that has been idle for some seconds.
    options = ["--cheaper=1", "--cheaper-initial=1", "--cheaper-algo=manual"]
    server = start_uwsgi("--master", "--master-fifo=fifo", *options, *loading, workers=3)
    _until_workers(server, 1)
    revision = server.post(1, {"SITENAME": "While cheap"})["revision"]
    fifo = server.folder / "fifo"
    for more in (2, 3):
        _give_order(fifo, b"+")
        _until_workers(server, more)
    for report in server.reports():
        assert report["revision"] == revision
        assert report["config"]["SITENAME"] == "While cheap"
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


@each_loading
def test_worker_respawned_by_max_requests_follows(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", "--max-requests=30", "--min-worker-lifetime=1", *loading)
    old = {report["pid"] for report in server.reports()}
    revision = server.post(1, {"SITENAME": "Before"})["revision"]
    # Each look is a request that counts.
    server.eventually("respawned", _replaced(server, old), interval_s=0.05)
    for report in server.reports():
        assert report["revision"] == revision
        assert report["config"]["SITENAME"] == "Before"
    assert_every_worker_follows(server)


@each_loading
def test_worker_that_was_killed_comes_back_with_current_values(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading)
    first, second = (report["pid"] for report in server.reports())
    server.post(2, {"SITENAME": "Before the kill"})
    os.kill(second, signal.SIGKILL)
    revision = server.post(1, {"SITENAME": "After the kill"})["revision"]
    # Its port is open all the time: this request waits for the new worker.
    report = server.get(2)
    assert report["pid"] not in (first, second)
    assert report["revision"] == revision
    assert report["config"]["SITENAME"] == "After the kill"
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


def test_change_stands_when_the_worker_that_made_it_is_killed_at_once(
    start_uwsgi: StartUwsgi,
) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    for number in range(1, 6):
        pid = server.get(2)["pid"]
        server.post(2, {"A": number, "B": number})
        os.kill(pid, signal.SIGKILL)
        for report in server.reports():
            assert report["config"]["A"] == report["config"]["B"] == number
            assert report["conf"]["A"] == report["conf"]["B"] == number
    assert_every_worker_follows(server)


@each_loading
def test_workers_follow_after_a_chain_reload(start_uwsgi: StartUwsgi, loading: list[str]) -> None:
    server = start_uwsgi("--master", "--touch-chain-reload=chain", *loading)
    old = {report["pid"] for report in server.reports()}
    revision = server.post(1, {"SITENAME": "Before"})["revision"]
    # uWSGI compares times in whole seconds, and takes a new file as touched.
    (server.folder / "chain").touch()
    server.eventually("reloaded in a chain", _replaced(server, old), interval_s=0.1)
    for report in server.reports():
        assert report["revision"] == revision
        assert report["config"]["SITENAME"] == "Before"
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


@each_loading
def test_workers_follow_after_the_master_was_reloaded(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading)
    old = {report["pid"] for report in server.reports()}
    revision = server.post(1, {"SITENAME": "Before"})["revision"]
    server.send(signal.SIGHUP)
    server.eventually("reloaded", _replaced(server, old), interval_s=0.1)
    assert server.popen.poll() is None, server.evidence()
    for report in server.reports():
        assert report["revision"] == revision
        assert report["config"]["SITENAME"] == "Before"
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


GEVENT = {
    "patched before the app": ["--gevent-early-monkey-patch"],
    "patched after the app": ["--gevent-monkey-patch"],
    "unpatched": [],
}


@each_loading
@pytest.mark.parametrize("patching", GEVENT.values(), ids=GEVENT)
def test_gevent_worker_follows(
    start_uwsgi: StartUwsgi, patching: list[str], loading: list[str]
) -> None:
    if "gevent" not in need_uwsgi().options:
        pytest.skip("this uWSGI was built without gevent")
    need_module("gevent")
    server = start_uwsgi("--master", "--gevent=20", *patching, *loading)
    assert_watchers_follow_before_any_request(server)
    assert_every_worker_follows(server)


def test_sigint_ends_a_server_with_watchers_at_once(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    assert_every_worker_follows(server)
    server.send(signal.SIGINT)
    # uWSGI would wait 60 s for a worker that does not end.
    server.eventually("ended", lambda: server.ended, deadline_s=30)
    assert server.popen.returncode == 0, server.evidence()
    assert "NO MERCY" not in server.log
    assert server.descendants() == []


@pytest.mark.parametrize("start", [False, True], ids=["not asked", "asked"])
@each_loading
def test_mule_has_a_watcher_only_if_it_starts_one(
    start_uwsgi: StartUwsgi, loading: list[str], start: bool
) -> None:
    env = {"MULE_START": "1"} if start else {}
    server = start_uwsgi("--master", f"--mule={APPS / 'mule.py'}", *loading, env=env)
    told = server.folder / "mule.json"
    report = server.eventually("told by the mule", lambda: json.loads(told.read_text()))
    assert report["status"]["worker_id"] == 0
    assert report["pid"] not in server.worker_pids()
    assert report["watchers"] == int(start), server.evidence()
    assert report["status"]["watcher_alive"] is start
    assert_every_worker_follows(server)
    revision = server.post(1, {"SITENAME": "For the mule"})["revision"]
    pids = server.worker_pids() | ({report["pid"]} if start else set())
    server.eventually("applied by all", lambda: server.appliers(revision) >= pids)
    assert server.appliers(revision) == pids, "a mule without a watcher applied a change"


@each_loading
def test_spooler_follows_by_the_watcher_that_it_starts(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    options = ("--spooler=jobs", "--spooler-python-import=integration.apps.spooler")
    server = start_uwsgi("--master", *options, *loading)
    told = server.folder / "spooler.json"
    report = server.eventually("told by the spooler", lambda: json.loads(told.read_text()))
    assert report["status"]["worker_id"] == 0
    assert report["status"]["watcher_alive"], server.evidence()
    revision = server.post(1, {"SITENAME": "For the spooler"})["revision"]
    server.eventually("applied", lambda: report["pid"] in server.appliers(revision, "spooler"))


def test_prefork_is_a_warning_that_names_lazy_apps(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master")
    server.get(1)
    assert "WaffleWarning" in server.log
    assert "lazy-apps = true" in server.log


def test_lazy_apps_is_started_without_a_warning(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    server.reports()
    assert "WaffleWarning" not in server.log


def test_prefork_ends_the_server_if_lazy_apps_is_required(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", config={"WAFFLE_REQUIRE_LAZY_APPS": True})
    assert server.wait_for_end() != 0
    assert "ConfigurationError" in server.log, server.evidence()
    assert "lazy-apps = true" in server.log, server.evidence()


def test_lazy_apps_serves_if_it_is_required(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", "--lazy-apps", config={"WAFFLE_REQUIRE_LAZY_APPS": True})
    assert_every_worker_follows(server)


@each_loading
def test_server_without_threads_ends_with_an_error_that_names_enable_threads(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    old = need_uwsgi_without_threads()
    server = start_uwsgi("--master", *loading, server=old, threads=False)
    status = server.wait_for_end()
    # Source: changelog of uWSGI 2.0.26. Before, one whose workers can't load it may end with 0.
    assert status != 0 or (loading and old.version_tuple < (2, 0, 26)), server.evidence()
    assert "ConfigurationError" in server.log, server.evidence()
    assert "enable-threads = true" in server.log, server.evidence()


@each_loading
def test_server_without_threads_serves_current_values_if_no_watcher_is_wanted(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    old = need_uwsgi_without_threads()
    config = {"WAFFLE_MULTIPROC": False}
    server = start_uwsgi("--master", *loading, server=old, threads=False, config=config)
    assert_served_at_the_next_request(server)


@each_loading
def test_workers_serve_current_values_without_a_watcher(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading, config={"WAFFLE_MULTIPROC": False})
    assert_served_at_the_next_request(server)


def assert_served_at_the_next_request(server: UwsgiServer) -> None:
    outsider = make_outsider(server.folder)
    for number in range(1, 6):
        revision = outsider.update(A=number, B=number)
        for report in server.reports():
            assert report["revision"] == revision, server.evidence()
            assert report["config"]["A"] == report["conf"]["B"] == number, server.evidence()
            assert report["watchers"] == 0, server.evidence()
