"""What an operator sees and relies on: workers, metrics, last known values, on a real uWSGI."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.ini import snippet_path
from uwsgi_waffle.reporting.host_rows import KEPT_S
from uwsgi_waffle.reporting.uwsgi_metrics import METRICS
from uwsgi_waffle.stores import WorkerReport

from .conftest import StartUwsgi
from .support.outsider import make_outsider
from .support.processes import clean_environment, free_port
from .support.uwsgi_server import ROOT, UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(120)]

#: Short, so that the dead vanish within a test.
REPORTS = {"WAFFLE_REPORT_INTERVAL": 1}
LOADING = {"lazy-apps": ["--lazy-apps"], "prefork": []}
each_loading = pytest.mark.parametrize("loading", LOADING.values(), ids=LOADING)


def kept(server: UwsgiServer) -> list[WorkerReport]:
    """Return all reports, also the row of the host, for which others would wait."""
    store = make_outsider(server.folder).waffle.state.store
    try:
        return store.workers(KEPT_S)
    finally:
        store.close()


def reported(server: UwsgiServer) -> list[WorkerReport]:
    outsider = make_outsider(server.folder)
    try:
        return outsider.waffle.workers()
    finally:
        outsider.app.extensions["waffleconf"].store.close()


def wait_for_workers(server: UwsgiServer, revision: int = 0) -> list[WorkerReport]:
    """Wait until exactly the living workers are reported, at a revision."""

    def probe() -> list[WorkerReport]:
        reports = reported(server)
        assert {report.pid for report in reports} == server.worker_pids(), reports
        assert len(reports) == server.workers, reports
        assert {report.revision for report in reports} == {revision}, reports
        return reports

    found: list[WorkerReport] = server.eventually(
        "every worker in the list, and nobody else", probe, interval_s=0.05
    )
    return found


@each_loading
def test_every_worker_reports_itself_and_follows(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading, workers=4, config=REPORTS)
    reports = wait_for_workers(server)
    assert [report.worker_id for report in reports] == [1, 2, 3, 4]
    for report in reports:
        assert (report.app, report.host) == ("site", os.uname().nodename)
        assert (report.state, report.last_error) == ("VALID", None), server.evidence()
        assert report.staleness_s is not None
    # Without any request: the watchers report.
    revision = make_outsider(server.folder).update(SITENAME="New")
    wait_for_workers(server, revision)


@each_loading
def test_killed_worker_vanishes_and_its_successor_appears(
    start_uwsgi: StartUwsgi, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading, workers=4, config=REPORTS)
    before = wait_for_workers(server)
    killed = before[1].pid
    os.kill(killed, signal.SIGKILL)
    server.eventually(
        "a successor in the list",
        lambda: {report.pid for report in reported(server)} - {each.pid for each in before},
    )
    after = wait_for_workers(server)
    assert killed not in {report.pid for report in after}
    assert [report.worker_id for report in after] == [1, 2, 3, 4]


def test_worker_that_is_stopped_leaves_the_list_at_once(start_uwsgi: StartUwsgi) -> None:
    # An interval of an hour: nothing but its own withdrawal takes a worker off the list.
    config = {"WAFFLE_REPORT_INTERVAL": 3600}
    server = start_uwsgi("--master", "--lazy-apps", workers=2, config=config)
    wait_for_workers(server)
    server.send(signal.SIGINT)
    server.wait_for_end()
    assert kept(server) == [], server.evidence()


def test_server_that_is_stopped_within_its_requests_is_removed_by_its_master(
    start_uwsgi: StartUwsgi,
) -> None:
    """uWSGI runs no exit handler of Python in a worker that it ends within a request."""
    flask = f"{sys.executable} -m flask --app integration.apps.serve"
    server = start_uwsgi(
        "--master",
        f"--exec-as-user-atexit={flask} waffle workers --forget {os.uname().nodename}",
        workers=1,
        config={"WAFFLE_REPORT_INTERVAL": 3600},
        env={"PYTHONPATH": str(ROOT)},
    )
    server.reports()
    server.eventually("its report and the row of its host", lambda: len(kept(server)) == 2)
    with socket.create_connection(("127.0.0.1", server.ports[0])) as client:
        client.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
        assert client.recv(1)
        server.send(signal.SIGINT)
        server.wait_for_end()
    assert kept(server) == [], server.evidence()


def test_command_lists_the_workers_of_a_running_server(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", "--lazy-apps", workers=2, config=REPORTS)
    revision = make_outsider(server.folder).update(SITENAME="New")
    # Makes the app once more, as `flask` does.
    environment = clean_environment(SITE_INSTANCE=str(server.folder), PYTHONPATH=str(ROOT))
    flask = [sys.executable, "-m", "flask", "--app", "integration.apps.serve"]
    done = subprocess.run(
        [*flask, "waffle", "workers", "--json", "--wait", "30", "--expect", "2"],
        env=environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["revision"] == revision
    assert {worker["revision"] for worker in told["workers"]} == {revision}
    assert {worker["pid"] for worker in told["workers"]} == server.worker_pids()


# Metrics.


def stats(port: int) -> dict[str, int]:
    """Return our metrics in the stats server's JSON: value by name."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        chunks = iter(lambda: connection.recv(65_536), b"")
        document: dict[str, Any] = json.loads(b"".join(chunks))
    return {
        name: metric["value"]
        for name, metric in document.get("metrics", {}).items()
        if name.startswith("waffle.")
    }


def assert_metrics_follow(server: UwsgiServer, port: int) -> None:
    def at(revision: int) -> dict[str, int]:
        found = stats(port)
        for worker in (1, 2):
            assert found[f"waffle.worker{worker}.revision"] == revision, found
            # The last one that a worker sets.
            assert found[f"waffle.worker{worker}.last_read"] > 0, found
        return found

    revision = make_outsider(server.folder).update(SITENAME="New")
    found = server.eventually(f"revision {revision} in the stats", lambda: at(revision))
    for worker in (1, 2):
        assert found[f"waffle.worker{worker}.refreshes"] >= 1, found
        assert found[f"waffle.worker{worker}.failures"] == 0, found
        assert abs(time.time() - found[f"waffle.worker{worker}.last_read"]) < 60, found


@each_loading
def test_stats_server_shows_the_metrics_that_the_snippet_declares(
    start_uwsgi: StartUwsgi, loading: list[str], tmp_path: Path
) -> None:
    port = free_port()
    ini = tmp_path / "uwsgi.ini"
    lazy = "true" if loading else "false"
    ini.write_text(f"[uwsgi]\nini = {snippet_path('metrics')}\nlazy-apps = {lazy}\n")
    server = start_uwsgi(f"--ini={ini}", f"--stats=127.0.0.1:{port}", workers=2)
    server.eventually("stats", lambda: stats(port))
    assert set(stats(port)) == {
        f"waffle.worker{worker}.{name}" for worker in range(1, 17) for name in METRICS
    }
    assert_metrics_follow(server, port)
    # 14 workers that do not exist: none is taken for one that is fresh.
    found = stats(port)
    assert {
        found[f"waffle.worker{worker}.{name}"] for worker in range(3, 17) for name in METRICS
    } == {-1}


def test_loop_of_the_users_own_declares_more_workers(
    start_uwsgi: StartUwsgi, tmp_path: Path
) -> None:
    """As the snippet's comment has it."""
    port = free_port()
    ini = tmp_path / "uwsgi.ini"
    ini.write_text(
        f"[uwsgi]\nini = {snippet_path('metrics')}\nfor = 17 18\n"
        "metric = name=waffle.worker%(_).revision,type=absolute\nendfor =\n"
    )
    server = start_uwsgi(f"--ini={ini}", f"--stats=127.0.0.1:{port}", workers=2)
    server.eventually("stats", lambda: "waffle.worker18.revision" in stats(port))


def test_nothing_is_shown_and_nothing_breaks_without_the_declaration(
    start_uwsgi: StartUwsgi,
) -> None:
    port = free_port()
    options = ("--master", "--lazy-apps", f"--stats=127.0.0.1:{port}", "--enable-metrics")
    server = start_uwsgi(*options, workers=2, config=REPORTS)
    revision = make_outsider(server.folder).update(SITENAME="New")
    for report in wait_for_workers(server, revision):
        assert (report.state, report.last_error) == ("VALID", None), server.evidence()
    assert stats(port) == {}
    assert "Traceback" not in server.log, server.evidence()


# Last known values.


def _folder_in_its_place(path: Path) -> None:
    path.mkdir()


def _garbage_in_its_place(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


@contextlib.contextmanager
def database_down(folder: Path, take_down: Callable[[Path], None]) -> Iterator[None]:
    """Replace the database by something else meanwhile.

    Missing it would be made again: then it is a new and empty store, not one that is down.
    """
    path, hidden = folder / "waffle.db", folder / "hidden"
    hidden.mkdir()
    # With its WAL, if a process has it open.
    for part in folder.glob("waffle.db*"):
        part.rename(hidden / part.name)
    take_down(path)
    try:
        yield
    finally:
        for part in folder.glob("waffle.db*"):
            if part.is_dir():
                part.rmdir()
            else:
                part.unlink()
        for part in hidden.iterdir():
            part.rename(folder / part.name)
        hidden.rmdir()


@each_loading
@pytest.mark.parametrize("take_down", [_folder_in_its_place, _garbage_in_its_place])
def test_server_that_starts_while_the_store_is_down_serves_the_last_known_values(
    start_uwsgi: StartUwsgi, loading: list[str], take_down: Callable[[Path], None]
) -> None:
    first = start_uwsgi("--master", *loading, workers=2)
    first.post(1, {"SITENAME": "Kept", "A": 3, "B": 3})
    last = first.folder / "waffle.watch.site.last"
    first.eventually("kept", lambda: json.loads(last.read_text())["revision"] == 1)
    first.stop()

    with database_down(first.folder, take_down):
        second = start_uwsgi("--master", *loading, workers=2)
        for report in second.eventually("reports", second.reports):
            status = report["status"]
            assert report["config"] == {"A": 3, "B": 3, "SITENAME": "Kept"}, second.evidence()
            assert report["conf"] == report["config"], second.evidence()
            assert (report["revision"], status["state"]) == (1, "INTERRUPTED"), second.evidence()
            assert status["source"] == str(last), second.evidence()
            told = f"serving the last known values of revision 1 from {last}"
            assert told in status["failing"]["store"], second.evidence()
    revision = make_outsider(second.folder).update(SITENAME="After")

    def caught_up() -> bool:
        reports = second.reports()
        return all(
            report["status"]["state"] == "VALID"
            and report["status"]["source"] == "store"
            and report["revision"] == revision
            and report["config"]["SITENAME"] == "After"
            for report in reports
        )

    second.eventually("caught up", caught_up)


def test_worker_that_is_replaced_while_the_store_is_down_serves_the_last_known_values(
    start_uwsgi: StartUwsgi,
) -> None:
    """A prefork master read the settings when it started, and hands on what is old by now."""
    server = start_uwsgi("--master", workers=2)
    server.post(1, {"SITENAME": "Since the fork"})
    last = server.folder / "waffle.watch.site.last"
    server.eventually("kept", lambda: json.loads(last.read_text())["revision"] == 1)
    old = server.get(2)["pid"]
    with database_down(server.folder, _folder_in_its_place):
        os.kill(old, signal.SIGKILL)
        server.eventually("replaced", lambda: server.get(2)["pid"] != old)
        report = server.get(2)
        assert report["config"]["SITENAME"] == "Since the fork", server.evidence()
        assert report["status"]["source"] == str(last), server.evidence()
    server.eventually("caught up", lambda: server.get(2)["status"]["source"] == "store")
