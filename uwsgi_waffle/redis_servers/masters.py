"""Which server of several may be written now: asked of sentinels, or of a cluster's nodes."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from typing import Any

import redis
from redis.crc import key_slot
from redis.sentinel import MasterNotFoundError, SentinelConnectionPool

#: who was asked within this time is not asked again while connections hold
ASKED_EVERY_S = 1.0
#: likewise after nobody answered, which costs its time
UNANSWERED_EVERY_S = 10.0


class Unfound(MasterNotFoundError):
    """No server is known that may be written; the message names the fix."""


class Finder(ABC):
    """Finds the server that may be written, by asking others; blocks for at most ``within_s``.

    :param askable: clients of those to ask; each waits for an equal share of the time.
    """

    #: whether the server that was found must itself say that it is the master
    confirms = False

    def __init__(self, askable: list[redis.Redis]) -> None:
        self._askable = askable
        self._due_at = 0.0

    def discover_master(self, name: str) -> tuple[str, int]:
        """Return host and port.

        :raises Unfound: nobody knows.
        """
        self._due_at = time.monotonic() + UNANSWERED_EVERY_S
        found = self.find(name)
        self._due_at = time.monotonic() + ASKED_EVERY_S
        return found

    @abstractmethod
    def find(self, name: str) -> tuple[str, int]:
        """Ask."""

    def is_due(self) -> bool:
        """Return whether another server may be the master by now."""
        return time.monotonic() >= self._due_at

    def doubt(self) -> None:
        """Ask again before the next use: the server has said that it is the wrong one."""
        self._due_at = 0.0

    def close(self) -> None:
        """Close the connections to those who are asked."""
        for client in self._askable:
            client.close()


class Sentinels(Finder):
    """Asks sentinels until more than half have answered, and believes the newest of them.

    Source: Redis documentation, "Sentinel": each failover raises the master's ``config-epoch``, so
    that a sentinel that was cut off has a lower one than the others; "Guidelines for Sentinel
    clients": the server itself must confirm by ``ROLE``.
    """

    confirms = True

    def find(self, name: str) -> tuple[str, int]:
        states: list[dict[str, Any]] = []
        failures: list[str] = []
        unknown = 0
        for client in self._askable:
            try:
                states.append(dict(client.sentinel_master(name)))  # type: ignore[arg-type]
            except redis.RedisError as exc:
                if "No such master" in str(exc):
                    unknown += 1
                else:
                    failures.append(f"{_address(client)}: {exc}")
            if len(states) * 2 > len(self._askable):
                break
        if not states:
            raise Unfound(_unanswered(name, unknown, failures))
        newest = max(states, key=lambda state: int(state.get("config-epoch", 0)))
        if newest["is_sdown"] or newest["is_odown"] or not newest["is_master"]:
            raise Unfound(
                f"the sentinels can't reach the master of {name!r}, {newest['ip']}:"
                f"{newest['port']}; this heals by itself after a failover"
            )
        return str(newest["ip"]), int(newest["port"])


def _unanswered(name: str, unknown: int, failures: list[str]) -> str:
    causes = f" ({'; '.join(failures)})" if failures else ""
    if unknown:
        return (
            f"{unknown} of the sentinels know no master of the name {name!r}{causes}; write the "
            "name of `sentinel monitor` after the hosts: redis+sentinel://host/name/0"
        )
    return (
        f"no sentinel answered{causes}; check that they are running, that the URL names their "
        "ports, and ?sentinel_username= and ?sentinel_password= if they ask for them"
    )


class ClusterNodes(Finder):
    """Asks the nodes of a cluster which of them has a key; all keys of a store are on one."""

    def find(self, name: str) -> tuple[str, int]:
        failures: list[str] = []
        slot = key_slot(name.encode())
        for client in self._askable:
            try:
                asked: Any = client  # redis-py leaves execute_command() without types
                ranges: Any = asked.execute_command("CLUSTER", "SLOTS")
            except redis.RedisError as exc:
                failures.append(f"{_address(client)}: {exc}")
                continue
            for begin, end, host, port in _primaries(ranges):
                if begin <= slot <= end:
                    # An empty name means the node that was asked.
                    return host or _host(client), port
            failures.append(f"{_address(client)}: no node has the hash slot {slot}")
        raise Unfound(
            f"no node of the cluster was found that has the keys ({'; '.join(failures)}); check "
            "that the nodes of the URL are running, are in cluster mode, and have all hash slots"
        )


def _primaries(ranges: Any) -> list[tuple[int, int, str, int]]:
    """Return first slot, last slot, host and port of each; redis-py parses some answers only."""
    if isinstance(ranges, dict):
        return [
            (int(begin), int(end), str(nodes["primary"][0] or ""), int(nodes["primary"][1]))
            for (begin, end), nodes in ranges.items()
        ]
    return [(int(begin), int(end), _text(node[0]), int(node[1])) for begin, end, node, *_ in ranges]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _host(client: redis.Redis) -> str:
    return str(client.connection_pool.connection_kwargs["host"])


def _address(client: redis.Redis) -> str:
    return f"{_host(client)}:{client.connection_pool.connection_kwargs['port']}"


class MasterPool(SentinelConnectionPool):
    """Connections to the server that may be written now.

    Each new connection asks for it. One that is open is trusted for a second at most before the
    same question is asked again: a server that was frozen through a failover goes on as a master
    until its sentinels find it.
    """

    def __init__(self, name: str, finder: Finder, **kwargs: Any) -> None:
        if finder.confirms:
            kwargs["redis_connect_func"] = _connect_to_master
        init: Any = super().__init__  # redis-py leaves this class without types
        init(name, finder, **kwargs)
        self.finder = finder

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        if self.finder.is_due():
            # While nobody answers, what was the master is believed as long as it says so itself.
            look: Any = self.get_master_address
            with contextlib.suppress(redis.RedisError, OSError):
                look()
        return super().get_connection(*args, **kwargs)


def _connect_to_master(connection: Any) -> None:
    connection.on_connect()
    connection.send_command("ROLE")
    role = connection.read_response()[0]
    if role not in (b"master", "master"):
        raise redis.exceptions.ReadOnlyError(
            f"READONLY {connection.host}:{connection.port} is not the master yet, or no more"
        )
