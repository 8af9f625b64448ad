"""How long a change takes to every worker by the watchers alone, without any request."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from unittest import mock

import redis
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.stores.sqlite import SqliteStore

from .contenders import BY_NAME, Contender, contenders
from .record import Record
from .reports import Reports
from .servers import ask, raw_subscribers, redis_server, site

WORKERS = 4
CHANNEL = "bench-settings"
RAW_CHANNEL = "bench-raw"
PAUSE_S = 0.05


def run(record: Record) -> None:
    """Measure propagation between hosts beside raw Redis, and that within a host of all."""
    print(f"\nPropagation by Redis to the ear and {WORKERS - 1} workers of another host, unasked")
    _between_hosts(record)
    print(f"\nPropagation from one worker to {WORKERS} others of its host, without a request")
    for contender in contenders(peers=record.peers):
        if not contender.watches:
            continue
        if not (record.quick and contender.follows_s > 5):
            _within_host(record, contender)


def _between_hosts(record: Record) -> None:
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        root = Path(name)
        reports, raw_reports = Reports(root / "reports"), Reports(root / "raw")
        url = f"redis://127.0.0.1:{port}/0"
        store_url = f"sqlite:///{root / 'settings.db'}"
        app = Flask("bench", instance_path=str(root / "writer"))
        app.config.update(
            WAFFLE_CONFS={"NUMBER": {"desc": "counts the rounds", "default": 0}},
            WAFFLE_MULTIPROC=True,
            WAFFLE_WATCHTYPE="redis",
            WAFFLE_REDIS_URL=url,
            WAFFLE_REDIS_CHANNEL=CHANNEL,
            WAFFLE_STORE_URL=store_url,
        )
        waffle = WaffleConf(app)
        scratch = SqliteStore(root / "scratch.db")
        scratch.prepare()
        env = {
            "BENCH_REPORTS": str(root / "reports"),
            "FLASK_WAFFLE_REDIS_CHANNEL": CHANNEL,
            "FLASK_WAFFLE_STORE_URL": store_url,
        }
        with (
            raw_subscribers(root, url, RAW_CHANNEL, root / "raw", WORKERS),
            site(BY_NAME["waffle-redis"], root / "host", workers=WORKERS, redis_port=port, **env),
        ):
            raw_reports.of(0, receivers=WORKERS)
            with app.app_context():
                _in_turns(record, waffle, url, scratch, reports, raw_reports)
                waffle.stop()
                waffle.state.store.close()
        reports.close()
        raw_reports.close()


def _in_turns(
    record: Record,
    waffle: WaffleConf,
    url: str,
    scratch: SqliteStore,
    reports: Reports,
    raw_reports: Reports,
) -> None:
    publisher = redis.Redis.from_url(url)
    published_at: list[int] = []
    announce = RedisNotifier.announce

    def timed_announce(notifier: RedisNotifier, revision: int, *more: str) -> None:
        published_at.append(time.monotonic_ns())
        announce(notifier, revision, *more)

    raw_each: list[float] = []
    raw_last: list[float] = []
    ear: list[float] = []
    each: list[float] = []
    last: list[float] = []
    from_call: list[float] = []
    warm_up = record.rounds(20, 3)
    for number in range(1, warm_up + record.rounds(300, 20) + 1):
        # Both publish after a pause, and right after a commit: as idle a machine, as warm caches.
        time.sleep(PAUSE_S)
        scratch.write({"NUMBER": str(number)})
        raw_at = time.monotonic_ns()
        publisher.publish(RAW_CHANNEL, str(number))
        raw_seen = raw_reports.of(number, receivers=WORKERS)
        time.sleep(PAUSE_S)
        called_at = time.monotonic_ns()
        with mock.patch.object(RedisNotifier, "announce", timed_announce):
            waffle.update({"NUMBER": number})
        seen = reports.of(number, receivers=WORKERS)
        if number <= warm_up:
            continue
        raw_each += [at - raw_at for at in raw_seen]
        raw_last.append(raw_seen[-1] - raw_at)
        # It marks the page before it applies: each request of its host sees it from then on.
        ear.append(seen[0] - published_at[-1])
        each += [at - published_at[-1] for at in seen]
        last.append(seen[-1] - published_at[-1])
        from_call.append(seen[-1] - called_at)
    publisher.close()
    for measure, who, samples in (
        ("published to received", "floor Redis publish/receive", raw_each),
        ("published to received by the last", "floor Redis publish/receive", raw_last),
        ("published to applied by the ear", "waffle-redis", ear),
        ("published to applied", "waffle-redis", each),
        ("published to applied by the last", "waffle-redis", last),
        ("update() to applied by the last", "waffle-redis", from_call),
    ):
        record.samples(measure, who, samples, unit="ms")


def _within_host(record: Record, contender: Contender) -> None:
    slow = contender.follows_s > 5
    rounds = record.rounds(6 if slow else 100, 5)
    order = random.Random(1)
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        root = Path(name)
        reports = Reports(root / "reports", timeout_s=contender.follows_s + 5)
        samples: list[float] = []
        with site(
            contender,
            root / "host",
            workers=WORKERS + 1,
            redis_port=port,
            BENCH_REPORTS=str(root / "reports"),
        ) as running:
            for number in range(1, rounds + 1):
                # So that a change falls into any phase of what polls.
                time.sleep(order.uniform(0, contender.follows_s / (3 if slow else 20)))
                began = ask(running.ports[0], number)
                # The first is the writer, which has it before it tells anybody.
                seen = reports.of(number, receivers=WORKERS + 1)[1:]
                samples += [at - began for at in seen]
        reports.close()
    record.samples("update() to applied", contender.name, samples, unit="ms")
