"""A Redis user with exactly the rights that the page about several hosts documents."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.cli import group
from uwsgi_waffle.errors import NotifierError, OutcomeUnknown, StoreError, StoreUnavailable
from uwsgi_waffle.notifiers.base import Notice
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores.redis import RedisStore

from .conftest import StartRedis
from .support.redis_server import RedisServer

pytestmark = [pytest.mark.redis_server, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[1] / "docs" / "hosts.md"


def documented() -> list[str]:
    """Return what stands behind ``ACL SETUSER shop`` on the page."""
    (line,) = re.findall(r"^ACL SETUSER shop ((?:.*\\\n)*.*)$", PAGE.read_text(), re.MULTILINE)
    return str(line).replace("\\\n", " ").split()


def _let(server: RedisServer, *changes: str) -> str:
    """Give the user the documented rights, with some changes; return its URL."""
    server.ask("ACL", "SETUSER", "shop", "reset", *documented(), *changes)
    return server.url.replace("redis://", "redis://shop:password@")


def _refused(server: RedisServer) -> set[str]:
    """Return what the user was refused, also where that is no error."""
    # Names and values in turns, or a mapping, as the version of redis-py has it.
    entries = [
        entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
        for entry in server.ask("ACL", "LOG")
    ]
    objects = {entry[b"object"].decode() for entry in entries}
    # redis-py only says by it who it is.
    return objects - {"client", "client|setinfo", "client|maint_notifications"}


def test_all_of_the_product_runs_with_the_documented_rights(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    url = _let(redis_server)
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["WAFFLE_CONFS"] = {
        "LIMIT": {"desc": "Limit", "default": 1},
        "OLD": {"desc": "Not used any more", "default": 1},
    }
    app.config |= {
        "WAFFLE_STORE_URL": url,
        "WAFFLE_REDIS_URL": url,
        "WAFFLE_REDIS_CHANNEL": "waffleconf",
        "WAFFLE_WATCHTYPE": "redis",
        "WAFFLE_STORE_TIMEOUT": 10.0,
        "WAFFLE_WRITE_TIMEOUT": 10.0,
        "WAFFLE_REDIS_TIMEOUT": 10.0,
    }
    WaffleConf(app)
    runner = app.test_cli_runner()
    kept = str(tmp_path / "kept.json")
    for command in (
        ["set", "LIMIT=2", "OLD=3", "--reason", "first"],
        ["reset", "OLD"],
        ["history"],
        ["list"],
        ["workers"],
        ["backup", kept],
        ["rollback", "1", "--yes"],
        ["restore", kept, "--yes"],
        ["prune", "--yes"],
        ["describe", "LIMIT"],
        ["doctor"],
    ):
        done = runner.invoke(group, command)
        # No worker has read the changes of these commands, which two of them say.
        allowed = (0, 1) if command in (["workers"], ["doctor"]) else (0,)
        assert done.exit_code in allowed, (command, done.output, done.exception)
        assert "lacks a right" not in done.output
    assert _refused(redis_server) == set()


@pytest.mark.parametrize(
    ("change", "right"),
    [
        (["-evalsha"], r"`ACL SETUSER <user> \+evalsha`"),
        (["resetkeys", "~other:*"], r"`ACL SETUSER <user> ~\{waffle\}:\*`"),
        (["-zadd"], "lacks a right"),
        (["-xadd"], "lacks a right"),
    ],
)
def test_right_that_the_store_lacks_is_named_and_nothing_is_half_done(
    redis_server: RedisServer, change: list[str], right: str
) -> None:
    everything = RedisStore(redis_server.url, timeout_s=10.0, write_timeout_s=10.0)
    everything.prepare()
    everything.write({"A": "1"})
    keys = everything.dump()
    store = RedisStore(_let(redis_server, *change), timeout_s=10.0, write_timeout_s=10.0)
    with pytest.raises(StoreError, match=right) as caught:
        store.write({"A": "2"})
    assert not isinstance(caught.value, OutcomeUnknown | StoreUnavailable)
    if _major(redis_server) >= 7 or change != ["-zadd"]:
        assert everything.dump() == keys
    store.close()
    everything.close()


def _major(server: RedisServer) -> int:
    return int(server.ask("INFO", "server")["redis_version"].partition(".")[0])


@pytest.mark.parametrize(
    ("change", "right"),
    [
        (["-publish"], r"\+publish"),
        (["-subscribe"], r"\+subscribe"),
        (["resetchannels"], "&waffleconf"),
    ],
)
def test_right_that_notices_lack_is_named(
    redis_server: RedisServer, change: list[str], right: str
) -> None:
    notifier = RedisNotifier(_let(redis_server, *change), "waffleconf", timeout_s=10.0)

    def exchange() -> None:
        while notifier.wait(0.1) is None:
            pass
        notifier.announce(1)

    with pytest.raises(NotifierError, match=right):
        exchange()
    notifier.close()


def test_notices_alone_need_the_rights_that_the_page_says(redis_server: RedisServer) -> None:
    (rights,) = re.findall(r"For notices alone, `([^`]*)`", PAGE.read_text())
    redis_server.ask("ACL", "SETUSER", "shop", "reset", "on", ">password", *rights.split())
    url = redis_server.url.replace("redis://", "redis://shop:password@")
    notifier = RedisNotifier(url, "waffleconf", timeout_s=10.0)
    while (heard := notifier.wait(0.1)) is None:
        pass
    assert heard == Notice(None)
    notifier.announce(7)
    assert notifier.wait(10.0) == Notice(7)
    notifier.close()
    assert _refused(redis_server) == set()


@pytest.mark.parametrize(
    ("login", "server", "says"),
    [
        (":wrong@", {"password": "s3cret"}, "user name or password is wrong"),
        ("eve:s3cret@", {"password": "s3cret"}, "user name or password is wrong"),
        ("", {"password": "s3cret"}, "asks for a password"),
        ("", {"options": ["--maxclients", "1"]}, "raise its maxclients"),
        ("", {"options": ["--databases", "1"]}, "no database of this number"),
    ],
)
def test_what_the_server_refuses_is_named(
    make_redis: StartRedis, login: str, server: dict[str, Any], says: str
) -> None:
    running = make_redis(**server)
    running.start()
    place = f"127.0.0.1:{running.port}"
    with contextlib.closing(socket.create_connection(("127.0.0.1", running.port))):
        database = "1" if "database" in says else "0"
        store = RedisStore(f"redis://{login}{place}/{database}", timeout_s=10.0)
        with pytest.raises(StoreError, match=says) as caught:
            store.read_since(0, "")
        store.close()
    assert "the URL" in str(caught.value) or "maxclients" in str(caught.value)
    assert "s3cret" not in str(caught.value)
