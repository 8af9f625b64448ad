"""The contract of every notifier, held by Redis as it really is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from tests.support.notifier_contract import NotifierContract
from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers.postgresql import PostgresqlNotifier, Unheard
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores.base import Channel
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sql.changes import SqlStore
from uwsgi_waffle.stores.sql.listening import ServerUrl
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore

from .conftest import StartRedis
from .support.pgbouncer import Pgbouncer
from .support.postgres_server import PostgresServer
from .support.redis_server import RedisServer


class SubscribedContract(NotifierContract):
    """Holds for those that tell of each subscription."""

    def drain(self, notifier: Notifier) -> None:
        # Its subscription is confirmed by a notice; whatever is announced before is lost.
        assert self.hear(notifier) == Notice(None)
        super().drain(notifier)


@pytest.mark.redis_server
class TestRedisNotifier(SubscribedContract):
    @pytest.fixture
    def make(self, redis_server: RedisServer) -> Callable[[], Notifier]:
        return lambda: RedisNotifier(redis_server.url, "contract")

    def test_other_channels_are_not_heard(self, redis_server: RedisServer, there: Notifier) -> None:
        other = RedisNotifier(redis_server.url, "another")
        other.announce(7)
        assert there.wait(0.1) is None
        other.close()


@pytest.mark.redis_server
class TestRedisNotifierWithPassword(SubscribedContract):
    @pytest.fixture
    def make(self, make_redis: StartRedis) -> Callable[[], Notifier]:
        server = make_redis(password="s3cr3t")
        server.start()
        return lambda: RedisNotifier(server.url, "contract")


@pytest.mark.redis_server
class TestRedisNotifierOverUnixSocket(SubscribedContract):
    @pytest.fixture
    def make(self, make_redis: StartRedis, short_folder: Path) -> Callable[[], Notifier]:
        path = short_folder / "redis"
        server = make_redis(socket=path)
        server.start()
        return lambda: RedisNotifier(f"unix://{path}", "contract")


class _Postgresql(SubscribedContract):
    """Of a store in a database of the test's own."""

    scheme = ""
    #: how long a loaded machine may take
    timeout_s = 10.0

    @pytest.fixture
    def database(self, postgres: PostgresServer) -> Iterator[str]:
        driver = self.scheme.partition("+")[2]
        if importlib.util.find_spec(driver) is None:
            pytest.skip(f"{driver} is not installed")
        with postgres.database() as name:
            yield name

    @pytest.fixture
    def store(self, postgres: PostgresServer, database: str) -> Iterator[SqlStore[Any]]:
        store = self.make_store(postgres.url(self.scheme, database))
        store.prepare()
        yield store
        store.close()

    def make_store(self, url: str) -> SqlStore[Any]:
        return AlchemyWaffleStore(url, timeout_s=self.timeout_s)

    @pytest.fixture
    def make(self, store: SqlStore[Any]) -> Callable[[], Notifier]:
        return lambda: PostgresqlNotifier(
            store.listen, store.notify, "contract", shown="db", timeout_s=self.timeout_s
        )

    def test_each_change_announces_itself_once_it_is_committed(
        self, store: SqlStore[Any], there: Notifier
    ) -> None:
        store.announce_on(Channel("postgresql", "contract"))
        assert store.announces
        store.write({"A": "1"}, before_commit=lambda: self._assert_silent(there))
        delta = store.read_since(0, "")
        assert self.hear(there) == Notice(1, delta.epoch, delta.mark)
        store.load(store.dump())
        delta = store.read_since(0, "")
        assert self.hear(there) == Notice(1, delta.epoch, delta.mark)
        store.stand_in(["0" * 16])
        assert self.hear(there) == Notice(1, delta.epoch, delta.mark)
        store.enroll("app", "{}")

        def refuse() -> None:
            raise RuntimeError("taken back")

        with pytest.raises(RuntimeError):
            store.write({"A": "2"}, before_commit=refuse)
        self._assert_silent(there)

    def _assert_silent(self, notifier: Notifier) -> None:
        assert notifier.wait(0.1) is None

    def test_silent_connection_is_asked_and_one_that_was_killed_is_replaced(
        self, postgres: PostgresServer, database: str, there: PostgresqlNotifier
    ) -> None:
        there._heard_at -= 10
        assert there.wait(0.0) is None
        assert there.fileno() >= 0
        listeners = f"FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE 'LISTEN%'"
        postgres.ask(f"SELECT pg_terminate_backend(pid, 60000) {listeners}")
        with pytest.raises(Exception, match="PostgreSQL's notices can't be used"):
            self.hear(there)
        assert self.hear(there) == Notice(None)
        there.announce(7)
        assert self.hear(there) == Notice(7)
        there.close()
        assert there.fileno() == -1

    def test_channel_is_known_in_an_encoding_that_is_not_utf_8(
        self, postgres: PostgresServer, database: str
    ) -> None:
        self._assert_heard(f"{postgres.url(self.scheme, database)}?client_encoding=latin1", "büro")

    def _assert_heard(self, url: str, channel: str) -> None:
        store = self.make_store(url)
        store.prepare()
        notifier = PostgresqlNotifier(
            store.listen, store.notify, channel, shown="db", timeout_s=self.timeout_s
        )
        assert notifier.wait(0.0) == Notice(None)
        notifier.announce(7)
        assert self.hear(notifier) == Notice(7)
        notifier.close()
        store.close()


@pytest.mark.short
class TestPostgresqlNotifierByPsycopg(_Postgresql):
    scheme = "postgresql+psycopg"

    def test_frozen_server_is_noticed_within_the_bound(
        self, postgres: PostgresServer, store: SqlStore[Any]
    ) -> None:
        notifier = PostgresqlNotifier(
            lambda: store.listen(), store.notify, "contract", shown="db", timeout_s=1.0
        )
        assert notifier.wait(0.0) == Notice(None)
        notifier._heard_at -= 10
        store._timeout_s = 1.0
        subscription: Any = notifier._subscription
        subscription._timeout_s = 1.0
        postgres.freeze()
        try:
            for _ in range(2):
                with pytest.raises(Exception, match="in time"):
                    notifier.wait(0.0)
                notifier._retry_at = 0.0
        finally:
            postgres.thaw()
        assert self.hear(notifier) == Notice(None)
        notifier.close()

    def test_pooler_of_transactions_is_noticed_and_a_url_beside_it_helps(
        self, postgres: PostgresServer, database: str
    ) -> None:
        pooler = Pgbouncer(postgres.port)
        try:
            pooler.start()
            store = self.make_store(pooler.url(self.scheme, database))
            store.prepare()
            store.announce_on(Channel("postgresql", "contract"))
            deaf = PostgresqlNotifier(
                store.listen, store.notify, "contract", shown="db", timeout_s=0.5
            )
            with pytest.raises(Unheard, match=r"PgBouncer.*WAFFLE_POSTGRESQL_URL"):
                deaf.wait(0.0)
            deaf.close()
            direct = ServerUrl(postgres.url("postgresql", database))
            notifier = PostgresqlNotifier(
                lambda: direct.connect(self.timeout_s),
                store.notify,
                "contract",
                shown="db",
                is_store=False,
                timeout_s=self.timeout_s,
            )
            assert notifier.wait(0.0) == Notice(None)
            store.write({"A": "1"})
            notice = self.hear(notifier)
            assert notice.revision == 1
            notifier.close()
            store.close()
        finally:
            pooler.release()

    def test_pooler_of_sessions_passes_notices_on(
        self, postgres: PostgresServer, database: str
    ) -> None:
        pooler = Pgbouncer(postgres.port, "session")
        try:
            pooler.start()
            self._assert_heard(pooler.url(self.scheme, database), "contract")
        finally:
            pooler.release()


class TestPostgresqlNotifierByPsycopg2(_Postgresql):
    scheme = "postgresql+psycopg2"


class _Peewee(_Postgresql):
    def make_store(self, url: str) -> SqlStore[Any]:
        make: Any = peewee.PostgresqlDatabase
        scheme, _, rest = url.partition("://")
        db = make(f"postgresql://{rest}", prefer_psycopg3=scheme.endswith("+psycopg"))
        return PeeweeWaffleStore(db, timeout_s=self.timeout_s)


class TestPostgresqlNotifierByPeeweeOnPsycopg2(_Peewee):
    scheme = "postgresql+psycopg2"
