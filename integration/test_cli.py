"""``flask waffle`` beside a running server: a change made there reaches every worker."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.ini import snippet_path

from .conftest import StartUwsgi
from .support.find import missing
from .support.outsider import make_outsider
from .support.processes import Process, clean_environment
from .support.redis_server import RedisServer
from .support.uwsgi_server import ROOT, TEST_CONFIG, UwsgiServer

pytestmark = [pytest.mark.short, pytest.mark.uwsgi, pytest.mark.timeout(120)]

LIMIT_S = 60.0
_numbers = itertools.count(1)


class CommandLine:
    """Runs ``flask`` for the site, as a person beside the server would."""

    def __init__(self, folder: Path, **config: Any) -> None:
        script = Path(sys.executable).parent / "flask"
        if not script.exists():
            missing("the flask script beside this Python")
        self._command = [str(script), "waffle"]
        self._logs = folder.parent
        self.options: dict[str, Any] = {
            "cwd": ROOT,
            "env": clean_environment(
                FLASK_APP="integration.apps.serve",
                SITE_INSTANCE=str(folder),
                SITE_CONFIG=json.dumps({**TEST_CONFIG, **config}),
                LOGNAME="ann",
            ),
        }

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Return what a command printed; check its exit status."""
        done = self._run(arguments)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return f"{done.stdout}{done.stderr}"

    def json(self, *arguments: str) -> Any:
        """Return the JSON that a command printed."""
        done = self._run(arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def _run(self, arguments: Iterable[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            **self.options,
        )

    def start(self, *arguments: str) -> Process:
        """Start a command that goes on meanwhile."""
        log = self._logs / f"flask-{next(_numbers)}.log"
        command = [*self._command, *arguments]
        return Process(" ".join(arguments), command, log=log, **self.options)


@pytest.fixture
def flask(folder: Path) -> CommandLine:
    return CommandLine(folder)


def assert_all_serve(server: UwsgiServer, name: str, revision: int) -> None:
    """Assert that the next request to every worker sees a change."""
    for report in server.reports():
        assert report["config"]["SITENAME"] == name, server.evidence()
        assert report["revision"] == revision, server.evidence()


@pytest.mark.parametrize("loading", [["--lazy-apps"], []], ids=["lazy-apps", "prefork"])
def test_change_of_the_command_line_reaches_every_worker(
    start_uwsgi: StartUwsgi, flask: CommandLine, loading: list[str]
) -> None:
    server = start_uwsgi("--master", *loading, workers=3)
    assert_all_serve(server, "Default", 0)
    assert "revision 1" in flask("set", "SITENAME=One", "A=1", "--reason", "first")
    assert_all_serve(server, "One", 1)
    flask("set", "SITENAME=Two")
    # Without any request, through the watchers.
    pids = server.worker_pids()
    server.eventually("applied by all watchers", lambda: pids <= set(server.appliers(2)))
    assert_all_serve(server, "Two", 2)
    flask("rollback", "1")
    assert_all_serve(server, "One", 3)
    flask("reset", "--all", "--yes")
    assert_all_serve(server, "Default", 4)
    for report in server.reports():
        assert report["status"]["failing"] == {}
        assert report["status"]["state"] == "VALID"


def test_command_line_sees_what_workers_change(start_uwsgi: StartUwsgi, flask: CommandLine) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    server.post(1, {"SITENAME": "One"})
    server.post(2, {"SITENAME": "Two"})
    assert flask("get", "SITENAME").splitlines()[0] == "Two"
    text = flask("history", "SITENAME")
    assert re.search(r'2 .* test +SITENAME +"One" +"Two"', text)
    assert "expected revision 1, but the store is at 2" in flask(
        "set", "A=1", "--expect-revision", "1", status=3
    )
    assert_all_serve(server, "Two", 2)


def test_import_reaches_every_worker_as_one_change(
    start_uwsgi: StartUwsgi, flask: CommandLine, tmp_path: Path
) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    file = tmp_path / "settings.toml"
    file.write_text('A = 7\nB = 7\nSITENAME = "Moved"\n')
    assert "not written" in flask("import", str(file), "--dry-run")
    assert_all_serve(server, "Default", 0)
    flask("import", str(file))
    assert_all_serve(server, "Moved", 1)
    assert flask.json("export") == {
        "A": 7,
        "B": 7,
        "SITENAME": "Moved",
    }


def test_watch_prints_what_workers_change_until_it_is_interrupted(
    start_uwsgi: StartUwsgi, flask: CommandLine
) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    with flask.start("watch") as watch:

        def shows(text: str) -> None:
            watch.eventually(f"printed {text!r}", lambda: text in watch.log)

        shows("watching from revision 0")
        server.post(1, {"SITENAME": "One"})
        shows('revision 1 by test: SITENAME: default → "One"')
        flask("set", "A=5", "--reason", "because")
        shows("revision 2 by ann: A: default → 5 (because)")
        watch.send(signal.SIGINT)
        assert watch.wait_for_end() == 0, watch.evidence()
    assert "Traceback" not in watch.log
    # Nothing of it stays behind in the server.
    assert_all_serve(server, "One", 2)


def test_command_lines_at_the_same_time_lose_nothing(
    start_uwsgi: StartUwsgi, flask: CommandLine
) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(flask.start("set", f"A={number}")) for number in range(1, 7)]
        for command in running:
            assert command.wait_for_end() == 0, command.evidence()
    revisions = {
        int(match[1]) for command in running if (match := re.search(r"revision (\d)", command.log))
    }
    assert revisions == {1, 2, 3, 4, 5, 6}
    newest = flask.json("history", "--json")[0]
    assert newest["revision"] == 6
    for report in server.reports():
        assert str(report["config"]["A"]) == newest["new"]


def test_doctor_leaves_a_running_server_as_it_is(
    start_uwsgi: StartUwsgi, flask: CommandLine, tmp_path: Path
) -> None:
    server = start_uwsgi("--master", "--lazy-apps")
    server.post(1, {"SITENAME": "One"})
    assert "0 errors, 0 warnings" in flask("doctor")
    assert_all_serve(server, "One", 1)
    ini = tmp_path / "uwsgi.ini"
    ini.write_text(snippet_path().read_text() + f"binary-path = {sys.executable}\n")
    assert "0 errors, 0 warnings" in flask("doctor", "--ini", str(ini))


@pytest.mark.redis_server
def test_doctor_tries_redis_for_real(folder: Path, redis_server: RedisServer) -> None:
    flask = CommandLine(
        folder,
        WAFFLE_STORE_URL=redis_server.url,
        WAFFLE_WATCHTYPE="redis",
        WAFFLE_REDIS_URL=redis_server.url,
        WAFFLE_REDIS_CHANNEL="site",
    )
    flask("set", "SITENAME=One")
    assert "0 errors, 0 warnings" in flask("doctor")
    redis_server.stop()
    text = flask("doctor", status=1)
    assert "D002 error" in text
    assert "D012 error" in text


@pytest.mark.redis_server
def test_rollback_on_a_store_that_keeps_a_short_history(
    folder: Path, redis_server: RedisServer
) -> None:
    short = {"WAFFLE_STORE_URL": redis_server.url, "WAFFLE_HISTORY_LIMIT": 10}
    outsider = make_outsider(folder, **short)
    for number in range(1, 41):
        outsider.update(A=number, B=-number)
    flask = CommandLine(folder, **short)
    text = flask("rollback", "1", status=1)
    assert "does not reach back to revision 1: its oldest change is revision 31" in text
    assert "WAFFLE_HISTORY_LIMIT" in text
    assert "revision 41" in flask("rollback", "38")
    assert flask.json("get", "--json", "A", "B") == {"A": 38, "B": -38}


def test_shell_completes_the_names_of_settings(flask: CommandLine) -> None:
    flask.options["env"].update(
        _FLASK_COMPLETE="bash_complete", COMP_WORDS="flask waffle get SI", COMP_CWORD="3"
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "flask")],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        **flask.options,
    )
    assert done.stdout == "plain,SITENAME\n", done.stderr
