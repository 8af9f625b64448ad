"""The store in Redis."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

import msgspec
import redis

from ...errors import (
    RevisionConflict,
    StoreError,
    StoreMissing,
)
from ...forking import PerProcess
from ...masking import redact
from ...redis_servers.failures import Place, is_moved
from ...redis_servers.urls import parse_redis_url
from ...snapshot import Delta, Row
from ..base import PRUNED_AT_ONCE, URL_NAMED, Channel, Dump, HistoryEntry, Store, WorkerReport
from ..epochs import words_in
from ..soundness import Found, sound_entries, sound_reports
from .clients import Clients, translated
from .rows import aged_report, entry_of, fields_of, id_before, optional_text

logger = logging.getLogger("uwsgi_waffle")

T = TypeVar("T")

DEFAULT_PREFIX = "waffle:"
#: fewer than other stores keep, because they lie in memory
REDIS_HISTORY_LIMIT = 10_000
_PAGE = 200


class RedisStore(Store):
    """Keeps settings in Redis; a read and a change are one script each, and one round trip.

    A script runs alone and as a whole, so that a change is seen whole or not at all; with a
    channel, it publishes the change as well. It keeps marks. All keys are in one hash slot of a
    cluster. How durable a change is, and what a restart keeps, Redis's own persistence decides.

    Source: Redis documentation, "Scripting with Lua": a script's effects are atomic.

    :param url: ``redis://``, ``rediss://`` or ``unix://``; with ``+sentinel`` or ``+cluster`` the
        servers that know where it is. Its query may have ``prefix`` and ``channel``.
    :param prefix: what the keys begin with, as a hash tag: with ``shop:`` they begin with
        ``{shop}:``. Give each app its own.
    :param channel: publish each change there, even if the app gets its notices in another way. Not
        needed where ``WAFFLE_WATCHTYPE`` is ``redis`` and names the same server.
    :param timeout_s: longest time that connecting may take, and an answer to a read.
    :param write_timeout_s: longest time that an answer to a write may take.
    :param history_limit: how many changes the history keeps; they are in Redis's memory.
    :param named: where the URL was given, such as a key of ``app.config``, for messages.
    """

    calls_before_commit = True
    keeps_replaced = True

    def __init__(
        self,
        url: str,
        *,
        prefix: str | None = None,
        channel: str | None = None,
        timeout_s: float = 1.0,
        write_timeout_s: float = 5.0,
        history_limit: int = REDIS_HISTORY_LIMIT,
        named: str = URL_NAMED,
    ) -> None:
        self._shown = redact(url)
        self._named = named
        self._url = parse_redis_url(url, key=named, own=("prefix", "channel"))
        ours = self._url.own
        prefix = _tagged(prefix or ours.get("prefix") or DEFAULT_PREFIX)
        self._channel = channel or ours.get("channel", "")
        # Whether it is the one that the app hears of changes by, and what it refused last.
        self._is_heard = False
        self._refusal = ""
        self._history_limit = history_limit
        self._workers = f"{prefix}workers"
        self._apps = f"{prefix}apps"
        self._prefix = prefix
        self._keys = [prefix + name for name in ("meta", "raws", "revisions", "history")]
        self._clients = PerProcess(
            lambda: Clients.make(self._url, self._keys[0], named, timeout_s, write_timeout_s)
        )
        # Made once here, so that a bad URL is an error at the start.
        self._clients.get()

    def __repr__(self) -> str:
        return f"<RedisStore {self._shown}>"

    @property
    def identity(self) -> str:
        return f"{self._shown} {self._keys[0]}"

    @property
    def announces(self) -> bool:
        return self._is_heard and not self._refusal

    def announce_on(self, channel: Channel) -> None:
        # What one instance does for two apps, it does for the first one's channel.
        if channel.kind == "redis" and self._channel in ("", channel.name):
            heard = parse_redis_url(channel.url, key="WAFFLE_REDIS_URL")
            self._is_heard = heard.place == self._url.place
            if self._is_heard:
                self._channel = channel.name

    def prepare(self) -> None:
        """Make the revision and the epoch, unless they are there.

        :raises StoreUnavailable: Redis can't be reached.
        :raises StoreError: Redis refuses.
        """
        with self._translated() as clients:
            if not clients.reader.hexists(self._keys[0], "revision"):
                clients.prepare(keys=self._keys, args=[uuid.uuid4().hex, secrets.token_hex(8)])

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        known = [revision, epoch, mark]
        reply: list[Any] = self._on_reader(
            lambda clients: clients.read_since(keys=self._keys, args=known)
        )
        if not reply:
            raise self._lost()
        rows = zip(reply[4::2], reply[5::2], strict=True)
        return Delta(
            revision=int(reply[0]),
            epoch=reply[1],
            rows=tuple(Row(name, raw) for name, raw in rows),
            complete=bool(reply[3]),
            mark=reply[2],
        )

    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> int:
        arguments: list[str | int] = [
            "" if expected_revision is None else expected_revision,
            self._history_limit,
            PRUNED_AT_ONCE,
            self._channel,
            secrets.token_hex(8),
            datetime.now(timezone.utc).isoformat(),
            optional_text(author),
            optional_text(reason),
        ]
        for name in sorted(raws, reverse=True):
            arguments += [name, optional_text(raws[name])]
        return self._changed(self._clients.get().write, arguments, expected_revision, before_commit)

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        found = Found[HistoryEntry]()
        newest = "+"

        def read(clients: Clients) -> Any:
            return clients.reader.xrevrange(self._keys[3], max=newest, count=_PAGE)

        while len(found) < limit:
            page = self._on_reader(read)
            entries = sound_entries(entry_of(key, fields) for key, fields in page)
            found.damaged += entries.damaged
            found += [entry for entry in entries if name in (None, entry.name)]
            if len(page) < _PAGE:
                break
            newest = id_before(page[-1][0])
        if not found and not self._on_reader(
            lambda clients: clients.reader.hexists(self._keys[0], "epoch")
        ):
            raise self._lost()
        return found.cut(limit)

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        arguments: list[str | int] = [
            "" if expected_revision is None else expected_revision,
            dump.revision,
            # No reader has this mark yet, so that one for all revisions is enough.
            secrets.token_hex(8) if dump.revision else "",
            self._channel,
            len(dump.raws),
        ]
        for name, raw in dump.raws.items():
            arguments += [name, raw]
        # Oldest first, and within a revision by name backwards, as a change writes them.
        for entry in reversed(dump.history):
            if entry.revision > dump.revision - self._history_limit:
                arguments += fields_of(entry)
        self._changed(self._clients.get().load, arguments, expected_revision, before_commit)

    def replaced(self) -> frozenset[str]:
        wanted = ["epoch", "replaced"]
        found: Any = self._on_reader(lambda clients: clients.reader.hmget(self._keys[0], wanted))
        epoch, text = found
        if epoch is None:
            raise self._lost()
        return words_in(text)

    def stand_in(
        self, epochs: Iterable[str], *, before_commit: Callable[[], None] | None = None
    ) -> None:
        arguments = [self._channel, *sorted(epochs)]
        self._changed(self._clients.get().stand_in, arguments, None, before_commit)

    def enroll(self, app: str, record: str) -> None:
        with self._translated() as clients:
            clients.writer.hset(self._apps, app, record)

    def apps(self) -> dict[str, str]:
        found: Any = self._on_reader(lambda clients: clients.reader.hgetall(self._apps))
        return dict(found)

    def report(self, report: WorkerReport) -> None:
        lifetime_ms = max(1, round(report.lifetime_s * 1000))
        text = msgspec.json.encode(report).decode()
        with self._translated() as clients:
            clients.report(keys=[self._workers, self._worker(report)], args=[text, lifetime_ms])

    def retract(self, report: WorkerReport) -> None:
        key = self._worker(report)
        with self._translated() as clients, clients.reader.pipeline() as pipeline:
            pipeline.delete(key)
            pipeline.zrem(self._workers, key)
            pipeline.execute()

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        def read(clients: Clients) -> Any:
            keys: Any = clients.reader.zrange(self._workers, 0, -1)
            with clients.reader.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.get(key)
                    pipeline.pttl(key)
                return pipeline.execute()

        replies = self._on_reader(read)
        found = sound_reports(
            aged_report(text, left_ms)
            for text, left_ms in zip(replies[::2], replies[1::2], strict=True)
            # The key of a dead process is gone, though its name may be here still.
            if text is not None and left_ms >= 0
        )
        found[:] = [each for each in found if each.age_s <= max_age_s]
        found.sort(key=lambda each: (each.app, each.host, each.worker_id, each.pid))
        return found

    def _worker(self, report: WorkerReport) -> str:
        return f"{self._workers}:{report.app}:{report.host}:{report.pid}"

    def close(self) -> None:
        clients = self._clients.peek()
        if clients is not None:
            clients.close()

    def _on_reader(self, read: Callable[[Clients], T]) -> T:
        """Return what a function reads.

        A server that was restarted, or that closed what was idle or killed, has ended the
        connection: it is replaced, and the function runs once more.
        """
        with self._translated() as clients:
            try:
                return read(clients)
            except (redis.ConnectionError, redis.ResponseError) as exc:
                if is_moved(exc):
                    clients.doubt()
                # What a server says that is there is no better the second time.
                elif not isinstance(exc, redis.ConnectionError) or isinstance(
                    exc, redis.AuthenticationError | redis.exceptions.BusyLoadingError
                ):
                    raise
            return read(clients)

    def _changed(
        self,
        script: Any,
        arguments: Sequence[str | int],
        expected_revision: int | None,
        before_commit: Callable[[], None] | None,
    ) -> int:
        """Run a script that commits a change; return the revision of the store after it."""
        # Strictly, unlike redis-py: what is no text must be refused, not changed.
        try:
            encoded = [each.encode() if isinstance(each, str) else each for each in arguments]
        except UnicodeError as exc:
            raise StoreError(f"{exc}; Redis is sent no such text") from exc
        with self._translated() as clients:
            writer: Any = clients.writer  # redis-py leaves client() without types
            # Connected here, so that only the commit itself comes after before_commit.
            client = writer.client()
        with client:
            if before_commit is not None:
                before_commit()
            with self._translated(sent=True):
                reply: list[Any] = script(keys=self._keys, args=encoded, client=client)
        if not reply:
            raise self._lost()
        revision = int(reply[1])
        if not reply[0]:
            assert expected_revision is not None
            raise RevisionConflict(expected_revision, revision)
        self._note_refusal(str(reply[2]))
        return revision

    def _note_refusal(self, refusal: str) -> None:
        """Note why a change that was made was not announced; it is announced otherwise then."""
        if refusal and not self._refusal:
            logger.warning(
                "Redis at %s made a change, but did not announce it with it (%s): let the "
                "store's user publish on the channel %r (ACL: &%s)",
                self._shown,
                refusal,
                self._channel,
                self._channel,
            )
        self._refusal = refusal

    def _translated(self, *, sent: bool = False) -> contextlib.AbstractContextManager[Clients]:
        place = Place(self._shown, self._named, self._prefix, self._channel)
        return translated(self._clients.get(), place, sent=sent)

    def _lost(self) -> StoreMissing:
        return StoreMissing(
            f"Redis at {self._shown} holds no settings (there is no key {self._keys[0]})"
        )


def _tagged(prefix: str) -> str:
    """Return a prefix with a hash tag, which puts all keys into one slot of a cluster.

    Source: Redis documentation, "Cluster specification", hash tags: what is between the first
    ``{`` and the next ``}`` decides, unless it is empty.
    """
    if re.match(r"[^{]*\{[^}]+\}", prefix):
        return prefix
    stem = prefix.rstrip(":") or prefix
    return f"{{{stem}}}{prefix[len(stem) :]}"
