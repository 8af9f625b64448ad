"""The real servers under fault, and the end of all that they have forked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import redis

from integration.support.find import need_redis, need_uwsgi
from integration.support.processes import clean_environment, free_port
from uwsgi_waffle.ini import snippet_path

from .client import Failed, ask

T = TypeVar("T")

START_S = 60.0
STOP_S = 10.0


class FaultFailed(Exception):
    """A fault could not be injected, or what it looked at is wrong."""


def until(what: str, probe: Callable[[], T], *, limit_s: float, pause_s: float = 0.02) -> T:
    """Return the first truthy answer of a probe.

    :raises FaultFailed: there was none in time.
    """
    deadline = time.monotonic() + limit_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise FaultFailed(f"not {what} within {limit_s:g} s")
        time.sleep(pause_s)


class ServerFailed(FaultFailed):
    """A server did not start: the run can't go on."""


class Program:
    """A server in a process group of its own, with a log."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                arguments,
                env=dict(env),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=log.parent,
            )
        self.pid = self.popen.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End the whole group by SIGKILL."""
        # Before the leader is waited for: until then its number belongs to no other group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(STOP_S)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Redis:
    """A redis-server that keeps nothing, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program: Program | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        arguments = [need_redis(), "--port", str(self.port), "--bind", "127.0.0.1"]
        arguments += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._program = Program(arguments, clean_environment(), self._folder / "redis.log")
        until("redis-server answers", self._answers, limit_s=START_S)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._program is not None:
            self._program.kill()
            self._program = None
            until("free", lambda: _is_free(self.port), limit_s=STOP_S)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._program is not None
        self._program.send(number)

    def ask(self, *command: Any) -> Any:
        """Return its answer to one command."""
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            return client.execute_command(*command)

    def publish(self, channel: str, messages: Iterable[bytes]) -> None:
        """Publish messages on a channel, one after the other, on one connection."""
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            for message in messages:
                client.publish(channel, message)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except (redis.RedisError, OSError):
            return False


class BlackHole:
    """Accepts every connection to a port, and never answers."""

    def __init__(self, port: int) -> None:
        self._held: list[socket.socket] = []
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(128)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Drop all connections, and free the port."""
        # A thread in accept() keeps the port; only a shutdown wakes it.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(STOP_S)
        self._socket.close()
        for connection in self._held:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._held.append(self._socket.accept()[0])


class Uwsgi:
    """A uWSGI of one host, with a port for each worker.

    :param folder: the host's own: clock, logs, the master's FIFO.
    :param config: the app's configuration.
    """

    def __init__(self, name: str, folder: Path, config: str, *, workers: int) -> None:
        self.name = name
        self.folder = folder
        self.workers = workers
        self.ports = [free_port() for _ in range(workers)]
        self._fifo = folder / "fifo"
        self._server = need_uwsgi()
        self._environment = clean_environment(
            FAULTS_FOLDER=str(folder),
            FAULTS_CONFIG=config,
            # pyuwsgi in a virtual environment ends at a reload without it.
            UWSGI_BINARY_PATH=str(Path(self._server.path).parent / "python"),
        )
        self._program: Program | None = None

    @property
    def pid(self) -> int:
        """The master's pid."""
        assert self._program is not None
        return self._program.pid

    def start(self, *options: str, pinned: bool = True) -> None:
        """Start it, and wait until every worker answers.

        :param pinned: each port belongs to one worker; otherwise all serve all.
        """
        # To root no file would be forbidden.
        setpriv = shutil.which("setpriv") if os.geteuid() == 0 else None
        wrapper = [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if setpriv else []
        arguments = [
            *wrapper,
            self._server.path,
            *("--ini", str(snippet_path("waffle"))),
            *("--pythonpath", str(Path(__file__).parents[1])),
            *("--module", "faults.serve:app", "--processes", str(self.workers)),
            *("--disable-logging", "--master-fifo", str(self._fifo)),
            *options,
        ]
        for number, port in enumerate(self.ports):
            arguments += ["--http-socket", f"127.0.0.1:{port}"]
            if pinned:
                arguments += ["--map-socket", f"{number}:{number + 1}"]
        self._program = Program(arguments, self._environment, self.folder / "uwsgi.log")
        self.await_answers()

    def await_answers(self) -> None:
        """Wait until every port is answered."""
        for port in self.ports:
            until(f"port {port} answers", partial(self._answers, port), limit_s=START_S)

    def children(self) -> list[int]:
        """Return the pids of the living workers."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def command(self, letter: str) -> None:
        """Give the master a command by its FIFO."""
        descriptor = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, letter.encode())
        finally:
            os.close(descriptor)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        assert self._program is not None
        self._program.send(number)

    def kill(self) -> None:
        """End the master and all workers by SIGKILL; returns when their ports are free."""
        if self._program is not None:
            self._program.kill()
            self._program = None
            # A worker's other threads may hold its sockets when its first one is dead already.
            until("free", lambda: all(map(_is_free, self.ports)), limit_s=STOP_S)

    def _answers(self, port: int) -> bool:
        assert self._program is not None
        if self._program.popen.poll() is not None:
            tail = self._program.log.read_text(errors="replace")[-3000:]
            raise ServerFailed(f"uWSGI {self.name} ended by itself:\n{tail}")
        try:
            ask(port, "/status", timeout_s=START_S)
        except Failed:
            return False
        return True
