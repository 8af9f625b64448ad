"""Counted, not sampled: no request that starts after a change has returned misses it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import NamedTuple

import pytest

from .conftest import StartUwsgi
from .support.client import Interrupted, StatusError, call
from .support.redis_server import RedisServer
from .support.uwsgi_server import UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.slow, pytest.mark.timeout(240)]

WORKERS = 4
READERS = 6
#: in the mode that is recommended; the others differ in how workers start, not in what they read
MANY_READS = 20_000
FEW_READS = 6_000
WANTED_CHANGES = 300
PAUSE_S = 0.002
# So often that a watcher meets many requests.
OFTEN = {"WAFFLE_POLL_INTERVAL": 0.005}


class Read(NamedTuple):
    """What one request saw.

    :ivar floor: the highest revision that an update had returned before the request began.
    """

    port: int
    floor: int
    revision: int
    config_a: int
    config_b: int
    conf_a: int
    conf_b: int


class Race:
    """Writers and readers on the ports of a server, and what came of it.

    :param tolerant: a request that fails is not counted; the test harms the server.
    """

    def __init__(self, ports: list[int], *, tolerant: bool = False) -> None:
        self._ports = ports
        self._tolerant = tolerant
        self._lock = threading.Lock()
        self._floor = 0
        self._done = threading.Event()
        self._numbers = itertools.count(1)
        #: mapping of revision to the number that A and B were both changed to
        self.written: dict[int, int] = {}
        self.reads: list[Read] = []

    def run(self, writers: list[int], wanted: int) -> None:
        """Read until there are as many reads as wanted, while the writers' ports change things."""
        with ThreadPoolExecutor(len(writers) + READERS) as pool:
            tasks = [pool.submit(self._write, port) for port in writers]
            tasks += [pool.submit(self._read, shift, wanted) for shift in range(READERS)]
            try:
                wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                # Also when the test runs out of time: its end waits for these threads.
                self._done.set()
            for task in tasks:
                task.result()

    def stale(self) -> list[Read]:
        """Return the reads that missed a change which was made before they began."""
        return [read for read in self.reads if read.revision < read.floor]

    def torn(self, *, config: bool) -> list[Read]:
        """Return the reads that saw values of two revisions.

        :param config: look at ``app.config`` too, not only at the request's own snapshot.
        """
        return [
            read
            for read in self.reads
            # A writer that was killed made a change that nobody told of.
            if {read.conf_a, read.conf_b} != {self.written.get(read.revision, read.conf_a)}
            or (config and {read.config_a, read.config_b} != {read.conf_a})
        ]

    def _write(self, port: int) -> None:
        while not self._done.is_set():
            number = next(self._numbers)
            try:
                revision = call(port, "/update", {"A": number, "B": number})["revision"]
            except OSError as exc:
                if not self._tolerant or isinstance(exc, StatusError):
                    raise
                continue
            with self._lock:
                self.written[revision] = number
                self._floor = max(self._floor, revision)

    def _read(self, shift: int, wanted: int) -> None:
        for turn in itertools.count(shift):
            if self._done.is_set():
                return
            floor = self._floor
            if not floor:
                # Nothing has been changed yet: there is nothing to miss.
                time.sleep(0.001)
                continue
            port = self._ports[turn % len(self._ports)]
            # Some requests take long enough for several changes to come in.
            pause_s = PAUSE_S if turn % 10 == 0 else 0.0
            try:
                answer = _quick_get(port, f"/read?pause_s={pause_s}")
            except OSError as exc:
                if not self._tolerant or isinstance(exc, StatusError):
                    raise
                continue
            with self._lock:
                self.reads.append(Read(port, floor, *answer))
                # A starved writer gets its time, too: without changes nothing can be missed.
                if len(self.reads) >= wanted and len(self.written) >= WANTED_CHANGES:
                    self._done.set()


def _quick_get(port: int, path: str) -> list[int]:
    """Return the answer to a GET; ``http.client`` would take longer than the app."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = bytearray()
        while block := connection.recv(65_536):
            answer += block
    head, _, body = answer.partition(b"\r\n\r\n")
    if not body.endswith(b"\n"):
        raise Interrupted(f"port {port}{path}: {bytes(answer)!r}")
    if not head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
        raise StatusError(answer.decode(errors="replace"))
    return [int(number) for number in body.strip(b"[]\n").split(b",")]


def _assert_fresh(
    race: Race, server: UwsgiServer, what: str, *, wanted: int = FEW_READS, config: bool = True
) -> None:
    stale, torn = race.stale(), race.torn(config=config)
    print(
        f"\n{what}: {len(race.reads)} reads, {len(race.written)} changes, "
        f"{len(stale)} stale, {len(torn)} torn"
    )
    assert stale == [], server.evidence()
    assert torn == [], server.evidence()
    assert len(race.reads) >= wanted
    assert {read.port for read in race.reads} == set(server.ports)
    # Sampled at all stages of the race, not only before the first change.
    assert len(race.written) >= WANTED_CHANGES
    assert len({read.floor for read in race.reads}) >= 100


MODES: dict[str, list[str]] = {
    "lazy-apps": ["--master", "--lazy-apps"],
    "prefork": ["--master"],
    "threads": ["--master", "--lazy-apps", "--threads=4"],
}


@pytest.mark.parametrize("mode", MODES)
def test_no_read_is_stale_or_torn_while_workers_change_settings(
    start_uwsgi: StartUwsgi, mode: str
) -> None:
    """With several threads in a worker, only ``waffle.conf`` stays the same in a request."""
    server = start_uwsgi(*MODES[mode], workers=WORKERS, config=OFTEN)
    race = Race(server.ports)
    wanted = MANY_READS if mode == "lazy-apps" else FEW_READS
    race.run(server.ports[:2], wanted)
    _assert_fresh(race, server, mode, wanted=wanted, config=mode != "threads")


@pytest.mark.redis_server
def test_no_read_is_stale_or_torn_while_redis_announces_changes(
    start_uwsgi: StartUwsgi, redis_server: RedisServer
) -> None:
    config = {"WAFFLE_WATCHTYPE": "redis", "WAFFLE_REDIS_URL": redis_server.url}
    server = start_uwsgi("--master", "--lazy-apps", workers=WORKERS, config=OFTEN | config)
    race = Race(server.ports)
    race.run(server.ports[:2], FEW_READS)
    _assert_fresh(race, server, "redis")


def test_no_read_is_stale_or_torn_while_workers_are_killed(start_uwsgi: StartUwsgi) -> None:
    server = start_uwsgi("--master", "--lazy-apps", workers=WORKERS, config=OFTEN)
    race = Race(server.ports, tolerant=True)
    victims = itertools.cycle(range(1, WORKERS + 1))
    killed: list[int] = []

    def kill() -> None:
        # Not by the clock: a busy machine would do nothing but load apps.
        if len(race.reads) >= (len(killed) + 1) * 500:
            killed.append(server.get(next(victims))["pid"])
            os.kill(killed[-1], signal.SIGKILL)

    with _meanwhile(kill, every_s=0.01):
        race.run(server.ports[:2], 5_000)
    assert len(killed) >= 8
    _assert_fresh(race, server, f"{len(killed)} workers killed", wanted=5_000)


def test_no_read_is_stale_or_torn_while_the_watch_file_is_deleted_again_and_again(
    start_uwsgi: StartUwsgi,
) -> None:
    server = start_uwsgi("--master", "--lazy-apps", workers=WORKERS, config=OFTEN)
    race = Race(server.ports)
    deleted = itertools.count()
    watch_file = server.folder / "waffle.watch"

    def delete() -> None:
        with contextlib.suppress(FileNotFoundError):
            watch_file.unlink()
            next(deleted)

    with _meanwhile(delete, every_s=0.01):
        race.run(server.ports[:2], FEW_READS)
    count = next(deleted)
    assert count >= 20
    _assert_fresh(race, server, f"watch file deleted {count} times")


@contextlib.contextmanager
def _meanwhile(harm: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Do something again and again, in a thread, while the context lasts."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(every_s):
            harm()

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(run)
        try:
            yield
        finally:
            done.set()
        task.result()
