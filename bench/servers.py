"""The real servers of a benchmark: uWSGI workers, Redis, raw subscribers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from integration.support.find import need_redis, need_uwsgi
from integration.support.processes import clean_environment, free_port
from uwsgi_waffle.ini import snippet_path

START_S = 30.0


@contextlib.contextmanager
def spawned(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[int]:
    """Run a server in a process group of its own; yield its pid, and end the whole group."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            env=dict(env),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def uwsgi(folder: Path, *, workers: int, kind: str, **env: str) -> Iterator[list[int]]:
    """Run the benchmarks' app under uWSGI; yield the pids of its workers, once they serve."""
    ports = [free_port() for _ in range(workers)]
    addresses = []
    for number, port in enumerate(ports):
        addresses += [
            "--http-socket",
            f"127.0.0.1:{port}",
            "--map-socket",
            f"{number}:{number + 1}",
        ]
    arguments = [
        need_uwsgi().path,
        *("--ini", str(snippet_path("waffle"))),
        *("--pythonpath", str(Path(__file__).parents[1])),
        *("--module", "bench.app:app", "--processes", str(workers), "--disable-logging"),
        *addresses,
    ]
    environment = clean_environment(BENCH_FOLDER=str(folder), BENCH_KIND=kind, **env)
    log = folder / f"uwsgi-{kind}.log"
    with spawned(arguments, environment, log) as pid:
        for port in ports:
            _await_answer(port, log)
        yield sorted(child.pid for child in psutil.Process(pid).children())


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a redis-server that keeps nothing; yield its URL."""
    port = free_port()
    arguments = [need_redis(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    log = folder / "redis.log"
    with spawned([*arguments, "--dir", str(folder)], clean_environment(), log):
        _await_port(port, log)
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def raw_subscribers(
    folder: Path, url: str, channel: str, reports: Path, count: int
) -> Iterator[None]:
    """Run processes that do nothing but receive by redis-py and report."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            arguments = [sys.executable, "-m", "bench.subscriber", url, channel, str(reports)]
            log = folder / f"subscriber-{number}.log"
            env = clean_environment(PYTHONPATH=str(Path(__file__).parents[1]))
            stack.enter_context(spawned([*arguments, str(number)], env, log))
        yield


def _await_port(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no server:\n{log.read_text(errors='replace')}") from None
            time.sleep(0.02)


def _await_answer(port: int, log: Path) -> None:
    # Under lazy-apps the socket is there long before the app is.
    _await_port(port, log)
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if b" 200 " not in connection.recv(64):
            raise RuntimeError(f"no answer:\n{log.read_text(errors='replace')}")
