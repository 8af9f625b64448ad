"""Without uWSGI: every request starts with current settings, whatever serves it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .support.client import call
from .support.outsider import make_outsider
from .support.processes import Process, clean_environment, free_port
from .support.uwsgi_server import ROOT, TEST_CONFIG

pytestmark = pytest.mark.timeout(120)

_names = (f"Site {number}" for number in itertools.count(1))


class PythonServer(Process):
    """A server in Python, with one port or more."""

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: list[str],
        ports: list[int],
        said: str,
        config: dict[str, Any],
    ) -> None:
        self.ports = ports
        super().__init__(
            name,
            [sys.executable, *arguments],
            env=clean_environment(
                SITE_INSTANCE=str(folder),
                SITE_CONFIG=json.dumps({**TEST_CONFIG, **config}),
                PYTHONPATH=str(ROOT),
            ),
            cwd=folder,
            log=folder.parent / f"{name}.log",
            ready=lambda log: log.count(said) >= len(ports),
        )
        assert not self.ended, self.evidence()

    def reports(self) -> list[dict[str, Any]]:
        return [call(port) for port in self.ports]


Serve = Callable[..., PythonServer]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    with ExitStack() as stack:
        count = itertools.count(1)

        def start(
            make_arguments: Callable[[list[int]], list[str]],
            said: str,
            *,
            ports: int = 1,
            **config: Any,
        ) -> PythonServer:
            chosen = [free_port() for _ in range(ports)]
            server = PythonServer(
                f"server-{next(count)}",
                folder,
                make_arguments(chosen),
                chosen,
                said,
                config,
            )
            stack.callback(server.stop)
            return server

        yield start


def _flask_run(serve: Serve, *options: str, **config: Any) -> PythonServer:
    def arguments(ports: list[int]) -> list[str]:
        command = ["-m", "flask", "--app", "integration.apps.serve:app", "run"]
        return [*command, "--port", str(ports[0]), *options]

    return serve(arguments, "Running on http", **config)


def _script(serve: Serve, name: str, *, ports: int, **config: Any) -> PythonServer:
    def arguments(ports: list[int]) -> list[str]:
        return ["-m", f"integration.apps.{name}", *map(str, ports)]

    return serve(arguments, "serving on", ports=ports, **config)


def _assert_current_at_each_request(ports: list[int], folder: Path) -> None:
    """Change settings through every port and from outside; each port serves each change."""
    outsider = make_outsider(folder)
    for writer in [*ports, None]:
        name = next(_names)
        if writer is None:
            revision = outsider.update(SITENAME=name)
        else:
            revision = call(writer, "/update", {"SITENAME": name})["revision"]
        for port in ports:
            report = call(port)
            assert report["revision"] == revision
            assert report["config"]["SITENAME"] == name
            assert report["conf"]["SITENAME"] == name


@pytest.mark.parametrize("options", [[], ["--without-threads"], ["--debug"]], ids=" ".join)
def test_flask_run_serves_current_settings_without_a_watcher(
    serve: Serve, folder: Path, options: list[str]
) -> None:
    server = _flask_run(serve, *options)
    server.eventually("up", server.reports)
    _assert_current_at_each_request(server.ports, folder)
    (report,) = server.reports()
    assert report["watchers"] == 0
    assert report["status"]["state"] == "VALID"
    assert "WaffleWarning" not in server.log, server.evidence()


def test_two_flask_runs_on_one_folder_serve_each_others_changes(serve: Serve, folder: Path) -> None:
    servers = [_flask_run(serve), _flask_run(serve)]
    _assert_current_at_each_request([port for s in servers for port in s.ports], folder)


def test_flask_run_has_a_watcher_if_several_processes_are_announced(
    serve: Serve, folder: Path
) -> None:
    server = _flask_run(serve, WAFFLE_MULTIPROC=True)
    (report,) = server.reports()
    assert report["watchers"] == 1
    assert report["status"]["watcher_pid"] == report["pid"]
    revision = make_outsider(folder).update(SITENAME="Without a request")
    applied = folder / "applied.jsonl"
    server.eventually("applied", lambda: f'"revision": {revision}' in applied.read_text())


def test_children_forked_after_the_app_was_loaded_serve_current_settings(
    serve: Serve, folder: Path
) -> None:
    server = _script(serve, "forking", ports=3)
    _assert_current_at_each_request(server.ports, folder)
    reports = server.reports()
    assert {report["pid"] for report in reports} == {p.pid for p in server.descendants()}
    assert len({report["pid"] for report in reports}) == 3
    assert [report["watchers"] for report in reports] == [0, 0, 0]


def test_children_forked_after_the_app_was_loaded_start_a_watcher_each(
    serve: Serve, folder: Path
) -> None:
    server = _script(serve, "forking", ports=3, WAFFLE_MULTIPROC=True)
    # Nobody tells of the fork: the first request of each child starts its watcher.
    reports = server.reports()
    for report in reports:
        assert report["watchers"] == 1
        assert report["status"]["watcher_pid"] == report["pid"]
    pids = {report["pid"] for report in reports}
    assert len(pids) == 3
    revision = make_outsider(folder).update(SITENAME="Without a request")
    applied = folder / "applied.jsonl"

    def appliers() -> set[int]:
        lines = [json.loads(line) for line in applied.read_text().split("\n")[:-1]]
        return {line["pid"] for line in lines if line["revision"] == revision}

    server.eventually(f"applied by {pids}", lambda: appliers() == pids)
    _assert_current_at_each_request(server.ports, folder)


def test_process_that_is_forked_for_one_request_serves_current_settings(
    serve: Serve, folder: Path
) -> None:
    server = _script(serve, "fork_each", ports=1)
    for _ in range(5):
        _assert_current_at_each_request(server.ports, folder)
    assert call(server.ports[0])["pid"] != server.pid
