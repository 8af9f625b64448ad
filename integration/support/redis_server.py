"""A real redis-server of one test's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from .find import need_redis
from .processes import Process, clean_environment
from .server import Server


class RedisServer(Server):
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
        super().__init__()
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

    def _start(self) -> Process:
        return Process(
            self._name,
            self._arguments,
            env=clean_environment(),
            cwd=self._folder,
            log=self._folder / f"{self._name}.log",
            ready=lambda log: "eady to accept connections" in log,
        )

    def ask(self, *command: Any) -> Any:
        """Return its answer to one command."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            return client.execute_command(*command)

    def publish(self, channel: str, messages: Iterable[bytes]) -> None:
        """Publish messages on a channel, one after the other, on one connection."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            for message in messages:
                client.publish(channel, message)
