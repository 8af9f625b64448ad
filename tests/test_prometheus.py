"""The workers' numbers as Prometheus text, of several real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("prometheus_client")

ROOT = Path(__file__).parents[1]

# Each process is a Python of its own: prometheus-client reads the environment when it is imported.
PROCESS = """
import os, sys, time
from flask import Flask
from uwsgi_waffle import WaffleConf
from uwsgi_waffle.prometheus import export, metrics_app, metrics_text

app = Flask("shop", instance_path=sys.argv[1])
app.config.update(
    WAFFLE_CONFS={"LIMIT": {"desc": "Limit", "default": 0}},
    WAFFLE_POLL_INTERVAL=0.01,
    WAFFLE_MULTIPROC=True,
    # A process that is stopped within a report would hold the file's lock.
    WAFFLE_REPORT_INTERVAL=0,
)
waffle = WaffleConf(app)
if sys.argv[2] == "early":
    export(app)
    waffle.start()
else:
    waffle.start()
    export(app)
print(os.getpid(), flush=True)
for line in sys.stdin:
    if line == "update\\n":
        print(waffle.update({"LIMIT": os.getpid()}), flush=True)
    elif line == "comment\\n":
        print(metrics_text().decode().splitlines()[0], flush=True)
    elif line == "text\\n":
        got = []
        body = b"".join(metrics_app({}, lambda *answer: got.extend(answer)))
        assert body, got
        assert got[0] == "200 OK", got
        assert dict(got[1])["Content-Type"].startswith("text/plain"), got
        lines = [line for line in body.decode().splitlines() if line.startswith("waffle_")]
        print(";".join(lines), flush=True)
waffle.stop()
"""


def clean_environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PROMETHEUS_")}
    return {**kept, **more}


class Process:
    """A process with an app that exports its metrics."""

    def __init__(self, folder: Path, order: str, env: dict[str, str]) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS, str(folder), order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(**env),
            text=True,
            bufsize=1,
        )
        self.pid = int(self.readline())

    def readline(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def ask(self, command: str) -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{command}\n")
        self.popen.stdin.flush()
        return self.readline().strip()

    def metrics(self) -> dict[str, float]:
        """Return value by metric with its labels."""
        pairs = (line.rsplit(" ", 1) for line in self.ask("text").split(";") if line)
        return {name: float(value) for name, value in pairs}

    def until(self, wanted: dict[str, Any], *, reads: int = 0) -> dict[str, float]:
        """Return the metrics once they are as wanted; a process sets the number of reads last."""
        deadline = time.monotonic() + 20
        while True:
            found = self.metrics()
            if (
                all(found.get(key) == value for key, value in wanted.items())
                and found.get(name("refreshes_total"), 0) >= reads
            ):
                return found
            assert time.monotonic() < deadline, (wanted, found)

    def close(self) -> None:
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()
        self.popen.kill()
        self.popen.wait(10)


def name(metric: str, *, pid: int | None = None) -> str:
    more = "" if pid is None else f',pid="{pid}"'
    return f'waffle_{metric}{{app="shop"{more},worker="0"}}'


def test_one_process_answers_for_all_that_live(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    multiproc = tmp_path / "metrics"
    multiproc.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(multiproc)}
    one, two = Process(folder, "early", env), Process(folder, "late", env)
    try:
        one.until({name("revision", pid=one.pid): 0, name("revision", pid=two.pid): 0})
        assert two.ask("update") == "1"
        found = one.until(
            {name("revision", pid=one.pid): 1, name("revision", pid=two.pid): 1}, reads=4
        )
        assert found[name("failures_total")] == 0
        assert abs(time.time() - found[name("last_read_timestamp_seconds", pid=two.pid)]) < 60
        one.until({name("store_revision", pid=one.pid): 1, name("faults", pid=one.pid): 0})
        states = {key: value for key, value in found.items() if f'pid="{two.pid}",state="' in key}
        assert len(states) == 4
        (valid,) = [key for key, value in states.items() if value]
        assert 'state="VALID"' in valid
        one.until({'waffle_workers{app="shop"}': 2, 'waffle_workers_behind{app="shop"}': 0})

        two.popen.kill()
        two.popen.wait(10)
        found = one.metrics()
        assert name("revision", pid=one.pid) in found
        assert name("revision", pid=two.pid) not in found
        # Counters of the dead still count.
        assert found[name("refreshes_total")] >= 4
    finally:
        one.close()
        two.close()


def test_worker_that_is_stopped_is_behind_and_its_last_read_stays(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    multiproc = tmp_path / "metrics"
    multiproc.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(multiproc)}
    one, two = Process(folder, "early", env), Process(folder, "early", env)
    try:
        one.until({name("revision", pid=one.pid): 0, name("revision", pid=two.pid): 0}, reads=2)
        two.popen.send_signal(signal.SIGSTOP)
        # The signal is only on its way: its threads run on until each has seen it.
        os.waitid(os.P_PID, two.pid, os.WSTOPPED)
        before = one.metrics()[name("last_read_timestamp_seconds", pid=two.pid)]
        one.ask("update")
        found = one.until(
            {name("revision", pid=one.pid): 1, 'waffle_workers_behind{app="shop"}': 1}
        )
        assert found[name("revision", pid=two.pid)] == 0
        # What Prometheus takes from its own clock: it grows, whatever hangs.
        assert found[name("last_read_timestamp_seconds", pid=two.pid)] == before
        two.popen.send_signal(signal.SIGCONT)
        one.until({'waffle_workers_behind{app="shop"}': 0})
    finally:
        two.popen.send_signal(signal.SIGCONT)
        one.close()
        two.close()


def test_text_of_one_process_of_many_says_that_it_is_one(tmp_path: Path) -> None:
    only = Process(tmp_path / "instance", "late", {})
    try:
        only.until({name("revision"): 0.0})
        assert only.ask("comment") == (
            f"# Only this process, pid {only.pid}, is shown; if the server has more: set "
            "PROMETHEUS_MULTIPROC_DIR in the environment of the server to show all."
        )
    finally:
        only.close()


@pytest.mark.parametrize(
    ("workers", "worker_id", "said"),
    [(4, 1, True), (4, 0, True), (4, 2, False), (1, 1, False)],
)
def test_export_without_a_folder_warns_once_where_there_are_many_workers(
    tmp_path: Path, workers: int, worker_id: int, said: bool
) -> None:
    code = f"""
import sys, types, warnings
from flask import Flask
from uwsgi_waffle import WaffleConf, prometheus
from uwsgi_waffle.runtime import Runtime

app = Flask("shop", instance_path={str(tmp_path / "instance")!r})
app.config["WAFFLE_CONFS"] = {{}}
WaffleConf(app)
prometheus.detect = lambda: Runtime(True, {worker_id}, workers={workers})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    prometheus.export(app)
print(*(f"{{each.category.__name__}}: {{each.message}}" for each in caught))
print(prometheus.metrics_text().decode().splitlines()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    warned, first = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert ("WaffleWarning: each answer shows the metrics of 1 of 4" in warned) == said
    assert (f"# Only worker {worker_id} of 4, pid " in first) == (workers == 4)


def test_single_process_needs_no_folder(tmp_path: Path) -> None:
    only = Process(tmp_path / "instance", "late", {})
    try:
        only.until({name("revision"): 0.0})
        only.ask("update")
        only.until({name("revision"): 1.0})
    finally:
        only.close()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "import sys; sys.modules['prometheus_client'] = None; import uwsgi_waffle.prometheus",
            "pip install 'uwsgi-waffle[prometheus]'",
        ),
        (
            "from flask import Flask; from uwsgi_waffle.prometheus import export;"
            "export(Flask('shop'))",
            "'shop' has no WaffleConf: call init_app(app) first",
        ),
    ],
)
def test_what_is_missing_is_named(code: str, text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "ConfigurationError" in done.stderr
    assert text in done.stderr


@pytest.mark.parametrize("folder", ["", "/nowhere"])
def test_folder_that_is_none_is_refused(tmp_path: Path, folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, str(tmp_path / "instance"), "early"],
        env=clean_environment(PROMETHEUS_MULTIPROC_DIR=folder, PYTHONPATH=str(ROOT)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert f"PROMETHEUS_MULTIPROC_DIR names no folder ('{folder}')" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["instance"]


def test_prometheus_client_is_imported_only_when_it_is_used() -> None:
    code = "import sys, uwsgi_waffle; assert 'prometheus_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
