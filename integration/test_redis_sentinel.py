"""Settings and notices in a Redis that sentinels watch over, through its failover."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from uwsgi_waffle.errors import NotifierError, OutcomeUnknown, StoreError, StoreUnavailable
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores import Channel
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.testing.assertions import stored

from .support.redis_server import RedisServer, Sentinel
from .support.stopwatch import Stopwatch
from .support.waiting import eventually

pytestmark = [pytest.mark.redis_server, pytest.mark.timeout(120)]


class Watched(NamedTuple):
    """A server, its replica, and the sentinel that knows which of them is the master."""

    one: RedisServer
    two: RedisServer
    sentinel: Sentinel

    def url(self, *, service: str = "shop", password: str = "eyes-0nly") -> str:
        # The first one is not there.
        hosts = f"127.0.0.1:1,127.0.0.1:{self.sentinel.port}"
        login = f"redis+sentinel://:s3cret@{hosts}/{service}/0"
        return f"{login}?sentinel_password={password}"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:

        def server(name: str, *options: str) -> RedisServer:
            both = ["--masterauth", "s3cret", "--repl-diskless-sync-delay", "0", *options]
            made = RedisServer(tmp_path, name=name, password="s3cret", options=both)
            stack.callback(made.stop)
            made.start()
            return made

        one = server("one")
        two = server("two", "--replicaof", "127.0.0.1", str(one.port))
        two.until("master_link_status:up", "replication")
        sentinel = Sentinel(tmp_path, one, password="eyes-0nly", of_server="s3cret")
        stack.callback(sentinel.stop)
        sentinel.start()
        sentinel.process.eventually("knows both", lambda: "+slave slave" in sentinel.process.log)
        yield Watched(one, two, sentinel)


def _store(url: str, timeout_s: float = 10.0) -> RedisStore:
    return RedisStore(url, timeout_s=timeout_s, write_timeout_s=timeout_s)


def test_failover_is_an_outage_that_ends_and_no_old_master_is_believed(watched: Watched) -> None:
    store = _store(watched.url())
    # Much shorter than the others: each of its turns waits for it while the master is frozen.
    store_s = _store(watched.url(), timeout_s=1.0)
    notifier = RedisNotifier(watched.url(), "shop", timeout_s=1.0)
    store_s.announce_on(Channel("redis", "shop", watched.url()))
    assert store_s.announces
    store.prepare()
    store.write({"A": "1"})
    store_s.read_since(0, "")
    eventually("subscribed", lambda: notifier.wait(0.1))
    assert watched.one.ask("WAIT", 1, 10_000) == 1
    watched.one.freeze()
    with Stopwatch() as watch, pytest.raises(StoreUnavailable):
        store_s.read_since(0, "")
    watch.assert_within(1.0)

    def written() -> int:
        try:
            return store_s.write({"A": "2"})
        except OutcomeUnknown:
            raise
        except StoreUnavailable as exc:
            raise OSError(str(exc)) from exc

    assert eventually("another master", written) == 2
    # The old one wakes up, and takes itself for the master until the sentinel finds it.
    watched.one.thaw()
    for _ in range(50):
        assert stored(store) == {"A": "2"}
    assert store.write({"A": "3"}) == 3
    assert store_s.write({"A": "4"}) == 4
    assert stored(store_s) == {"A": "4"}

    def heard() -> bool:
        store_s.write({"A": "5"})
        with contextlib.suppress(NotifierError):
            notice = notifier.wait(0.5)
            return notice is not None and notice.revision is not None
        return False

    eventually("heard of again", heard)
    # Made a replica by hand: the sentinel still names it, but it says of itself that it is none.
    watched.two.ask("REPLICAOF", "127.0.0.1", watched.one.port)
    with pytest.raises(StoreUnavailable, match=r"heals by itself|not the master") as caught:
        store_s.write({"A": "6"})
    assert not isinstance(caught.value, OutcomeUnknown)
    with pytest.raises(StoreUnavailable, match=r"not the master|heals by itself"):
        store_s.read_since(0, "")
    notifier.close()
    store.close()
    store_s.close()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"service": "shoe"}, "1 of the sentinels know no master of the name 'shoe'"),
        ({"password": "none"}, r"no sentinel answered .*sentinel_password"),
    ],
)
def test_what_is_wrong_about_the_sentinels_is_named(
    watched: Watched, changed: dict[str, str], says: str
) -> None:
    store = _store(watched.url(**changed))
    with pytest.raises(StoreUnavailable, match=says) as caught:
        store.read_since(0, "")
    assert "s3cret" not in str(caught.value)
    assert not isinstance(caught.value, OutcomeUnknown)
    store.close()


def test_time_for_connecting_covers_the_sentinels_that_do_not_answer() -> None:
    with contextlib.ExitStack() as stack:
        holes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        hosts = ",".join(f"127.0.0.1:{hole.getsockname()[1]}" for hole in holes)
        store = _store(f"redis+sentinel://{hosts}/shop", timeout_s=1.0)
        with Stopwatch() as watch, pytest.raises(StoreError, match="no sentinel answered"):
            store.write({"A": "1"})
        watch.assert_within(1.0)
        notifier = RedisNotifier(f"redis+sentinel://{hosts}/shop", "shop", timeout_s=1.0)
        with Stopwatch() as watch, pytest.raises(NotifierError, match="no sentinel answered"):
            notifier.announce(1)
        watch.assert_within(1.0)
        notifier.close()
        store.close()
