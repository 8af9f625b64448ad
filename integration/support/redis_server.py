"""A real redis-server of one test's own."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import redis
from xprocess import XProcess

from .processes import Process, clean_environment, free_port


class RedisServer:
    """A redis-server that can be stopped, frozen, and started again on the same port.

    :param socket: path of a Unix socket to listen on as well.
    :param durable: keep the data over a restart.
    """

    def __init__(
        self,
        xprocess: XProcess,
        name: str,
        binary: str,
        folder: Path,
        *,
        password: str | None = None,
        socket: Path | None = None,
        durable: bool = False,
    ) -> None:
        self._xprocess = xprocess
        self._name = name
        self._starts = 0
        self._folder = folder
        self._password = password
        self.port = free_port()
        self.processes: list[Process] = []
        self._arguments = [binary, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._arguments += ["--save", "", "--appendonly", "yes" if durable else "no"]
        self._arguments += ["--dir", str(folder)]
        if password is not None:
            self._arguments += ["--requirepass", password]
        if socket is not None:
            self._arguments += ["--unixsocket", str(socket)]

    @property
    def url(self) -> str:
        """Its URL, with the password if it has one."""
        login = "" if self._password is None else f":{self._password}@"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._starts += 1
        self.processes.append(
            Process(
                self._xprocess,
                f"{self._name}-{self._starts}",
                self._arguments,
                env=clean_environment(),
                cwd=self._folder,
                ready=lambda log: "eady to accept connections" in log,
            )
        )
        process = self.processes[-1]
        assert process.popen.poll() is None, process.evidence()

    def stop(self) -> None:
        """End it."""
        self.processes[-1].stop()

    def freeze(self) -> None:
        """Let it hold all connections and answer to none."""
        process = self.processes[-1]
        process.send(signal.SIGSTOP)
        process.eventually(
            "stopped", lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
        )

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self.processes[-1].send(signal.SIGCONT)

    def ask(self, *command: Any) -> Any:
        """Return its answer to one command."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            return client.execute_command(*command)

    def release(self) -> None:
        """End all that was started."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.send(signal.SIGCONT)
            process.release()
