"""Each packaged snippet, proven by a real uWSGI that is started with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.checks.binary import Server, ask, find_binary
from uwsgi_waffle.checks.model import CheckError
from uwsgi_waffle.ini import SNIPPETS, snippet_path

from .conftest import StartRedis
from .support.find import missing
from .support.processes import Process, clean_environment, free_port

pytestmark = [pytest.mark.short, pytest.mark.uwsgi]

ROOT = Path(__file__).resolve().parent.parent

APP = """
import json, os, sys, threading, time
import uwsgi

STATE = {
    "worker_id": uwsgi.worker_id(),
    "patched": "gevent.monkey" in sys.modules
    and sys.modules["gevent.monkey"].is_module_patched("threading"),
}
sys.modules.setdefault("shared_by_apps", type(sys)("shared_by_apps")).__dict__.setdefault(
    "names", []
).append(__name__)


def tick():
    while True:
        time.sleep(0.01)
        with open("ticks", "a") as ticks:
            ticks.write("x")


threading.Thread(target=tick, daemon=True).start()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    loop = uwsgi.loop
    answer = dict(
        STATE,
        has_threads=bool(uwsgi.has_threads),
        masterpid=uwsgi.masterpid(),
        pid=os.getpid(),
        loop=loop.decode() if loop else None,
        cores=uwsgi.cores,
        apps=sys.modules["shared_by_apps"].names,
    )
    return [json.dumps(answer).encode()]


def create_app():
    return application
"""


REDIS_APP = """
import threading
import redis, uwsgi


def listen():
    pubsub = redis.Redis(unix_socket_path="REDIS_SOCKET").pubsub()
    pubsub.subscribe("waffleconf")
    while True:
        message = pubsub.get_message(timeout=1)
        if message and message["type"] == "subscribe":
            print("SUBSCRIBED", flush=True)
        elif message:
            with open("received", "a") as received:
                received.write(f"{uwsgi.worker_id()} ")


threading.Thread(target=listen, daemon=True).start()


def application(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


@pytest.fixture(scope="module")
def server() -> Server:
    try:
        path = find_binary(None, os.environ)
    except CheckError as exc:
        pytest.fail(str(exc))
    if path is None:
        missing("uWSGI")
    return ask(path, os.environ)


class Running(Process):
    """A uWSGI that is started with a file."""

    def __init__(
        self, server: Server, folder: Path, ini: Path, *, binary_path: bool = True
    ) -> None:
        env = clean_environment()
        if server.needs_binary_path and binary_path:
            env["UWSGI_BINARY_PATH"] = str(Path(server.path).parent / "python")
        command = [server.path]
        if server.python is None:
            # Debian's uWSGI, which runs the system's Python without any virtual environment.
            packages = dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib")))
            command += ["--plugin", "python3", *(f"--pythonpath={path}" for path in packages)]
        command += ["--ini", str(ini)]
        super().__init__("uwsgi", command, env=env, cwd=folder, log=folder / "uwsgi.log")

    def get(self, path: str = "/") -> dict[str, Any]:
        """Return the app's report, once it serves one."""

        def probe() -> dict[str, Any] | None:
            bound = re.search(r"bound to TCP address (\S+:\d+)", self.log)
            if bound is None:
                return None
            try:
                with urllib.request.urlopen(f"http://{bound[1]}{path}", timeout=2) as answer:
                    report: dict[str, Any] = json.load(answer)
                    return report
            except (OSError, ValueError):
                return None

        report: dict[str, Any] = self.eventually("answering", probe)
        return report


Start = Callable[..., Running]


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def start_with(snippet: str, *lines: str, app: str = APP) -> Running:
        if snippet == "gevent" and "gevent" not in server.options:
            pytest.skip("this uWSGI was built without gevent")
        if snippet == "gevent" and not _server_imports(server, "gevent"):
            missing("gevent")
        (tmp_path / "app.py").write_text(app)
        ini = tmp_path / "uwsgi.ini"
        head = ["[uwsgi]", f"ini = {snippet_path(snippet)}"]
        own = ["http-socket = 127.0.0.1:0", "processes = 2", f"pythonpath = {tmp_path}"]
        app_lines = [] if any("mount" in line for line in lines) else ["module = app"]
        ini.write_text("\n".join([*head, *own, *app_lines, *lines, ""]))
        started.append(Running(server, tmp_path, ini))
        return started[-1]

    yield start_with
    for running in started:
        running.stop()


def _server_imports(server: Server, module: str) -> bool:
    beside = Path(server.path).parent / "python3"
    python = str(beside) if beside.exists() and server.python else sys.executable
    command = [python, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_gives_a_master_and_an_app_loaded_in_each_worker(
    start: Start, snippet: str
) -> None:
    running = start(snippet)
    report = running.get()
    assert report["masterpid"] == running.pid, running.log
    assert report["pid"] != running.pid
    assert report["worker_id"] > 0, "the app was loaded before the fork"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_thread_of_the_app_moves_while_no_request_is_served(
    start: Start, snippet: str, tmp_path: Path
) -> None:
    running = start(snippet)
    assert running.get()["has_threads"], running.log
    ticks = tmp_path / "ticks"
    before = ticks.stat().st_size if ticks.exists() else 0
    running.eventually("tick", lambda: ticks.exists() and ticks.stat().st_size > before + 20)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_apps_of_a_worker_share_one_interpreter(start: Start, snippet: str, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(APP)
    app = tmp_path / "app.py"
    running = start(
        snippet,
        "manage-script-name = true",
        f"mount = /a={app}",
        f"mount = /b={tmp_path / 'other.py'}",
    )
    assert len(running.get("/a/")["apps"]) == 2, running.log


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_app_that_can_not_be_loaded_ends_the_server(
    server: Server, start: Start, snippet: str
) -> None:
    running = start(snippet, app="raise RuntimeError('broken app')")
    running.eventually("end", lambda: running.ended)
    # Source: changelog of uWSGI 2.0.26. Before, a master that hears of it by the worker's SIGINT
    # first ends with 0.
    assert running.popen.returncode == 22 or server.version_tuple < (2, 0, 26), running.log
    assert "broken app" in running.log


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_sigterm_ends_the_server(start: Start, snippet: str) -> None:
    running = start(snippet)
    # A signal that arrives while an app is imported is a KeyboardInterrupt of that import.
    running.eventually("apps", lambda: running.log.count("WSGI app 0") == 2)
    running.send(signal.SIGTERM)
    running.eventually("end", lambda: running.ended)
    assert running.popen.returncode == 0, running.log


@pytest.mark.redis_server
def test_redis_snippet_lets_every_worker_receive_a_message_between_requests(
    server: Server,
    start: Start,
    make_redis: StartRedis,
    short_folder: Path,
    tmp_path: Path,
) -> None:
    if not _server_imports(server, "redis"):
        missing("redis")
    redis_socket = short_folder / "redis.sock"
    redis_server = make_redis(socket=redis_socket)
    redis_server.start()
    running = start("redis", app=REDIS_APP.replace("REDIS_SOCKET", str(redis_socket)))
    got = tmp_path / "received"
    running.eventually("subscriptions", lambda: running.log.count("SUBSCRIBED") == 2)
    redis_server.publish("waffleconf", [b"1"])
    running.eventually("message", lambda: got.exists() and len(got.read_text().split()) >= 2)
    assert sorted(got.read_text().split()) == ["1", "2"]


def test_gevent_snippet_patches_before_the_app_is_loaded(start: Start) -> None:
    running = start("gevent")
    report = running.get()
    assert report["loop"] == "gevent", running.log
    assert report["cores"] == 100
    assert report["patched"], running.log


def test_line_after_the_include_wins_over_the_snippet(start: Start) -> None:
    report = start("waffle", "lazy-apps = false").get()
    assert report["worker_id"] == 0


# What the findings of a check claim of uWSGI.


def test_name_with_an_underscore_is_no_option(start: Start) -> None:
    running = start("waffle", "lazy-apps = false", "lazy_apps = true")
    assert running.get()["worker_id"] == 0, running.log


@pytest.mark.parametrize("above", [True, False])
def test_inherited_file_wins_over_an_explicit_line(start: Start, above: bool) -> None:
    own, inherit = "lazy-apps = false", f"inherit = {snippet_path()}"
    report = start("waffle", *((own, inherit) if above else (inherit, own))).get()
    assert report["worker_id"] > 0


def test_broken_app_answers_500_without_need_app(start: Start) -> None:
    running = start("waffle", "need-app = false", app="raise RuntimeError('broken app')")

    def status() -> int:
        bound = re.search(r"bound to TCP address (\S+:\d+)", running.log)
        if bound is None:
            return 0
        try:
            urllib.request.urlopen(f"http://{bound[1]}/", timeout=2)
        except urllib.error.HTTPError as exc:
            exc.close()
            return exc.code
        except OSError:
            return 0
        return 200

    assert running.eventually("answer", status) == 500
    assert not running.ended


def test_fork_hook_aborts_the_workers_of_python_3_13(server: Server, start: Start) -> None:
    if server.python is None or server.python < (3, 13):
        pytest.skip("needs a uWSGI with Python 3.13 or later")
    running = start("waffle", "py-call-osafterfork = true")
    running.eventually("abort", lambda: "_PyRecursiveMutex_Unlock" in running.log)


# What `init` writes, and why.


def _init(server: Server, folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "uwsgi_waffle", "init", "--uwsgi", server.path, *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith("UWSGI_")}
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors, 0 warnings" in done.stdout


def test_ini_that_init_writes_serves_the_app_and_survives_a_reload(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP + "\napp = application\n")
    address = f"127.0.0.1:{free_port()}"
    _init(server, tmp_path, "app:app", "--http-socket", address, "--processes", "2")
    running = Running(server, tmp_path, tmp_path / "uwsgi.ini", binary_path=False)
    try:
        before = running.get()
        assert before["worker_id"] > 0
        os.kill(running.pid, signal.SIGHUP)
        running.eventually("another worker", lambda: running.get()["pid"] != before["pid"])
    finally:
        running.stop()


@pytest.mark.parametrize("wrapper", [True, False])
def test_vassal_of_pyuwsgi_starts_only_with_the_wrapper_that_init_writes(
    server: Server, tmp_path: Path, wrapper: bool
) -> None:
    if not server.needs_binary_path:
        pytest.skip("needs pyuwsgi in a virtual environment")
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    (tmp_path / "app.py").write_text(APP + "\napp = application\n")
    _init(server, tmp_path, "--file", "vassals/shop.ini", "--http-socket", "127.0.0.1:0")
    text = (vassals / "shop.ini").read_text()
    (vassals / "shop.ini").write_text(text.replace("pythonpath = %d", f"pythonpath = {tmp_path}"))
    _init(server, tmp_path, "--emperor", "vassals")
    ini = tmp_path / "emperor.ini"
    if not wrapper:
        ini.write_text(re.sub(r"(?m)^emperor-wrapper.*\n", "", ini.read_text()))
    running = Running(server, tmp_path, ini, binary_path=False)
    try:
        if wrapper:
            assert running.get()["worker_id"] > 0
        else:
            running.eventually("refusal", lambda: "unknown option --ini" in running.log)
    finally:
        running.stop()


def test_example_serves_its_app_with_the_packaged_snippet(server: Server, tmp_path: Path) -> None:
    text = (ROOT / "uwsgi.ini.example").read_text()
    ini = tmp_path / "checkout" / "uwsgi.ini.example"
    (tmp_path / "checkout" / "examples" / "site").mkdir(parents=True)
    (tmp_path / "checkout" / "examples" / "__init__.py").touch()
    (tmp_path / "checkout" / "examples" / "site" / "__init__.py").write_text(APP)
    shutil.copytree(ROOT / "uwsgi_waffle" / "ini", tmp_path / "checkout" / "uwsgi_waffle" / "ini")
    ini.write_text(text.replace("127.0.0.1:8080", "127.0.0.1:0"))
    running = Running(server, tmp_path, ini)
    try:
        report = running.get()
        assert report["worker_id"] > 0, running.log
        assert report["masterpid"] == running.pid
        # The first one may answer while the master says of the last one that it is there.
        spawned = "spawned uWSGI worker"
        running.eventually("all workers", lambda: running.log.count(spawned) >= 4)
        assert running.log.count(spawned) == 4, running.log
    finally:
        running.stop()
