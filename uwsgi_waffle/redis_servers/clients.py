"""Clients of a Redis, whichever way it is named."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from ..errors import ConfigurationError
from ..forking import undivided
from .masters import ClusterNodes, Finder, MasterPool, Sentinels
from .urls import RedisUrl


class _Whole:
    """Connects without a fork in between: OpenSSL has locks that all its connections share."""

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        with undivided:
            parent: Any = super()
            return parent.connect(*args, **kwargs)


class _TlsConnection(_Whole, redis.SSLConnection):
    pass


class _ManagedTlsConnection(_Whole, SentinelManagedSSLConnection):
    pass


def make_client(
    url: RedisUrl, *, connect_s: float, answer_s: float, key: str, slot_of: str, **options: Any
) -> redis.Redis:
    """Return a client that connects when it is used, and sends nothing twice.

    Connecting takes at most ``connect_s``, which includes asking sentinels or a cluster's nodes
    where the server is; each answer takes at most ``answer_s``.

    :param key: of ``app.config`` that has the URL, for messages.
    :param slot_of: a key; in a cluster, the client is one of the node that has it.
    :param options: of each connection.
    :raises ConfigurationError: this redis-py lacks what the URL asks for.
    """
    options = {
        "socket_connect_timeout": connect_s,
        "socket_timeout": answer_s,
        # A change whose answer was lost must not be made twice; and our backoff is the only one.
        "retry": Retry(NoBackoff(), 0),
        **url.options,
        **options,
    }
    pool: Any
    if url.kind:
        options["socket_connect_timeout"] = connect_s / 2
        finder = _finder(url, connect_s / 2)
        managed = _ManagedTlsConnection if url.tls else SentinelManagedConnection
        pool = MasterPool(url.service or slot_of, finder, connection_class=managed, **options)
    else:
        pool = redis.ConnectionPool(connection_class=_class(url), **_place(url), **options)
    try:
        # Not used: it shows now whether this redis-py takes each of the options.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, redis.RedisError):
        # Without the cause, which may hold the password.
        raise ConfigurationError(
            f"{key} asks for what redis-py {redis.__version__} does not have: take a parameter "
            "out of its query, or upgrade redis-py"
        ) from None
    client = redis.Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def doubt(client: redis.Redis) -> None:
    """Look for the server again before the next use; keep connections that are in use."""
    pool = client.connection_pool
    if isinstance(pool, MasterPool):
        pool.finder.doubt()
    pool.disconnect(inuse_connections=False)


def close(client: redis.Redis) -> None:
    """Close its connections; they open again when they are needed."""
    if isinstance(client.connection_pool, MasterPool):
        client.connection_pool.finder.close()
    client.close()


def _finder(url: RedisUrl, within_s: float) -> Finder:
    asked = Sentinels if url.kind == "sentinel" else ClusterNodes
    options = url.asking if url.kind == "sentinel" else url.options
    # Each of them is connected to, and answers.
    share_s = within_s / len(url.hosts) / 2
    return asked(
        [
            redis.Redis(
                connection_pool=redis.ConnectionPool(
                    connection_class=_class(url),
                    host=host,
                    port=port,
                    socket_connect_timeout=share_s,
                    socket_timeout=share_s,
                    retry=Retry(NoBackoff(), 0),
                    **options,
                )
            )
            for host, port in url.hosts
        ]
    )


def _class(url: RedisUrl) -> Any:
    if url.path:
        return redis.UnixDomainSocketConnection
    return _TlsConnection if url.tls else redis.Connection


def _place(url: RedisUrl) -> dict[str, Any]:
    if url.path:
        return {"path": url.path}
    ((host, port),) = url.hosts
    return {"host": host, "port": port}
