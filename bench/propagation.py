"""How long a change takes to 4 workers on another host, by the watcher alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import redis
from flask import Flask

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.notifiers.redis import RedisNotifier

from .reports import Reports
from .servers import raw_subscribers, redis_server, uwsgi
from .timing import show

WORKERS = 4
ROUNDS = 300
WARM_UP = 20
CHANNEL = "bench-settings"
RAW_CHANNEL = "bench-raw"


def _make_writer(folder: Path, store: Path, url: str) -> tuple[Flask, WaffleConf]:
    app = Flask("bench", instance_path=str(folder))
    app.config.update(
        WAFFLE_CONFS={"NUMBER": {"desc": "counts the rounds", "default": 0}},
        WAFFLE_MULTIPROC=True,
        WAFFLE_WATCHTYPE="redis",
        WAFFLE_REDIS_URL=url,
        WAFFLE_REDIS_CHANNEL=CHANNEL,
        WAFFLE_STORE_URL=f"sqlite:///{store}",
    )
    return app, WaffleConf(app)


def run() -> None:
    """Print how long a change takes, beside a raw publish and receive, in turns of one run."""
    print(f"\nPropagation by Redis to {WORKERS} workers with a watch file of their own, no request")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        host, writer_host = root / "host", root / "writer"
        host.mkdir()
        reports, raw_reports = Reports(root / "reports"), Reports(root / "raw")
        store = root / "settings.db"
        with redis_server(root) as url:
            app, waffle = _make_writer(writer_host, store, url)
            env = {
                "BENCH_REPORTS": str(root / "reports"),
                "FLASK_WAFFLE_WATCHTYPE": "redis",
                "FLASK_WAFFLE_REDIS_URL": url,
                "FLASK_WAFFLE_REDIS_CHANNEL": CHANNEL,
                "FLASK_WAFFLE_STORE_URL": f"sqlite:///{store}",
            }
            with (
                raw_subscribers(root, url, RAW_CHANNEL, root / "raw", WORKERS),
                uwsgi(host, workers=WORKERS, kind="redis", **env),
            ):
                raw_reports.of(0, receivers=WORKERS)
                with app.app_context():
                    _measure(waffle, url, reports, raw_reports)
                    waffle.state.store.close()
        reports.close()
        raw_reports.close()


def _measure(waffle: WaffleConf, url: str, reports: Reports, raw_reports: Reports) -> None:
    publisher = redis.Redis.from_url(url)
    published_at: list[int] = []
    announce = RedisNotifier.announce

    def timed_announce(notifier: RedisNotifier, revision: int) -> None:
        published_at.append(time.monotonic_ns())
        announce(notifier, revision)

    raw_each: list[float] = []
    raw_last: list[float] = []
    each: list[float] = []
    last: list[float] = []
    from_call: list[float] = []
    for number in range(1, WARM_UP + ROUNDS + 1):
        raw_at = time.monotonic_ns()
        publisher.publish(RAW_CHANNEL, str(number))
        raw_seen = raw_reports.of(number, receivers=WORKERS)
        called_at = time.monotonic_ns()
        with mock.patch.object(RedisNotifier, "announce", timed_announce):
            waffle.update({"NUMBER": number})
        seen = reports.of(number, receivers=WORKERS)
        if number <= WARM_UP:
            continue
        raw_each += [at - raw_at for at in raw_seen]
        raw_last.append(raw_seen[-1] - raw_at)
        each += [at - published_at[-1] for at in seen]
        last.append(seen[-1] - published_at[-1])
        from_call.append(seen[-1] - called_at)
    publisher.close()
    ms: dict[str, Any] = {"unit_ns": 1e6, "unit": "ms"}
    raw_median = show("raw redis-py publish to receive, each", raw_each, **ms)
    raw_last_median = show("raw redis-py publish to receive, last of 4", raw_last, **ms)
    median = show("change published to applied, each", each, **ms)
    last_median = show("change published to applied, last of 4", last, **ms)
    show("update() called to applied, last of 4", from_call, **ms)
    print(
        f"  ratio to raw: each {median / raw_median:.2f}, last {last_median / raw_last_median:.2f}"
    )
