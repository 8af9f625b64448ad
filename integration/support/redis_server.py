"""A real redis-server of one test's own."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from .find import need_redis
from .processes import Process, clean_environment, free_port


class RedisServer:
    """A redis-server that can be stopped, frozen, and started again on the same port.

    :param socket: path of a Unix socket to listen on as well.
    :param durable: keep the data over a restart.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "redis",
        password: str | None = None,
        socket: Path | None = None,
        durable: bool = False,
    ) -> None:
        self._name = name
        self._folder = folder
        self._password = password
        self._process: Process | None = None
        self.port = free_port()
        self._arguments = [need_redis(), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._arguments += ["--save", "", "--appendonly", "yes" if durable else "no"]
        # Else what was acknowledged within the last second is lost when it is killed.
        self._arguments += ["--appendfsync", "always", "--dir", str(folder)]
        if password is not None:
            self._arguments += ["--requirepass", password]
        if socket is not None:
            self._arguments += ["--unixsocket", str(socket)]

    @property
    def url(self) -> str:
        """Its URL, with the password if it has one."""
        login = "" if self._password is None else f":{self._password}@"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def process(self) -> Process:
        """The process that runs."""
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process = Process(
            self._name,
            self._arguments,
            env=clean_environment(),
            cwd=self._folder,
            log=self._folder / f"{self._name}.log",
            ready=lambda log: "eady to accept connections" in log,
        )
        assert not self._process.ended, self._process.evidence()

    def stop(self) -> None:
        """End it by SIGKILL; its port is free then, and nothing happens if it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send(number)

    def freeze(self) -> None:
        """Let it hold all connections and answer to none."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self.process.thaw()

    def ask(self, *command: Any) -> Any:
        """Return its answer to one command."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            return client.execute_command(*command)

    def publish(self, channel: str, messages: Iterable[bytes]) -> None:
        """Publish messages on a channel, one after the other, on one connection."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            for message in messages:
                client.publish(channel, message)
