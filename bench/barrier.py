"""How long the barrier takes, and whether it ever returns too early, beside kills and stops."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
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
#: as many fleets share these runs: uWSGI looks for the dead once a second, busy or not
FLEETS = 8
_WAIT_S = 30.0
_JUST_NOW_S = 5.0
_NS = 1e9

Hosts = list[UwsgiServer]


def run(record: Record) -> None:
    """Measure the barrier on one host and on two, and count what came too early."""
    print("\nThe barrier: one host of 4 workers, two hosts of 2 with one Redis")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with redis_server(root) as port:

            def redis(fleet: int) -> dict[str, Any]:
                url = f"redis://127.0.0.1:{port}/{fleet}"
                return {
                    "WAFFLE_WATCHTYPE": "redis",
                    "WAFFLE_REDIS_URL": url,
                    "WAFFLE_REDIS_CHANNEL": f"barrier-{fleet}",
                    "WAFFLE_STORE_URL": url,
                }

            with _hosts(root / "one host", [4], {}) as one:
                _measure(record, "one host of 4 workers", one)
            _disturb(record, "one host of 4 workers", root / "some", [4], lambda _: {})
            with _hosts(root / "two hosts", [2, 2], redis(FLEETS)) as two:
                _measure(record, "two hosts of 2 workers", two)
            _disturb(record, "two hosts of 2 workers", root / "more", [2, 2], redis)


@contextlib.contextmanager
def _hosts(
    root: Path, workers: list[int], config: dict[str, Any], *, lazily: bool = True
) -> Iterator[Hosts]:
    # Killed again and again, none of them is to be waited for.
    options = ["--master", "--forkbomb-delay=0", *["--lazy-apps"] * lazily]
    with contextlib.ExitStack() as stack:
        hosts = []
        for number, count in enumerate(workers):
            folder = root / str(number)
            folder.mkdir(parents=True)
            host = UwsgiServer(
                f"barrier-{number}",
                need_uwsgi(),
                folder,
                options,
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
        early += _behind(hosts, answer["revision"])["early"]
        if number > warm_up:
            waits.append(answer["took_s"] * _NS)
    record.samples("wait() after update()", who, waits, unit="ms")
    record.value("barrier returned early", who, early, unit="")


def _disturb(
    record: Record,
    who: str,
    root: Path,
    workers: list[int],
    config: Callable[[int], dict[str, Any]],
) -> None:
    """Count what came too early beside kills, respawns and stops, in some fleets at once.

    The first loads its app in each worker; in the others it is forked, which is quicker.
    """
    runs = int(os.environ.get("BENCH_BARRIER_RUNS", record.rounds(RUNS, 8)))
    numbers = iter(range(1, runs + 1))
    found: collections.Counter[str] = collections.Counter()

    def play(fleet: int) -> collections.Counter[str]:
        folder = root / str(fleet)
        with _hosts(folder, workers, config(fleet), lazily=not fleet) as hosts:
            order = random.Random(fleet)
            return sum((_disturbed(hosts, number, order) for number in numbers), found.copy())

    fleets = record.rounds(FLEETS, 2)
    with ThreadPoolExecutor(fleets) as pool:
        found = sum(pool.map(play, range(fleets)), found)
    record.value("barrier runs beside kills and stops", who, found["runs"], unit="")
    record.value("barrier runs with a killed worker", who, found["kills"], unit="")
    record.value("barrier runs with a stopped worker", who, found["stops"], unit="")
    record.value("barrier runs that named a laggard", who, found["named"], unit="")
    record.value("barrier runs with a worker without a store", who, found["failing"], unit="")
    record.value("barrier returned early beside kills and stops", who, found["early"], unit="")


def _disturbed(hosts: Hosts, number: int, order: random.Random) -> collections.Counter[str]:
    """Make a change and wait for it while a worker is killed or stopped; count what happened."""
    host = order.choice(hosts)
    others = [each for each in range(1, host.workers + 1) if (host, each) != (hosts[0], 1)]
    victim = _until(host, partial(host.get, order.choice(others)))["pid"]
    what = order.choice(["kill before", "kill within", "stop", "nothing"])
    killer = threading.Timer(order.uniform(0.0, 0.01), os.kill, (victim, signal.SIGKILL))
    if what == "stop":
        os.kill(victim, signal.SIGSTOP)
    elif what == "kill before":
        os.kill(victim, signal.SIGKILL)
    elif what == "kill within":
        killer.start()

    def change() -> Any:
        try:
            return _changed(hosts[0], 1, 10_000 + number, 1.0)
        except OSError:
            # A stopped worker that has taken the store's lock holds up the change.
            if what == "stop":
                os.kill(victim, signal.SIGCONT)
            raise

    answer = _until(hosts[0], change)
    if what == "kill within":
        killer.join()
    elif what == "stop":
        os.kill(victim, signal.SIGCONT)
    counted = {"runs": 1, "kills": what.startswith("kill"), "stops": what == "stop"}
    if answer["laggards"]:
        return collections.Counter(**counted, named=1)
    return collections.Counter(**counted) + _behind(hosts, answer["revision"])


def _changed(host: UwsgiServer, worker: int, number: int, timeout_s: float = _WAIT_S) -> Any:
    values = {"A": number, "B": number}
    return host.post(worker, {"values": values, "timeout_s": timeout_s}, "/wait")


def _behind(hosts: Hosts, revision: int) -> collections.Counter[str]:
    """Count the workers that serve less than a revision that everybody is to serve.

    Apart are those that say that they could not read the store just now, which no barrier covers:
    a machine that is very busy takes longer for a read than its bound.
    """
    found: collections.Counter[str] = collections.Counter()
    for host in hosts:
        for worker in range(1, host.workers + 1):
            seen = _until(host, partial(host.get, worker, "/read"))[0]
            if seen < revision:
                status = _until(host, partial(host.get, worker))["status"]
                print(f"  {host.name} worker {worker}: {seen} of {revision}, {status}", flush=True)
                found["failing" if _failed_just_now(status) else "early"] += 1
    return found


def _failed_just_now(status: dict[str, Any]) -> bool:
    error = status["last_error"]
    if error is None or error["part"] != "store":
        return False
    age = datetime.now(timezone.utc) - datetime.fromisoformat(error["began_at"])
    return age.total_seconds() < _JUST_NOW_S


def _until(host: UwsgiServer, ask: Callable[[], Any]) -> Any:
    """Return an answer, again if the worker was killed meanwhile and another comes."""
    # An answer may be zero.
    return eventually(f"an answer of {host.name}", lambda: [ask()], evidence=host.evidence)[0]
