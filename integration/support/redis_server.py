"""A real redis-server of one test's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    :param options: more of its command line.
    :param program: instead of the usual one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "redis",
        password: str | None = None,
        socket: Path | None = None,
        durable: bool = False,
        options: Sequence[str] = (),
        program: str | None = None,
    ) -> None:
        self._name = name
        self._folder = folder
        self._password = password
        super().__init__()
        self._arguments = [program or need_redis(), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._arguments += ["--save", "", "--appendonly", "yes" if durable else "no"]
        # Else what was acknowledged within the last second is lost when it is killed.
        self._arguments += ["--appendfsync", "always", "--dir", str(folder)]
        if password is not None:
            self._arguments += ["--requirepass", password]
        if socket is not None:
            self._arguments += ["--unixsocket", str(socket)]
        self._arguments += options

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

    def until(self, says: str, section: str) -> None:
        """Wait until a section of its ``INFO`` says something."""

        def said() -> bool:
            answer: Any = self.ask("INFO", section)
            assert says in "".join(f"{name}:{value}\n" for name, value in answer.items())
            return True

        self.process.eventually(f"{self._name}: {says}", said)

    def ask(self, *command: Any) -> Any:
        """Return its answer to one command."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            return client.execute_command(*command)

    def publish(self, channel: str, messages: Iterable[bytes]) -> None:
        """Publish messages on a channel, one after the other, on one connection."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            for message in messages:
                client.publish(channel, message)


class Sentinel(Server):
    """A sentinel that watches over one server, and decides alone.

    :param watched: it is called ``shop`` by it.
    :param password: of its own.
    :param of_server: the password of the server.
    """

    def __init__(
        self, folder: Path, watched: RedisServer, *, password: str = "", of_server: str = ""
    ) -> None:
        super().__init__()
        self._folder = folder
        self._config = folder / f"sentinel-{self.port}.conf"
        self._config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor shop 127.0.0.1 {watched.port} 1\n"
            "sentinel down-after-milliseconds shop 400\n"
            "sentinel failover-timeout shop 3000\n"
            + (f"requirepass {password}\n" if password else "")
            + (f"sentinel auth-pass shop {of_server}\n" if of_server else "")
        )

    def _start(self) -> Process:
        return Process(
            "sentinel",
            [need_redis(), str(self._config), "--sentinel"],
            env=clean_environment(),
            cwd=self._folder,
            log=self._folder / f"sentinel-{self.port}.log",
            ready=lambda log: "+monitor master shop" in log,
        )
