"""The real servers of a benchmark: uWSGI workers, Redis, raw subscribers."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from integration.support.processes import Process, clean_environment, free_port
from integration.support.redis_server import RedisServer
from integration.support.waiting import eventually
from uwsgi_waffle.ini import snippet_path

from .contenders import ROOT, Contender

#: until the last of many workers has answered, on a busy machine
START_S = 180.0


class Site(NamedTuple):
    """A server that runs.

    :ivar port: where any of its workers answers.
    :ivar ports: where each worker answers.
    :ivar started_s: how long it took until every worker had answered.
    """

    port: int
    ports: list[int]
    pids: list[int]
    started_s: float


@contextlib.contextmanager
def spawned(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[int]:
    """Run a program in a process group of its own; yield its pid, and end the whole group."""
    process = Process(arguments[0], arguments, env=env, cwd=ROOT, log=log)
    try:
        yield process.pid
    finally:
        process.end()


@contextlib.contextmanager
def core(number: int) -> Iterator[None]:
    """Have what is started within run on one core only, and leave this process as it was.

    A client and a worker that move from core to core disturb each other by tens of percent.

    :param number: counts the cores that this process may use; -1 is the last of them.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def site(
    contender: Contender,
    folder: Path,
    *,
    workers: int,
    redis_port: int,
    module: str | None = None,
    **env: str,
) -> Iterator[Site]:
    """Run a contender's app under uWSGI; yield once every worker has answered.

    The options are the same for all: those that this project's snippet sets.

    :param module: loaded in the place of the contender's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    env |= {"BENCH_FOLDER": str(folder), "BENCH_REDIS_PORT": str(redis_port)}
    if contender.prepares:
        contender.run("prepare", **env)
    shared, *ports = (free_port() for _ in range(workers + 1))
    arguments = [
        contender.uwsgi,
        *("--ini", str(snippet_path("waffle"))),
        *("--pythonpath", str(ROOT), "--module", module or contender.module),
        *("--processes", str(workers), "--disable-logging", "--listen", "100"),
        # One connection for each request: a worker serves a connection until it is closed.
        *("--add-header", "Connection: close"),
    ]
    for number, port in enumerate(ports):
        arguments += ["--http-socket", f"127.0.0.1:{port}"]
        arguments += ["--map-socket", f"{number}:{number + 1}"]
    arguments += ["--http-socket", f"127.0.0.1:{shared}"]
    environment = clean_environment(BENCH_KIND=contender.kind, **env)
    log = folder / f"uwsgi-{contender.name}.log"
    began = time.monotonic()
    with spawned(arguments, environment, log) as pid:
        for port in ports:
            _await_answer(port, log)
        started_s = time.monotonic() - began
        pids = sorted(child.pid for child in psutil.Process(pid).children())
        yield Site(shared, ports, pids, started_s)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a redis-server that keeps nothing; yield its port."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


@contextlib.contextmanager
def raw_subscribers(
    folder: Path, url: str, channel: str, reports: Path, count: int
) -> Iterator[None]:
    """Run processes that do nothing but receive by redis-py and report."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            arguments = [sys.executable, "-m", "bench.subscriber", url, channel, str(reports)]
            log = folder / f"subscriber-{number}.log"
            env = clean_environment(PYTHONPATH=str(ROOT))
            stack.enter_context(spawned([*arguments, str(number)], env, log))
        yield


def ask(port: int, number: int | None = None) -> int:
    """Return the number that a worker answers with; tell it another number before.

    :return: after a change the time at which it began, by the monotonic clock.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as connection:
        if number is None:
            head, body = "GET / HTTP/1.0\r\n", ""
        else:
            body = str(number)
            head = f"POST / HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Host: 127.0.0.1\r\n\r\n{body}".encode())
        answer = b""
        while block := connection.recv(4096):
            answer += block
    status, _, rest = answer.partition(b"\r\n")
    if b" 200 " not in status:
        raise RuntimeError(f"no answer: {answer[:2000].decode(errors='replace')}")
    return int(rest.partition(b"\r\n\r\n")[2])


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    # Nanoseconds, where psutil's cpu_times() counts hundredths of a second.
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text("ascii").split()[0]) for thread in threads) / 1e9


def _await_answer(port: int, log: Path) -> None:
    def listens() -> bool:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True

    def said() -> str:
        return log.read_text(errors="replace")

    # Under lazy-apps the socket is there long before the app is.
    eventually("a server", listens, evidence=said, deadline_s=START_S, interval_s=0.005)
    try:
        ask(port)
    except (OSError, RuntimeError) as exc:
        raise RuntimeError(f"no answer:\n{said()}") from exc
