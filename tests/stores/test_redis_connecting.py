"""How the clients of Redis connect."""

from __future__ import annotations

import pytest
import redis
from redis.sentinel import SentinelManagedSSLConnection

from uwsgi_waffle.forking import undivided
from uwsgi_waffle.redis_servers.clients import make_client
from uwsgi_waffle.redis_servers.urls import parse_redis_url


@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel", "rediss+cluster"])
def test_no_fork_meets_a_connection_by_tls_that_is_being_made(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    for kind in (redis.SSLConnection, SentinelManagedSSLConnection):
        monkeypatch.setattr(kind, "connect", lambda self: found.append(len(undivided._working)))
    service = "shop/" if scheme.endswith("sentinel") else ""
    url = parse_redis_url(f"{scheme}://127.0.0.1:1/{service}0", key="URL")
    client = make_client(url, connect_s=1.0, answer_s=1.0, key="URL", slot_of="a")
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs).connect()
    assert found == [1]
