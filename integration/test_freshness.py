"""Counted, not sampled: no request that starts after a change has returned misses it."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from .conftest import StartUwsgi
from .support.client import call
from .support.uwsgi_server import UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(240)]

WORKERS = 4
READERS = 6
WANTED_READS = 20_000
PAUSE_S = 0.002


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
    """Writers and readers on the ports of one or more servers, and what came of it."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._lock = threading.Lock()
        self._floor = 0
        self._done = threading.Event()
        self._numbers = itertools.count(1)
        self._count = 0
        #: mapping of revision to the number that A and B were both changed to
        self.written: dict[int, int] = {}
        self.reads: list[Read] = []

    def run(self, writers: list[int], wanted: int) -> None:
        """Read until there are as many reads as wanted, while the writers' ports change things."""
        with ThreadPoolExecutor(len(writers) + READERS) as pool:
            changing = [pool.submit(self._write, port) for port in writers]
            reading = [pool.submit(self._read, shift, wanted) for shift in range(READERS)]
            try:
                for task in reading:
                    self.reads += task.result()
            finally:
                self._done.set()
            for task_ in changing:
                task_.result()

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
            if {read.conf_a, read.conf_b} != {self.written[read.revision]}
            or (config and {read.config_a, read.config_b} != {self.written[read.revision]})
        ]

    def _write(self, port: int) -> None:
        while not self._done.is_set():
            number = next(self._numbers)
            revision = call(port, "/update", {"A": number, "B": number})["revision"]
            with self._lock:
                self.written[revision] = number
                self._floor = max(self._floor, revision)

    def _read(self, shift: int, wanted: int) -> list[Read]:
        reads: list[Read] = []
        for turn in itertools.count(shift):
            floor = self._floor
            if not floor:
                # Nothing has been changed yet: there is nothing to miss.
                time.sleep(0.001)
                continue
            port = self._ports[turn % len(self._ports)]
            # Some requests take long enough for several changes to come in.
            pause_s = PAUSE_S if turn % 10 == 0 else 0.0
            reads.append(Read(port, floor, *_quick_get(port, f"/read?pause_s={pause_s}")))
            with self._lock:
                self._count += 1
                if self._count >= wanted:
                    return reads
        raise AssertionError("unreachable")


def _quick_get(port: int, path: str) -> list[int]:
    """Return the answer to a GET; ``http.client`` would take longer than the app."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = bytearray()
        while block := connection.recv(65_536):
            answer += block
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
        raise http.client.BadStatusLine(head.decode(errors="replace"))
    return [int(number) for number in body.strip(b"[]\n").split(b",")]


def _assert_fresh(race: Race, servers: list[UwsgiServer], *, config: bool, what: str) -> None:
    evidence = servers[0].evidence()
    stale, torn = race.stale(), race.torn(config=config)
    print(
        f"\n{what}: {len(race.reads)} reads, {len(race.written)} changes, "
        f"{len(stale)} stale, {len(torn)} torn"
    )
    assert stale == [], evidence
    assert torn == [], evidence
    assert len(race.reads) >= WANTED_READS
    assert len(race.written) >= 100, "there was no race"
    ports = [port for server in servers for port in server.ports]
    assert {read.port for read in race.reads} == set(ports)
    # Sampled at all stages of the race, not only before the first change.
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
    # Often, so that a watcher meets many requests.
    server = start_uwsgi(*MODES[mode], workers=WORKERS, config={"WAFFLE_POLL_INTERVAL": 0.005})
    race = Race(server.ports)
    race.run(server.ports[:2], WANTED_READS)
    _assert_fresh(race, [server], config=mode != "threads", what=mode)
