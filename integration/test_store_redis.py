"""The Redis store keeps the contract on a real server, through restarts and standstills."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from uwsgi_waffle.errors import (
    OutcomeUnknown,
    RevisionConflict,
    StoreError,
    StoreMissing,
    StoreUnavailable,
)
from uwsgi_waffle.notifiers.base import Notice
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores import Channel, Store, WorkerReport
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.soundness import Found
from uwsgi_waffle.testing.assertions import raises, read_after, stored

from .support.redis_server import RedisServer
from .support.server_contract import FrozenContract, OnServer, ServerContract
from .support.swallowing import swallowing
from .support.waiting import eventually
from .test_redis_rights import documented


class _Redis(OnServer):
    @pytest.fixture
    def store(self, make_redis: Callable[..., RedisServer]) -> Iterator[RedisStore]:
        # As the user of the page about several hosts, who may do nothing else.
        rights = [each.replace("{waffle}", "{site}") for each in documented()]
        options = ["--user", "shop", *rights]
        self.server = make_redis(password="s3cret", durable=True, options=options)
        self.server.start()
        store = RedisStore(
            f"{self.server.url.replace('//:s3cret', '//shop:password')}?prefix=site:",
            timeout_s=self.timeout_s,
            write_timeout_s=self.write_timeout_s,
            history_limit=1_000_000,
        )
        yield store
        store.close()

    @contextlib.contextmanager
    def going_back(self, store: Store) -> Iterator[None]:
        saved = {key: self.server.ask("DUMP", key) for key in self.server.ask("KEYS", "{site}:*")}
        yield
        self.server.ask("FLUSHALL")
        for key, dump in saved.items():
            self.server.ask("RESTORE", key, 0, dump)

    def lose(self, store: Store) -> None:
        self.server.ask("FLUSHALL")


class TestFrozenRedis(_Redis, FrozenContract):
    pass


@pytest.mark.short
class TestRedis(_Redis, ServerContract):
    def test_read_and_change_are_one_round_trip_each(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1", "B": "1"})
        store.read_since(0, "")
        calls = self._calls()
        for _ in range(10):
            store.read_since(0, "")
        assert self._calls() - calls == {"evalsha": 10}
        calls = self._calls()
        for number in range(10):
            store.write({"A": str(number), "B": str(number)})
        assert self._calls() - calls == {"evalsha": 10}

    def test_damaged_entries_and_reports_are_left_out_and_counted(self, store: RedisStore) -> None:
        store.prepare()
        for value in "12":
            store.write({"A": value})
        self.server.ask("XADD", "{site}:history", "3-0", "name", "A", "at", "a while ago")
        report = WorkerReport("shop", "host", 1, 1, 1, 0.5, "VALID", None, 60.0)
        for pid in (1, 2, 3):
            store.report(report._replace(pid=pid))
        self.server.ask("SET", "{site}:workers:shop:host:1", "no report", "KEEPTTL")
        self.server.ask("SET", "{site}:workers:shop:host:2", '{"revision": "many"}', "KEEPTTL")
        entries = store.history(limit=2)
        assert isinstance(entries, Found)
        assert ([entry.revision for entry in entries], entries.damaged) == ([2, 1], 1)
        reports = store.workers(60.0)
        assert isinstance(reports, Found)
        assert ([each.pid for each in reports], reports.damaged) == ([3], 2)

    def test_change_whose_answer_was_lost_is_made_once_and_its_outcome_unknown(
        self, store: RedisStore
    ) -> None:
        store.prepare()
        store.write({"A": "1"})
        with swallowing(self.server.port, b"EVALSHA") as (port, swallowed):
            url = self.server.url.replace(str(self.server.port), str(port))
            lossy = RedisStore(
                # redis-py's own retries must not make it twice either.
                f"{url}?prefix=site:",
                timeout_s=self.timeout_s,
                write_timeout_s=self.write_timeout_s,
            )
            seen: list[int] = []
            with pytest.raises(OutcomeUnknown, match="may have been made"):
                lossy.write(
                    {"A": "2"},
                    before_commit=lambda: seen.append(store.read_since(0, "").revision),
                )
            assert swallowed() == 1
            assert seen == [1]
            # What could not even connect was not made.
            assert store.read_since(0, "").revision == 2
            assert [entry.new_raw for entry in store.history(name="A")] == ["2", "1"]
            lossy.close()
        with pytest.raises(StoreUnavailable) as caught:
            lossy.write({"A": "3"})
        assert not isinstance(caught.value, OutcomeUnknown)
        lossy.close()
        assert store.write({"A": "3"}, expected_revision=2) == 3

    def test_read_replaces_a_connection_that_was_killed(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        known = store.read_since(0, "")
        assert self.server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert store.read_since(0, "") == known
        assert store.write({"A": "2"}) == 2

    def test_read_whose_connection_broke_is_read_once_more(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        known = store.read_since(0, "")
        with swallowing(self.server.port, b"EVALSHA") as (port, swallowed):
            url = self.server.url.replace(str(self.server.port), str(port))
            lossy = RedisStore(f"{url}?prefix=site:", timeout_s=self.timeout_s)
            assert lossy.read_since(0, "") == known
            assert swallowed() == 1
            lossy.close()

    def test_restart_from_an_older_dump_is_noticed(
        self, make_redis: Callable[..., RedisServer]
    ) -> None:
        server = make_redis()
        server.start()
        store = RedisStore(server.url)
        store.prepare()
        store.write({"A": "1"})
        first = store.read_since(0, "")
        server.ask("SAVE")
        store.write({"A": "500"})
        known = read_after(store, first)
        server.stop()
        server.start()
        # As far as it goes back, so far the reader does.
        delta = read_after(store, known)
        assert (delta.complete, delta.revision, delta.rows) == (True, 1, (("A", "1"),))
        store.write({"A": "6"})
        delta = read_after(store, known)
        assert (delta.complete, delta.revision, delta.rows) == (True, 2, (("A", "6"),))
        store.close()

    def test_names_of_dead_processes_are_forgotten_by_the_next_report(
        self, store: RedisStore
    ) -> None:
        store.prepare()
        now_ms = int(self.server.ask("TIME")[0]) * 1000
        self.server.ask("ZADD", "{site}:workers", now_ms - 60_000, "dead", now_ms + 60_000, "alive")
        store.report(WorkerReport("shop", "host", 1, 1, 1, 0.5, "VALID", None, 60.0))
        names = self.server.ask("ZRANGE", "{site}:workers", 0, -1)
        assert sorted(names) == [b"alive", b"{site}:workers:shop:host:1"]
        store.retract(WorkerReport("shop", "host", 1, 1, 1, 0.5, "VALID", None, 60.0))
        assert self.server.ask("ZRANGE", "{site}:workers", 0, -1) == [b"alive"]
        assert not self.server.ask("EXISTS", "{site}:workers:shop:host:1")

    def test_history_is_whole_over_the_border_of_its_pages(self, store: RedisStore) -> None:
        store.prepare()
        # Pages of 200 entries end within a revision, at the last entry of one, and at the last.
        counts = (100, 150, 150, 200)
        for count in counts:
            store.write({f"S{number:03}": "1" for number in range(count)})
        entries = store.history(limit=10_000)
        assert [(entry.revision, entry.name) for entry in entries] == [
            (revision, f"S{number:03}")
            for revision, count in reversed([*enumerate(counts, 1)])
            for number in range(count)
        ]

    def test_text_that_is_no_utf_8_costs_that_setting_only(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1", "B": "1"})
        known = store.read_since(0, "")
        self.server.ask("HSET", "{site}:raws", "B", b'"\xff"')
        self.server.ask("HSET", "{site}:raws", b"N\xff", "1")
        assert stored(store) == {"A": "1", "B": '"\\xff"', "N\\xff": "1"}
        assert store.write({"B": "2", "C": "1"}) == 2
        assert dict(read_after(store, known).rows) == {"B": "2", "C": "1"}
        assert store.history(name="B", limit=1)[0].old_raw == '"\\xff"'

    def test_history_leaves_out_what_has_no_time(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        broken = (["name", "A", "at", "x"], ["name", "A"], ["at", "2026-01-31"])
        for number, fields in enumerate(broken, 1):
            self.server.ask("XADD", "{site}:history", f"1-{number}", *fields)
        store.write({"A": "2"})
        assert [entry.new_raw for entry in store.history()] == ["2", "1"]

    def test_replica_is_an_outage_that_ends_by_itself(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        known = store.read_since(0, "")
        # Of a server that is not there: the last values may still be read.
        self.server.ask("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreUnavailable) as caught:
            store.write({"A": "2"})
        assert not isinstance(caught.value, OutcomeUnknown)
        assert read_after(store, known).revision == 1
        self.server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
        with pytest.raises(StoreUnavailable):
            read_after(store, known)
        self.server.ask("REPLICAOF", "NO", "ONE")
        assert store.write({"A": "2"}) == 2
        assert stored(store) == {"A": "2"}

    def test_keys_have_the_prefix_and_apps_share_a_server(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        other = RedisStore(f"{self.server.url}", prefix="other:")
        other.prepare()
        assert stored(other) == {}
        other.write({"A": "2"})
        assert stored(store) == {"A": "1"}
        keys = ("meta", "raws", "revisions", "history")
        assert {key.decode() for key in self.server.ask("KEYS", "*")} == {
            f"{{{name}}}:{key}" for name in ("site", "other") for key in keys
        }
        other.close()

    def test_change_is_published_with_it(self, store: RedisStore) -> None:
        store.prepare()
        loud = RedisStore(f"{self.server.url}?prefix=site:&channel=waffleconf")
        notifier = RedisNotifier(self.server.url, "waffleconf", timeout_s=10.0)
        assert notifier.wait(10.0) == Notice(None)
        assert loud.write({"A": "1"}) == 1
        notice = notifier.wait(10.0)
        assert notice is not None
        assert notice.revision == 1
        with raises(RevisionConflict):
            loud.write({"A": "2"}, expected_revision=7)
        assert notifier.wait(0.2) is None
        notifier._disconnect()
        notifier.close()
        loud.close()

    def test_app_that_hears_of_changes_by_the_same_server_need_announce_none(
        self, store: RedisStore
    ) -> None:
        store.prepare()
        here = f"redis://ann:pw@{self.server.url.rpartition('@')[2].rpartition('//')[2]}"
        # Neither by another server nor on another channel than the user has chosen.
        for channel, address, wanted in (
            (None, "redis://db1:7000", False),
            ("theirs", here, False),
            ("waffleconf", here, True),
        ):
            other = RedisStore(self.server.url, channel=channel)
            other.announce_on(Channel("redis", "waffleconf", address))
            assert other.announces is wanted
            other.close()
        announcing = store.announces
        assert not announcing
        store.announce_on(Channel("redis", "waffleconf", here))
        announcing = store.announces
        assert announcing
        notifier = RedisNotifier(self.server.url, "waffleconf", timeout_s=10.0)
        assert notifier.wait(10.0) == Notice(None)
        store.write({"A": "1"})
        store.load(store.dump())
        store.stand_in(["0" * 16])
        delta = store.read_since(0, "")
        notices: list[Notice] = []

        def heard() -> bool:
            while (more := notifier.wait(0.1)) is not None:
                notices.append(more)
            # The load has the revision of the change, and its own mark.
            last = (Notice(1, delta.epoch, delta.mark), Notice(None))
            return bool(notices) and notices[-1] in last

        eventually("heard of the last one", heard)
        notifier._disconnect()
        notifier.close()

    def test_change_that_may_not_be_published_stands_and_says_so(
        self, store: RedisStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.prepare()
        rights = ["on", "nopass", "~*", "+@all", "resetchannels"]
        self.server.ask("ACL", "SETUSER", "mute", *rights)
        url = self.server.url.replace("//", "//mute:x@")
        mute = RedisStore(url, prefix="site:")
        mute.announce_on(Channel("redis", "shop", url))
        assert mute.announces
        for number in (1, 2):
            assert mute.write({"A": str(number)}) == number
            # The app announces it by its own means.
            assert not mute.announces
        (message,) = caplog.messages
        assert "&shop" in message
        self.server.ask("ACL", "SETUSER", "mute", "&shop")
        mute.write({"A": "3"})
        assert mute.announces
        mute.close()

    def test_settings_that_outlived_their_revision_stay_in_force_under_a_new_epoch(
        self, store: RedisStore
    ) -> None:
        store.prepare()
        store.write({"A": "1"})
        epoch = store.read_since(0, "").epoch
        self.server.ask("DEL", "{site}:meta")
        for call in (lambda: store.read_since(1, epoch), lambda: store.write({"A": "2"})):
            with pytest.raises(StoreMissing, match="holds no settings"):
                call()
        store.prepare()
        delta = store.read_since(1, epoch)
        assert delta.complete
        assert delta.epoch != epoch
        assert (delta.revision, delta.rows) == (1, (("A", "1"),))
        assert store.write({"A": "2"}) == 2

    def test_key_of_a_wrong_type_leaves_nothing_half_done(self, store: RedisStore) -> None:
        store.prepare()
        store.write({"A": "1"})
        self.server.ask("RENAME", "{site}:revisions", "aside")
        self.server.ask("SET", "{site}:revisions", "mine")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            store.write({"A": "2"})
        self.server.ask("RENAME", "aside", "{site}:revisions")
        assert stored(store) == {"A": "1"}
        assert len(store.history()) == 1

    def test_password_is_in_no_error(self, store: RedisStore) -> None:
        wrong = RedisStore(self.server.url.replace("s3cret", "s3crab"))
        self.server.stop()
        for refused in (store, wrong):
            with pytest.raises(StoreUnavailable) as caught:
                refused.read_since(0, "")
            self._check_secret(caught.value, refused)
        self.server.start()
        with pytest.raises(StoreUnavailable) as caught:
            wrong.read_since(0, "")
        self._check_secret(caught.value, wrong)
        wrong.close()

    def _check_secret(self, exc: BaseException, store: RedisStore) -> None:
        text = "".join(traceback.format_exception(exc)) + repr(store)
        assert "s3cr" not in text.replace('.replace("s3cret", "s3crab")', "")

    def _calls(self) -> Counter[str]:
        with redis.Redis.from_url(self.server.url) as client:
            info: Any = client.info("commandstats")
        return Counter(
            {
                name.removeprefix("cmdstat_"): stats["calls"]
                for name, stats in info.items()
                if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_multi", "cmdstat_ping")
            }
        )
