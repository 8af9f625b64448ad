"""The recordings in docs/operating.md are what a real server and the real commands print.

``WAFFLE_RECORD=1`` writes them again from this run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from uwsgi_waffle.__main__ import ALERTS
from uwsgi_waffle.ini import snippet_path

from .conftest import StartRedis
from .support.find import need_module, need_uwsgi
from .support.processes import Process, clean_environment, free_port
from .support.redis_server import RedisServer
from .support.uwsgi_server import ROOT

pytestmark = [
    *(pytest.mark.uwsgi, pytest.mark.redis_server, pytest.mark.slow),
    pytest.mark.timeout(400),
]

PAGE = ROOT / "docs" / "operating.md"
RECORD = bool(os.environ.get("WAFFLE_RECORD"))
#: how long a command is repeated until it prints what the page has
DEADLINE_S = 60.0
# What a newcomer has, in the test's own environment.
SHIMS = {
    "flask": 'exec {python} -m flask --app app "$@"',
    "python": 'exec {python} "$@"',
    "curl": 'exec {python} {folder}/curl.py "$@"',
}
CURL = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[-1], timeout=30)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(answer.read().decode())
if "-w" in sys.argv:
    print(answer.status)
"""


class Step(NamedTuple):
    command: str
    shown: str


def sessions(page: str) -> list[list[Step]]:
    return [
        [Step(*part.partition("\n")[::2]) for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
        for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    ]


class Site:
    """The app of the page on a real uWSGI, and a shell beside it."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder = folder
        self.redis = redis
        self.port = free_port()
        (code,) = re.findall(r"```python\n(# app\.py\n.*?)```", PAGE.read_text(), re.DOTALL)
        code = code.replace("redis://127.0.0.1:6379/0", redis.url)
        # So that no worker's report ends while a slow machine gets to the next command.
        made = 'app = Flask("shop")\n'
        assert made in code
        code = code.replace(made, f'{made}app.config["WAFFLE_REPORT_INTERVAL"] = 60\n')
        (folder / "app.py").write_text(code)
        tools = folder / "tools"
        tools.mkdir()
        (tools / "curl.py").write_text(CURL)
        for name, line in SHIMS.items():
            filled = line.format(python=shlex.quote(sys.executable), folder=shlex.quote(str(tools)))
            (tools / name).write_text(f"#!/bin/sh\n{filled}\n")
            (tools / name).chmod(0o755)
        metrics = folder / "metrics"
        metrics.mkdir()
        self.env = clean_environment(
            PATH=f"{tools}:{os.environ['PATH']}",
            PYTHONPATH=str(ROOT),
            PROMETHEUS_MULTIPROC_DIR=str(metrics),
            LOGNAME="ann",
        )
        self.env.pop("SUDO_USER", None)
        server = need_uwsgi()
        arguments = [server.path]
        packages = [str(ROOT), str(folder)]
        env = dict(self.env)
        if server.python is None:
            arguments += ["--plugin", "python3"]
            packages += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        if server.needs_binary_path:
            env["UWSGI_BINARY_PATH"] = str(Path(server.path).parent / "python")
        arguments += [f"--pythonpath={path}" for path in packages]
        arguments += ["--ini", str(snippet_path()), "--module=app:app", "--processes=2"]
        arguments += [f"--http-socket=127.0.0.1:{self.port}", "--disable-logging"]
        log = folder / "shop.log"
        started = re.compile(r"worker (\d) of shop starts, pid (\d+)")
        self.server = Process(
            "uwsgi",
            arguments,
            env=env,
            cwd=folder,
            log=log,
            ready=lambda text: len(started.findall(text)) == 2,
        )
        self.pids = {int(number): pid for number, pid in started.findall(self.server.log)}

    def stop(self) -> None:
        self.server.stop()

    def run(self, command: str) -> str:
        """Return what a command prints, with its exit status if that is not 0."""
        if command.startswith("sudo systemctl"):
            _, _, verb, _ = command.split()
            if verb == "start":
                # What the page shows of an outage comes of a longer one.
                said = "reporting to the store fails"
                self.server.eventually(said, lambda: said in self.server.log)
            {"stop": self.redis.stop, "start": self.redis.start}[verb]()
            return ""
        for number, pid in self.pids.items():
            command = command.replace(f"410{number}", pid)
        command = command.replace(":8080/", f":{self.port}/")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )
        status = f"(exit status {done.returncode})\n" if done.returncode else ""
        return self._general(done.stdout + status)

    def _general(self, text: str) -> str:
        """Return a text as the page has it: without what differs from run to run."""
        for number, pid in self.pids.items():
            text = re.sub(rf"\b{pid}\b", f"410{number}", text)
        text = text.replace(str(self.folder), "/srv/shop").replace(os.uname().nodename, "web1")
        text = text.replace(str(ALERTS), "/srv/shop/.venv/…/uwsgi_waffle/reporting/alerts.yml")
        text = text.replace(f":{self.redis.port}", ":6379").replace(f":{self.port}", ":8080")
        text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]?\d*Z?", "2026-11-25 14:02:03", text)
        text = re.sub(r"\b\d+\.\d s\b", "0.4 s", text)
        text = re.sub(r"again after \d+ s", "again after 3 s", text)
        text = re.sub(r'("staleness_s": )[\d.]+', r"\g<1>2.518", text)
        # Whichever worker answers.
        text = re.sub(r'("pid": )410\d(,\s+"worker_id": )\d', r"\g<1>4101\g<2>1", text)
        text = re.sub(r'("read_at": )[\d.]+', r"\g<1>1795615323.41", text)
        text = re.sub(r"(_timestamp_seconds\S+) \S+", r"\1 1.79561532e+09", text)
        text = re.sub(r"((?:refreshes|failures)_total\S+) \S+", r"\1 12.0", text)
        lines = text.splitlines()
        if "worker 2 of shop starts" in text:
            lines = sorted(lines, key=lambda line: " INFO " not in line or "worker 2" in line)
        elif text.startswith("waffle_"):
            lines.sort()
        return "".join(f"{line}\n" for line in aligned(lines))


def aligned(lines: list[str]) -> Iterator[str]:
    """Yield the lines of a table, its columns as wide as what is in them now; others as they are.

    Hosts and numbers have other widths here than on the page.
    """
    cells = [re.split(r"  +", line) for line in lines]
    if not lines or not re.match(r"[A-Z]+  +[A-Z]+  ", lines[0]):
        yield from lines
        return
    rows = [row for row in cells if len(row) == len(cells[0])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(cells[0]))]
    for line, row in zip(lines, cells, strict=True):
        if row not in rows:
            yield line
        else:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(padded).rstrip()


@pytest.fixture
def site(tmp_path: Path, make_redis: StartRedis) -> Iterator[Site]:
    need_module("prometheus_client")
    redis = make_redis(durable=True)
    redis.start()
    folder = tmp_path / "shop"
    folder.mkdir()
    made = Site(folder, redis)
    try:
        yield made
    finally:
        made.stop()


def test_recordings_are_what_the_server_and_the_commands_print(site: Site) -> None:
    page = PAGE.read_text(encoding="utf-8")
    recorded = []
    for session in sessions(page):
        block = ""
        for step in session:
            if RECORD:
                # All is settled by then: a resync comes every 10 s.
                time.sleep(12)
            shown = site.run(step.command)
            # A server takes its time. What only looks may look again.
            deadline = time.monotonic() + DEADLINE_S
            while not RECORD and not is_as(step, shown) and looks_again(step.command):
                assert time.monotonic() < deadline, (step.command, shown, site.server.evidence())
                time.sleep(0.2)
                shown = site.run(step.command)
            block += f"$ {step.command}\n{shown}"
            if RECORD:
                continue
            assert is_as(step, shown), (step.command, shown, site.server.evidence())
        recorded.append(block)
    assert len(recorded) >= 8
    if RECORD:
        blocks = iter(recorded)
        PAGE.write_text(
            re.sub(
                r"(```console\n).*?```",
                lambda match: f"{match[1]}{next(blocks)}```",
                page,
                flags=re.DOTALL,
            ),
            encoding="utf-8",
        )


def is_as(step: Step, shown: str) -> bool:
    """Return whether a command printed what the page has."""
    if step.command.startswith("grep"):
        # Workers that recover at the same instant may both have failed once more.
        return set(step.shown.splitlines()) <= set(shown.splitlines())
    return shown == step.shown


def looks_again(command: str) -> bool:
    # A log, too: its line is written after the state is another.
    return command.startswith(("flask waffle workers", "flask waffle doctor", "curl", "grep"))
