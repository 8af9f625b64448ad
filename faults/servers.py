"""The real servers under fault, and the end of all that they have forked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from functools import partial
from pathlib import Path

import psutil

from integration.support.find import need_uwsgi
from integration.support.processes import Process, clean_environment, free_port, is_free
from integration.support.waiting import eventually
from uwsgi_waffle.ini import snippet_path

from .client import Failed, ask

START_S = 60.0
STOP_S = 10.0


class FaultFailed(Exception):
    """A fault could not be injected, or what it looked at is wrong."""


class ServerFailed(FaultFailed):
    """A server did not start: the run can't go on."""


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
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The master's pid."""
        assert self._process is not None
        return self._process.pid

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
        self._process = Process(
            f"uWSGI {self.name}",
            arguments,
            env=self._environment,
            cwd=self.folder,
            log=self.folder / "uwsgi.log",
        )
        self.await_answers()

    def await_answers(self) -> None:
        """Wait until every port is answered."""
        for port in self.ports:
            eventually(f"port {port} answers", partial(self._answers, port), deadline_s=START_S)

    def children(self) -> list[int]:
        """Return the pids of the living workers."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def command(self, letter: str) -> None:
        """Give the master a command by its FIFO, which it makes again after each."""
        opened = partial(os.open, self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        descriptor = eventually("the master reads its FIFO", opened, deadline_s=STOP_S)
        try:
            os.write(descriptor, letter.encode())
        finally:
            os.close(descriptor)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        assert self._process is not None
        self._process.send(number)

    def kill(self) -> None:
        """End the master and all workers by SIGKILL; returns when their ports are free."""
        if self._process is not None:
            self._process.stop()
            self._process = None
            # A worker's other threads may hold its sockets when its first one is dead already.
            eventually("free", lambda: all(map(is_free, self.ports)), deadline_s=STOP_S)

    def _answers(self, port: int) -> bool:
        assert self._process is not None
        if self._process.ended:
            raise ServerFailed(f"uWSGI {self.name} ended by itself\n{self._process.evidence()}")
        try:
            ask(port, "/status", timeout_s=START_S)
        except Failed:
            return False
        return True
