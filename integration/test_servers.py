"""gunicorn, granian and Celery: the promises of a host hold whichever server runs the app."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from tests.support.pages import blocks
from uwsgi_waffle import ConfigurationError, WaffleConf
from uwsgi_waffle.reporting.host_rows import KEPT_S

from .support.client import call
from .support.find import need_module
from .support.outsider import make_outsider
from .support.processes import Process, clean_environment, free_port
from .support.redis_server import RedisServer
from .support.uwsgi_server import ROOT, TEST_CONFIG

pytestmark = pytest.mark.timeout(180)

WORKERS = 2
GUNICORN = ("gunicorn", "--workers", str(WORKERS), "--bind", "127.0.0.1:{port}")
GRANIAN = (
    *("granian", "--interface", "wsgi", "--workers", str(WORKERS), "--port", "{port}"),
    # Without it the death of one worker ends them all.
    "--respawn-failed-workers",
)
#: name of a way to serve -> module and arguments
SERVERS = {
    "gunicorn-sync": GUNICORN,
    "gunicorn-gthread": (*GUNICORN, "--worker-class", "gthread", "--threads", "4"),
    "gunicorn-gevent": (*GUNICORN, "--worker-class", "gevent"),
    "gunicorn-preload": (*GUNICORN, "--preload"),
    "gunicorn-gevent-preload": (*GUNICORN, "--preload", "--worker-class", "gevent"),
    "granian": GRANIAN,
    "granian-threads": (*GRANIAN, "--blocking-threads", "4"),
}
Reports = list[dict[str, Any]]


class Site:
    """The tests' app under one server, whose workers share a port."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], **config: Any) -> None:
        module = arguments[0]
        need_module(module)
        if "gevent" in arguments:
            need_module("gevent")
        self.folder, self.port = folder, free_port()
        command = [part.format(port=self.port) for part in arguments[1:]]
        self.process = Process(
            module,
            [sys.executable, "-m", module, *command, "integration.apps.serve:app"],
            env=clean_environment(
                SITE_INSTANCE=str(folder),
                SITE_CONFIG=json.dumps({**TEST_CONFIG, **config}),
                PYTHONPATH=str(ROOT),
            ),
            cwd=folder,
            log=folder.parent / f"{module}.log",
            ready=lambda _: len(self.pids()) == WORKERS,
        )
        assert not self.process.ended, self.process.evidence()

    def ask(self, count: int = 8) -> Reports:
        """Return the answers of as many requests at once, by any workers."""
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: call(self.port), range(count)))

    def pids(self) -> set[int]:
        return {report["pid"] for report in self.ask()}

    def by_pid(self) -> dict[int, dict[str, Any]]:
        """Return an answer of each worker."""
        found: dict[int, dict[str, Any]] = {}

        def all_have_answered() -> bool:
            found.update({report["pid"]: report for report in self.ask()})
            for pid in [pid for pid in found if not psutil.pid_exists(pid)]:
                del found[pid]
            return len(found) >= WORKERS

        self.process.eventually("each worker has answered", all_have_answered)
        return found

    def applied(self, revision: int) -> set[int]:
        """Return the processes that have applied a revision."""
        lines = (self.folder / "applied.jsonl").read_text().split("\n")[:-1]
        return {line["pid"] for line in map(json.loads, lines) if line["revision"] >= revision}

    def assert_current(self, name: str) -> None:
        """Change a setting through a worker and from outside; every request must see it."""
        outsider = make_outsider(self.folder)
        for change in (
            lambda value: call(self.port, "/update", {"SITENAME": value})["revision"],
            lambda value: outsider.update(SITENAME=value),
        ):
            for number in range(4):
                value = f"{name} {number}"
                revision = change(value)
                for report in self.ask():
                    assert report["revision"] == revision
                    assert report["config"]["SITENAME"] == report["conf"]["SITENAME"] == value


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def start(arguments: tuple[str, ...], **config: Any) -> Site:
        sites.append(Site(folder, arguments, **config))
        return sites[-1]

    yield start
    for site in sites:
        site.process.stop()


@pytest.mark.parametrize("kind", SERVERS)
def test_every_request_is_current_and_every_worker_follows_without_one(
    serve: Callable[..., Site], kind: str
) -> None:
    site = serve(SERVERS[kind])
    site.assert_current("First")
    # A watcher of its own in each worker, also where the app was loaded before the fork.
    workers = site.by_pid()
    for pid, report in workers.items():
        assert (report["watchers"], report["status"]["watcher_pid"]) == (1, pid)
        assert report["status"]["failing"] == {}
    revision = make_outsider(site.folder).update(SITENAME="Without a request")
    site.process.eventually(
        f"{revision} is applied by all", lambda: workers.keys() <= site.applied(revision)
    )
    # One that dies is replaced by one that is current from its first request on.
    victim = min(workers)
    os.kill(victim, signal.SIGKILL)
    outsider = make_outsider(site.folder)
    revision = outsider.update(SITENAME="While one was dead")

    served: set[int] = set()

    def is_replaced() -> bool:
        found = site.ask()
        served.update(report["revision"] for report in found)
        return len({report["pid"] for report in found} - {victim}) >= WORKERS

    site.process.eventually("the dead one is replaced", is_replaced)
    assert served == {revision}
    site.assert_current("Second")
    assert "WaffleWarning" not in site.process.log


@pytest.mark.parametrize("kind", ["gunicorn-gthread", "gunicorn-gevent", "granian"])
def test_server_that_stops_is_not_waited_for(serve: Callable[..., Site], kind: str) -> None:
    site = serve(SERVERS[kind])
    outsider = make_outsider(site.folder)
    store = outsider.waffle.state.store
    site.process.eventually("reported", lambda: len(store.workers(KEPT_S)) > WORKERS)
    site.process.send(signal.SIGTERM)
    site.process.wait_for_end()
    assert list(store.workers(KEPT_S)) == [], site.process.evidence()


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_workers_of_gunicorn_that_are_recycled_and_reloaded_lose_nothing(
    serve: Callable[..., Site], preload: list[str]
) -> None:
    site = serve((*GUNICORN, *preload, "--max-requests", "12"))
    before = site.pids()
    site.assert_current("Recycled")
    site.process.eventually("all are recycled", lambda: not before & site.pids())
    os.kill(site.process.pid, signal.SIGHUP)
    site.assert_current("Reloaded")


def test_hook_of_gunicorn_starts_each_watcher_before_the_first_request(
    folder: Path, tmp_path: Path
) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "uwsgi_waffle", "hooks", "gunicorn"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(printed)
    site = Site(folder, (*GUNICORN, "--preload", "--config", str(config)))
    try:
        assert site.process.log.count("a process of site starts") >= WORKERS
    finally:
        site.process.stop()


def test_tasks_of_celery_are_current_and_its_processes_follow_without_one(
    folder: Path, redis_server: RedisServer
) -> None:
    need_module("celery")
    from celery import Celery

    arguments = ["--app", "integration.apps.tasks:tasks", "worker", "--loglevel", "INFO"]
    worker = Process(
        "celery",
        [sys.executable, "-m", "celery", *arguments, "--concurrency", str(WORKERS)],
        env=clean_environment(
            SITE_INSTANCE=str(folder),
            SITE_CONFIG=json.dumps(TEST_CONFIG),
            BROKER=redis_server.url,
            PYTHONPATH=str(ROOT),
        ),
        cwd=folder,
        log=folder.parent / "celery.log",
        ready=lambda log: " ready." in log,
        deadline_s=60.0,
    )
    sender = Celery("tests", broker=redis_server.url, backend=redis_server.url)

    def reports(count: int = 8) -> Reports:
        sent = [sender.send_task("report") for _ in range(count)]
        return [one.get(timeout=60) for one in sent]

    try:
        outsider = make_outsider(folder)
        pids: set[int] = set()
        for number in range(6):
            revision = outsider.update(SITENAME=f"Task {number}")
            for report in reports():
                assert (report["revision"], report["config"]) == (revision, f"Task {number}")
                assert report["watchers"] == 1
                pids.add(report["pid"])
        children = {child.pid for child in psutil.Process(worker.pid).children(recursive=True)}
        assert pids <= children
        revision = outsider.update(SITENAME="Without a task")
        applied = folder / "applied.jsonl"

        def have_applied() -> set[int]:
            lines = map(json.loads, applied.read_text().split("\n")[:-1])
            return {line["pid"] for line in lines if line["revision"] >= revision}

        worker.eventually("applied by all", lambda: pids <= have_applied())
        store = outsider.waffle.state.store
        worker.eventually("reported", lambda: len(store.workers(KEPT_S)) > WORKERS)
        worker.send(signal.SIGTERM)
        worker.wait_for_end()
        assert list(store.workers(KEPT_S)) == [], worker.evidence()
    finally:
        worker.stop()
        sender.close()


def test_quart_is_refused_by_a_sentence() -> None:
    need_module("quart")
    from quart import Quart

    with pytest.raises(ConfigurationError, match="Quart is no Flask app: pass the Flask app"):
        WaffleConf(cast(Any, Quart("shop")))


def _page(name: str) -> tuple[str, list[str]]:
    """Return the app of a page about a server, and the commands that it shows."""
    found = list(blocks(ROOT / "docs" / "servers" / f"{name}.md"))
    (app,) = [block.code for block in found if block.language == "python"]
    lines = [
        line for block in found if block.language == "console" for line in block.code.split("\n")
    ]
    return app, [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize(
    ("name", "port_option"),
    [("gunicorn", "--bind=127.0.0.1:{}"), ("granian", "--port={}"), ("flask-run", "--port={}")],
)
def test_page_of_the_server_does_what_it_shows(name: str, port_option: str, tmp_path: Path) -> None:
    app, (install, serve, change, ask) = _page(name)
    (tmp_path / "shop.py").write_text(app)
    assert install.startswith("pip install uwsgi-waffle")
    assert ask.startswith("curl http://127.0.0.1:")
    program, *arguments = shlex.split(serve)
    need_module(program)
    port = free_port()
    environment = clean_environment(PYTHONPATH=str(tmp_path))
    server = Process(
        name,
        [sys.executable, "-m", program, *arguments, port_option.format(port)],
        env=environment,
        cwd=tmp_path,
        log=tmp_path / "server.log",
    )
    try:
        server.eventually("up", lambda: _text(port) == "Hello\n")
        subprocess.run(
            [sys.executable, "-m", *shlex.split(change)], cwd=tmp_path, env=environment, check=True
        )
        assert {_text(port) for _ in range(20)} == {"Sale\n"}
    finally:
        server.stop()


def _text(port: int) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return str(answer.read().decode())


def test_page_of_celery_does_what_it_shows(tmp_path: Path, redis_server: RedisServer) -> None:
    need_module("celery")
    app, (install, serve) = _page("celery")
    assert install.startswith("pip install uwsgi-waffle")
    (tmp_path / "shop.py").write_text(app.replace("redis://localhost:6379/0", redis_server.url))
    program, *arguments = shlex.split(serve)
    environment = clean_environment(PYTHONPATH=str(tmp_path))
    worker = Process(
        "celery",
        [sys.executable, "-m", program, *arguments],
        env=environment,
        cwd=tmp_path,
        log=tmp_path / "celery.log",
        deadline_s=60.0,
    )
    ask = "import shop; print(*(shop.banner.delay().get(timeout=60) for _ in range(8)))"
    change = [sys.executable, "-m", "flask", "--app", "shop", "waffle", "set", "BANNER=Sale"]
    try:
        for expected in ("Hello", "Sale"):
            done = subprocess.run(
                [sys.executable, "-c", ask],
                cwd=tmp_path,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
            assert set(done.stdout.split()) == {expected}
            subprocess.run(change, cwd=tmp_path, env=environment, check=True)
    finally:
        worker.stop()
