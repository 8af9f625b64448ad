"""Settings and notices in a Redis Cluster, whose nodes have a part of the keys each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from uwsgi_waffle.errors import StoreError, StoreUnavailable
from uwsgi_waffle.notifiers.base import Notice
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores import Channel
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.testing.assertions import stored
from uwsgi_waffle.testing.report_contract import a_report

from .support.processes import is_free
from .support.redis_server import RedisServer

pytestmark = [pytest.mark.redis_server, pytest.mark.timeout(120)]

SLOTS = 16384
BELOW = 22_700


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Two nodes, with half of the hash slots each."""
    with contextlib.ExitStack() as stack:
        nodes = [_node(tmp_path_factory.mktemp("node"), stack) for _ in range(2)]
        for number, node in enumerate(nodes):
            begin, end = number * SLOTS // 2, (number + 1) * SLOTS // 2
            node.ask("CLUSTER", "ADDSLOTS", *range(begin, end))
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        for node in nodes:
            node.process.eventually("whole", functools.partial(_is_whole, node))
        yield nodes


def _node(folder: Path, stack: contextlib.ExitStack) -> RedisServer:
    while True:
        node = RedisServer(folder, options=["--cluster-enabled", "yes"])
        # Its bus takes the port 10,000 above, which must be below those of the kernel as well.
        if node.port < BELOW and is_free(node.port + 10_000):
            break
    stack.callback(node.stop)
    node.start()
    return node


def _is_whole(node: RedisServer) -> bool:
    info = node.ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:2" in info


def _url(nodes: list[RedisServer]) -> str:
    # The first one is not there.
    return "redis+cluster://" + ",".join(["127.0.0.1:1", *(f"127.0.0.1:{n.port}" for n in nodes)])


@pytest.mark.parametrize("prefix", ["waffle:", "shop:", "other_{tag}:"])
def test_store_finds_the_node_that_has_its_keys(nodes: list[RedisServer], prefix: str) -> None:
    store = RedisStore(_url(nodes), prefix=prefix, timeout_s=10.0, write_timeout_s=10.0)
    store.announce_on(Channel("redis", "shop", _url(nodes)))
    notifier = RedisNotifier(_url(nodes), "shop", timeout_s=10.0)
    assert notifier.wait(10.0) == Notice(None)
    store.prepare()
    assert store.write({"A": "1"}) == 1
    heard = notifier.wait(10.0)
    assert heard is not None
    assert heard.revision in (1, None)
    assert store.write({"A": "2", "B": "3"}) == 2
    assert stored(store) == {"A": "2", "B": "3"}
    assert [entry.revision for entry in store.history(name="A")] == [2, 1]
    report = a_report()
    store.report(report)
    assert len(store.workers(60.0)) == 1
    store.retract(report)
    assert store.workers(60.0) == []
    store.enroll("shop", "{}")
    store.load(store.dump())
    # Whichever node it is, all keys are there.
    keys = {key.decode() for node in nodes for key in node.ask("KEYS", f"*{prefix.strip(':')}*")}
    assert len(keys) == 5
    assert len({key_slot(key.encode()) for key in keys}) == 1
    notifier.close()
    store.close()


def test_keys_that_move_are_followed(nodes: list[RedisServer]) -> None:
    store = RedisStore(_url(nodes), prefix="moving:", timeout_s=10.0, write_timeout_s=10.0)
    store.prepare()
    store.write({"A": "1"})
    slot = key_slot(b"{moving}:meta")
    source, target = nodes if slot < SLOTS // 2 else nodes[::-1]
    keys = [key.decode() for key in source.ask("KEYS", "{moving}:*")]
    ids = {node.port: node.ask("CLUSTER", "MYID") for node in nodes}
    try:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 10_000, "KEYS", *keys)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
        # A read follows at once; what would change something is an outage that ends.
        assert stored(store) == {"A": "1"}
        assert store.write({"A": "2"}) == 2
    finally:
        for node in nodes:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
    store.close()


def test_single_node_of_a_cluster_names_the_fix(nodes: list[RedisServer]) -> None:
    slot = key_slot(b"{waffle}:meta")
    right, wrong = nodes if slot < SLOTS // 2 else nodes[::-1]
    store = RedisStore(wrong.url, timeout_s=10.0)
    with pytest.raises(StoreError, match=r"redis\+cluster://") as caught:
        store.read_since(0, "")
    assert not isinstance(caught.value, StoreUnavailable)
    assert "the URL" in str(caught.value)
    store.close()
    store = RedisStore(right.url, prefix="waffle:", timeout_s=10.0)
    store.prepare()
    store.read_since(0, "")
    store.close()


def test_server_that_is_in_no_cluster_is_named(redis_server: RedisServer) -> None:
    url = redis_server.url.replace("redis://", "redis+cluster://")
    store = RedisStore(url, timeout_s=10.0)
    with pytest.raises(StoreUnavailable, match="cluster mode"):
        store.read_since(0, "")
    store.close()
