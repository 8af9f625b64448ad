"""How long the barrier takes, and whether it ever returns too early, beside kills and stops."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from integration.support.find import need_uwsgi
from integration.support.uwsgi_server import UwsgiServer
from integration.support.waiting import eventually

from .record import Record
from .servers import redis_server

#: how many runs are made beside kills, respawns and stops; BENCH_BARRIER_RUNS says otherwise
RUNS = 300
_WAIT_S = 30.0
_NS = 1e9

Hosts = list[UwsgiServer]


def run(record: Record) -> None:
    """Measure the barrier on one host and on two, and count what came too early."""
    print("\nThe barrier: one host of 4 workers, two hosts of 2 with one Redis")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with redis_server(root) as port:
            url = f"redis://127.0.0.1:{port}/0"
            redis = {
                "WAFFLE_WATCHTYPE": "redis",
                "WAFFLE_REDIS_URL": url,
                "WAFFLE_STORE_URL": url,
            }
            with _hosts(root / "first", [4], {}) as one:
                _measure(record, "one host of 4 workers", one)
                _disturb(record, "one host of 4 workers", one)
            with _hosts(root / "second", [2, 2], redis) as two:
                _measure(record, "two hosts of 2 workers", two)
                _disturb(record, "two hosts of 2 workers", two)


@contextlib.contextmanager
def _hosts(root: Path, workers: list[int], config: dict[str, Any]) -> Iterator[Hosts]:
    with contextlib.ExitStack() as stack:
        hosts = []
        for number, count in enumerate(workers):
            folder = root / str(number)
            folder.mkdir(parents=True)
            host = UwsgiServer(
                f"barrier-{number}",
                need_uwsgi(),
                folder,
                ["--master", "--lazy-apps"],
                workers=count,
                config={"WAFFLE_POLL_INTERVAL": 0.2, "WAFFLE_RESYNC_INTERVAL": 10, **config},
                env={},
            )
            stack.callback(host.stop)
            host.reports()
            hosts.append(host)
        yield hosts


def _measure(record: Record, who: str, hosts: Hosts) -> None:
    workers = sum(host.workers for host in hosts)
    warm_up, order = 5, random.Random(1)
    waits: list[float] = []
    early = 0
    for number in range(1, warm_up + record.rounds(300, 5) + 1):
        time.sleep(order.uniform(0.05, 0.15))
        answer = _changed(hosts[0], 1, number)
        if answer["laggards"] or answer["served"] != workers:
            raise RuntimeError(f"not all had it: {answer}")
        early += _early(hosts, answer["revision"])
        if number > warm_up:
            waits.append(answer["took_s"] * _NS)
    record.samples("wait() after update()", who, waits, unit="ms")
    record.value("barrier returned early", who, early, unit="")


def _disturb(record: Record, who: str, hosts: Hosts) -> None:
    runs = int(os.environ.get("BENCH_BARRIER_RUNS", record.rounds(RUNS, 8)))
    order = random.Random(2)
    early = named = kills = stops = 0
    for number in range(1, runs + 1):
        host = order.choice(hosts)
        others = [each for each in range(1, host.workers + 1) if (host, each) != (hosts[0], 1)]
        victim = _until(host, partial(host.get, order.choice(others)))["pid"]
        what = order.choice(["kill before", "kill within", "stop", "nothing"])
        if what == "stop":
            stops += 1
            os.kill(victim, signal.SIGSTOP)
        elif what == "kill before":
            kills += 1
            os.kill(victim, signal.SIGKILL)
        killer = None
        if what == "kill within":
            kills += 1
            killer = os.fork()
            if not killer:
                time.sleep(order.uniform(0.0, 0.01))
                os.kill(victim, signal.SIGKILL)
                os._exit(0)
        # A stopped worker that has taken the store's lock holds up the change: let it go on then.
        answer = _until(hosts[0], partial(_changed, hosts[0], 1, 10_000 + number, 1.0))
        if killer:
            os.waitpid(killer, 0)
        if what == "stop":
            os.kill(victim, signal.SIGCONT)
        if answer["laggards"]:
            named += 1
        else:
            early += _early(hosts, answer["revision"])
    record.value("barrier runs beside kills and stops", who, runs, unit="")
    record.value("barrier runs with a killed worker", who, kills, unit="")
    record.value("barrier runs with a stopped worker", who, stops, unit="")
    record.value("barrier runs that named a laggard", who, named, unit="")
    record.value("barrier returned early beside kills and stops", who, early, unit="")


def _changed(host: UwsgiServer, worker: int, number: int, timeout_s: float = _WAIT_S) -> Any:
    values = {"A": number, "B": number}
    return host.post(worker, {"values": values, "timeout_s": timeout_s}, "/wait")


def _early(hosts: Hosts, revision: int) -> int:
    """Return how many workers serve less than a revision that everybody is to serve."""
    seen = [
        _until(host, partial(host.get, worker, "/read"))[0]
        for host in hosts
        for worker in range(1, host.workers + 1)
    ]
    return sum(each < revision for each in seen)


def _until(host: UwsgiServer, ask: Callable[[], Any]) -> Any:
    """Return an answer, again if the worker was killed meanwhile and another comes."""
    # An answer may be zero.
    return eventually(f"an answer of {host.name}", lambda: [ask()], evidence=host.evidence)[0]
