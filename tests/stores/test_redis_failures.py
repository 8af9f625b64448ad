"""Sentences about failures of a Redis, and which of its sentinels are believed."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from uwsgi_waffle.redis_servers.failures import Place, failure_of
from uwsgi_waffle.redis_servers.masters import Sentinels, Unfound

PLACE = Place("redis://ann:***@db1:6379/0", "WAFFLE_STORE_URL", "{shop}:", "shop")


@pytest.mark.parametrize(
    ("error", "kind", "fix"),
    [
        # Redis 5 and 6 quote within a script what Redis 7 says by itself.
        (
            redis.ResponseError(
                "Error running script (call to f_0): @user_script:1: @user_script: 1: -READONLY "
                "You can't write against a read only replica."
            ),
            "passing",
            "heals by itself",
        ),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), "passing", "heals"),
        (redis.ResponseError("CLUSTERDOWN The cluster is down"), "passing", "heals"),
        # As redis-py raises what a script does not pass on.
        (redis.exceptions.ClusterDownError("The cluster is down"), "passing", "start the nodes"),
        (redis.exceptions.ClusterDownError("Hash slot not served"), "passing", "start the nodes"),
        (
            redis.exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
            "passing",
            "heals by itself",
        ),
        (
            redis.exceptions.ClusterCrossSlotError("Keys in request don't hash to the same slot"),
            "refused",
            "{shop}:",
        ),
        (redis.exceptions.BusyLoadingError("Redis is loading"), "passing", "heals"),
        (
            redis.ResponseError(
                "Error running script: The user executing the script can't run this command"
            ),
            "refused",
            "lacks a right",
        ),
        (
            redis.exceptions.NoPermissionError(
                "User ann has no permissions to run the 'script|load' command"
            ),
            "refused",
            r"`ACL SETUSER <user> +script|load`",
        ),
        (
            redis.exceptions.NoPermissionError("No permissions to access a key"),
            "refused",
            "`ACL SETUSER <user> ~{shop}:*`",
        ),
        (
            redis.exceptions.NoPermissionError("No permissions to access a channel"),
            "refused",
            "`ACL SETUSER <user> &shop`",
        ),
        (
            redis.AuthenticationError("Client sent AUTH, but no password is set"),
            "refused",
            "the server has no password",
        ),
        (redis.AuthenticationError("invalid password"), "refused", "password is wrong"),
        (
            redis.ResponseError("OOM used memory > 'maxmemory'"),
            "refused",
            "maxmemory",
        ),
        (redis.ResponseError("DENIED Redis is running in protected mode"), "refused", "bind it"),
        (redis.ResponseError("CROSSSLOT Keys in request don't hash"), "refused", "{shop}:"),
        (redis.ResponseError("MOVED 7060 127.0.0.1:7001"), "refused", "redis+cluster://"),
        (redis.ResponseError("unknown command `EVALSHA`"), "refused", "Redis 5 or newer"),
        (redis.ResponseError("WRONGTYPE Operation against a key"), "refused", "Redis 5 or newer"),
        (redis.ConnectionError("Connection closed by server."), "lost", "rediss://"),
        (redis.TimeoutError("Timeout reading from socket"), "lost", "check that it is running"),
        (OSError(-2, "Name or service not known"), "lost", "DNS"),
    ],
    ids=lambda each: str(each)[:30] if isinstance(each, Exception) else None,
)
def test_failure_names_its_fix(error: Exception, kind: str, fix: str) -> None:
    failure = failure_of(error, PLACE)
    assert failure.kind == kind
    assert failure.text.startswith("Redis at redis://ann:***@db1:6379/0: ")
    assert fix in failure.text.partition("; ")[2]


class Sentinel:
    """Answers as one sentinel."""

    def __init__(self, port: int, epoch: int | None, **flags: bool) -> None:
        self.asked = 0
        self._epoch = epoch
        self._port = port
        self._flags = flags

    @property
    def connection_pool(self) -> Any:
        return type("Pool", (), {"connection_kwargs": {"host": "s", "port": self._port}})

    def sentinel_master(self, name: str) -> dict[str, Any]:
        self.asked += 1
        if self._epoch is None:
            raise redis.ConnectionError("refused")
        state = {"ip": "db", "port": self._port, "config-epoch": self._epoch}
        return state | {"is_master": True, "is_sdown": False, "is_odown": False} | self._flags


def _found(*sentinels: Sentinel) -> tuple[str, int]:
    asked: Any = list(sentinels)
    return Sentinels(asked).discover_master("shop")


def test_newest_failover_is_believed() -> None:
    assert _found(Sentinel(1, 3), Sentinel(2, 4), Sentinel(3, 3)) == ("db", 2)
    assert _found(Sentinel(1, None), Sentinel(2, 9), Sentinel(3, 10)) == ("db", 3)


def test_no_more_than_half_and_one_are_asked() -> None:
    sentinels = [Sentinel(number, 3) for number in range(5)]
    _found(*sentinels)
    assert [sentinel.asked for sentinel in sentinels] == [1, 1, 1, 0, 0]


def test_older_master_is_not_taken_for_a_newer_one_that_is_down() -> None:
    with pytest.raises(Unfound, match="after a failover"):
        _found(Sentinel(1, 3), Sentinel(2, 4, is_odown=True), Sentinel(3, 3))


def test_one_that_answers_is_enough() -> None:
    assert _found(Sentinel(1, None), Sentinel(2, 4), Sentinel(3, None)) == ("db", 2)
    with pytest.raises(Unfound, match="no sentinel answered"):
        _found(Sentinel(1, None))
