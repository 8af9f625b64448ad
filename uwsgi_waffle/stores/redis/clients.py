"""Clients of Redis for one process, and the meaning of what they raise."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import ConfigurationError, OutcomeUnknown, StoreError, StoreUnavailable
from ...masking import redact

_PASSING = re.compile(
    r"\b(LOADING|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|BUSY)\b"
    "|read only replica|MASTER is down|Redis is loading|running a script"
)


class Clients(NamedTuple):
    """The client for Redis of one process; connects when it is used."""

    reader: redis.Redis
    writer: redis.Redis
    prepare: Any
    read_since: Any
    write: Any
    load: Any
    stand_in: Any
    report: Any

    @classmethod
    def make(cls, url: str, timeout_s: float, write_timeout_s: float) -> Clients:
        reader = _client(url, timeout_s, timeout_s)
        writer = _client(url, timeout_s, write_timeout_s)
        return cls(
            reader,
            writer,
            prepare=writer.register_script(_script("prepare")),
            read_since=reader.register_script(_script("read_since")),
            write=writer.register_script(_script("publish", "write")),
            load=writer.register_script(_script("publish", "load")),
            stand_in=writer.register_script(_script("publish", "stand_in")),
            report=reader.register_script(_script("report")),
        )


@contextlib.contextmanager
def translated(clients: Clients, shown: str, *, sent: bool = False) -> Iterator[Clients]:
    """Raise what redis-py raises as an error of the store.

    :param shown: the URL, without any password.
    :param sent: a change was sent, so that a lost answer leaves its outcome unknown.
    """
    try:
        yield clients
    except (redis.RedisError, OSError) as exc:
        text = f"Redis at {shown}: {redact(str(exc))}"
        if _heals(exc):
            # Where the name leads to another server meanwhile, the next call finds it.
            with contextlib.suppress(redis.RedisError, OSError):
                for client in (clients.reader, clients.writer):
                    # Not those on which other threads wait for an answer.
                    client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"{text}; this heals by itself after a failover") from exc
        if not isinstance(exc, redis.ConnectionError | redis.TimeoutError | OSError):
            raise StoreError(f"{text}; it must be a Redis 5 or newer that we may write to") from exc
        if sent:
            raise OutcomeUnknown(
                f"{text}; the connection broke while the change was made, so it may have been "
                "made: read the settings before you repeat it"
            ) from exc
        raise StoreUnavailable(
            f"{text}; check that it is running, and that WAFFLE_STORE_URL names it"
        ) from exc


def _heals(exc: Exception) -> bool:
    """Return whether Redis answered that it can't serve this now: nothing was done.

    Source: Redis documentation, errors of a server that is loading, a replica, cut off from its
    replicas or its disk, or busy with a script. Within a script older servers quote them.
    """
    if isinstance(exc, redis.exceptions.BusyLoadingError):
        return True
    return isinstance(exc, redis.ResponseError) and bool(_PASSING.search(str(exc)))


def _script(*names: str) -> str:
    """Return the text of a script, before it those of the functions that it calls."""
    folder = files(__package__) / "lua"
    return "".join((folder / f"{name}.lua").read_text("utf-8") for name in names)


def _client(url: str, connect_s: float, answer_s: float) -> redis.Redis:
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            # A backslash followed by an x is no JSON: of a text that is no UTF-8, the default is
            # served, and all others are read.
            encoding_errors="backslashreplace",
            socket_connect_timeout=connect_s,
            socket_timeout=answer_s,
            # A change whose answer was lost must not be made twice.
            retry=Retry(NoBackoff(), 0),
        )
    except (ValueError, redis.RedisError):
        # Without the cause, whose text may hold the password.
        raise ConfigurationError(
            "the URL of the store is none that redis-py understands: write "
            "redis://:password@host:6379/0, rediss://… or unix:///path/to/socket, with special "
            "characters as %XX"
        ) from None
