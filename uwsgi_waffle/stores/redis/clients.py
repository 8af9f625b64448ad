"""Clients of Redis for one process, and the meaning of what they raise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import redis

from ...errors import OutcomeUnknown, StoreError, StoreUnavailable
from ...redis_servers.clients import close, doubt, make_client
from ...redis_servers.failures import Place, failure_of
from ...redis_servers.urls import RedisUrl


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
    def make(
        cls, url: RedisUrl, key: str, named: str, timeout_s: float, write_timeout_s: float
    ) -> Clients:
        """Return the clients of a store.

        :param key: one of its keys.
        :param named: where the URL was given, for messages.
        """
        reader, writer = (
            make_client(
                url,
                connect_s=timeout_s,
                answer_s=answer_s,
                key=named,
                slot_of=key,
                decode_responses=True,
                # A backslash followed by an x is no JSON: of a text that is no UTF-8, the default
                # is served, and all others are read.
                encoding_errors="backslashreplace",
            )
            for answer_s in (timeout_s, write_timeout_s)
        )
        return cls(
            reader,
            writer,
            prepare=writer.register_script(_script("prepare")),
            read_since=reader.register_script(_script("read_since")),
            write=writer.register_script(_script("allowed", "publish", "write")),
            load=writer.register_script(_script("allowed", "publish", "load")),
            stand_in=writer.register_script(_script("publish", "stand_in")),
            report=reader.register_script(_script("report")),
        )

    def close(self) -> None:
        """Close the connections; they open again when they are needed."""
        close(self.reader)
        close(self.writer)

    def doubt(self) -> None:
        """Look for the server again; keep the connections on which other threads wait."""
        with contextlib.suppress(redis.RedisError, OSError):
            doubt(self.reader)
            doubt(self.writer)


@contextlib.contextmanager
def translated(clients: Clients, place: Place, *, sent: bool = False) -> Iterator[Clients]:
    """Raise what redis-py raises as an error of the store.

    :param sent: a change was sent, so that a lost answer leaves its outcome unknown.
    """
    try:
        yield clients
    except (redis.RedisError, OSError) as exc:
        failure = failure_of(exc, place)
        if failure.kind == "passing":
            # Where the name leads to another server meanwhile, the next call finds it.
            clients.doubt()
        elif failure.kind == "lost" and sent:
            raise OutcomeUnknown(
                f"{failure.text}; the connection broke while the change was made, so it may have "
                "been made: read the settings before you repeat it"
            ) from exc
        elif not isinstance(exc, redis.ConnectionError | redis.TimeoutError | OSError):
            raise StoreError(failure.text) from exc
        raise StoreUnavailable(failure.text) from exc


def _script(*names: str) -> str:
    """Return the text of a script, before it those of the functions that it calls."""
    folder = files(__package__) / "lua"
    return "".join((folder / f"{name}.lua").read_text("utf-8") for name in names)
