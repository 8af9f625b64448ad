"""The contract of every notifier, held by Redis as it really is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.notifier_contract import NotifierContract
from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers.redis import RedisNotifier

from .conftest import StartRedis
from .support.redis_server import RedisServer

pytestmark = pytest.mark.redis_server


class RedisContract(NotifierContract):
    """Holds however the server is reached."""

    def drain(self, notifier: Notifier) -> None:
        # Its subscription is confirmed by a notice; whatever is announced before is lost.
        assert self.hear(notifier) == Notice(None)
        super().drain(notifier)


class TestRedisNotifier(RedisContract):
    @pytest.fixture
    def make(self, redis_server: RedisServer) -> Callable[[], Notifier]:
        return lambda: RedisNotifier(redis_server.url, "contract")

    def test_other_channels_are_not_heard(self, redis_server: RedisServer, there: Notifier) -> None:
        other = RedisNotifier(redis_server.url, "another")
        other.announce(7)
        assert there.wait(0.1) is None
        other.close()


class TestRedisNotifierWithPassword(RedisContract):
    @pytest.fixture
    def make(self, make_redis: StartRedis) -> Callable[[], Notifier]:
        server = make_redis(password="s3cr3t")
        server.start()
        return lambda: RedisNotifier(server.url, "contract")


class TestRedisNotifierOverUnixSocket(RedisContract):
    @pytest.fixture
    def make(self, make_redis: StartRedis, short_folder: Path) -> Callable[[], Notifier]:
        path = short_folder / "redis"
        server = make_redis(socket=path)
        server.start()
        return lambda: RedisNotifier(f"unix://{path}", "contract")
