"""How store reads and propagation grow with the number of watchers."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
from flask import Flask

from integration.support.processes import clean_environment
from uwsgi_waffle import WaffleConf

from .contenders import ROOT
from .crowd import CONFS, COUNTED, READY
from .record import Record
from .reports import Reports
from .servers import redis_server, spawned

CROWDS = (4, 16, 64)
CHANNEL = "bench.crowd"
# For the reports of all hosts that follow a change: the next one finds them at rest.
_REST_S = 3.5


def run(record: Record) -> None:
    """Measure both in every mode, on SQLite."""
    print("\nWatchers on one SQLite store, in processes of 16")
    for crowd in CROWDS:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for mode in ("file", "redis"):
                measure(
                    record,
                    root / mode,
                    crowd,
                    f"sqlite:///{root / mode / 'settings.db'}",
                    mode,
                    rounds=record.rounds(30, 2),
                    per_process=16,
                    suffix=", one host" if mode == "file" else ", a host each",
                )


def measure(
    record: Record,
    folder: Path,
    crowd: int,
    store_url: str,
    mode: str,
    *,
    rounds: int,
    per_process: int,
    suffix: str = "",
    barrier: bool = False,
) -> None:
    """Make changes and measure how a crowd of watchers follows.

    :param store_url: "redis" for the Redis that carries the notices.
    :param mode: "file": all on one host; "redis": each on a host of its own.
    :param barrier: then also wait for all hosts after each change; all of them are at rest before.
    """
    folder.mkdir(parents=True)
    counts = folder / "counts"
    counts.mkdir()
    reports = Reports(folder / "reports", timeout_s=60)
    samples: list[float] = []
    waited: list[float] = []
    processes: list[int] = []
    connections = 0
    watch_file = folder / "watch"
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server(folder))
        url = f"redis://127.0.0.1:{port}/0"
        store_url = url if store_url == "redis" else store_url
        app = Flask("bench", instance_path=str(folder / "writer"))
        app.config.update(
            WAFFLE_CONFS=CONFS,
            WAFFLE_WATCHTYPE="file" if mode == "file" else "redis",
            WAFFLE_WATCHER_FILE=str(watch_file),
            WAFFLE_REDIS_URL=url,
            WAFFLE_REDIS_CHANNEL=CHANNEL,
            WAFFLE_STORE_URL=store_url,
        )
        waffle = WaffleConf(app)
        stack.enter_context(app.app_context())
        firsts = range(0, crowd, per_process)
        for first in firsts:
            command = [sys.executable, "-m", "bench.crowd", str(first)]
            command += [str(min(per_process, crowd - first)), store_url]
            command += [str(watch_file) if mode == "file" else url, CHANNEL]
            env = clean_environment(PYTHONPATH=str(ROOT), BENCH_COUNTS=str(counts))
            log = folder / f"crowd-{first}.log"
            running = spawned([*command, str(folder / "reports")], env, log)
            processes.append(stack.enter_context(running))
        reports.of(READY, receivers=len(firsts))
        base = waffle.snapshot["NUMBER"]
        for number in range(base + 1, base + 1 + rounds):
            time.sleep(_REST_S if barrier else 0.0)
            began = time.monotonic_ns()
            waffle.update({"NUMBER": number})
            samples += [at - began for at in reports.of(number, receivers=crowd)]
        if mode == "redis":
            connections = subscribers(port, CHANNEL)
        # What was counted until here is of the changes alone.
        for process in processes:
            os.kill(process, signal.SIGUSR1)
        reports.of(COUNTED, receivers=len(firsts))
        for number in range(base + 1 + rounds, base + 1 + (2 * rounds if barrier else 0)):
            time.sleep(_REST_S)
            # Those who report must not wait for a reader.
            with ThreadPoolExecutor(1) as pool:
                applied = pool.submit(reports.of, number, receivers=crowd)
                began = time.monotonic_ns()
                waffle.update({"NUMBER": number})
                reach = waffle.state.wait(None, timeout_s=60.0)
                waited.append(time.monotonic_ns() - began)
                assert reach.served >= crowd, "each host has answered"
                applied.result()
    reports.close()
    waffle.state.store.close()
    reads = sum(int(path.read_text()) for path in counts.iterdir())
    who = f"waffle {mode}{suffix}"
    record.samples("watchers: update() to applied", who, samples, unit="ms", at=crowd)
    record.value("watchers: store reads", who, reads / rounds, unit="per change", at=crowd)
    if waited:
        record.samples("watchers: update() and wait()", who, waited, unit="ms", at=crowd)
    if mode == "redis":
        what = "watchers: connections that listen"
        record.value(what, who, connections, unit="connections", at=crowd)


def subscribers(port: int, channel: str) -> int:
    """Return how many connections to a Redis are subscribed to a channel."""
    client = redis.Redis(port=port)
    try:
        ((_, count),) = client.pubsub_numsub(channel)
        return int(count)
    finally:
        client.close()
