"""How long a change takes when 250 of them come each second, beside reads."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .contenders import BY_NAME
from .record import Record
from .servers import Site, ask, redis_server, site

WORKERS = 4
RATE = 250
#: as many changes may be under way at once
THREADS = 16
READERS = 2


def run(record: Record) -> None:
    """Send changes by the clock, whether or not the former are done, to all workers in turn."""
    duration_s = record.rounds(10, 1)
    print(f"\n{RATE} changes a second for {duration_s} s, to {WORKERS} workers, beside reads")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        for who in ("waffle-file", "waffle-redis"):
            with site(BY_NAME[who], Path(name) / who, workers=WORKERS, redis_port=port) as running:
                _measure(record, who, running, duration_s)


def _measure(record: Record, who: str, running: Site, duration_s: float) -> None:
    over = threading.Event()
    reads = [0] * READERS

    def read(index: int) -> None:
        ports = itertools.cycle(running.ports)
        while not over.is_set():
            ask(next(ports))
            reads[index] += 1

    def change(number: int, due: float) -> float:
        ask(running.ports[number % WORKERS], number + 1)
        # From when it was due: one that had to wait for a thread was as long on its way.
        return (time.monotonic() - due) * 1e9

    readers = [threading.Thread(target=read, args=(index,)) for index in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            began = time.monotonic()
            running_changes = []
            for number in range(int(RATE * duration_s)):
                due = began + number / RATE
                time.sleep(max(0.0, due - time.monotonic()))
                running_changes.append(pool.submit(change, number, due))
            took_ns = [one.result() for one in running_changes]
            elapsed_s = time.monotonic() - began
    finally:
        over.set()
        for reader in readers:
            reader.join()
    record.samples("call at 250 changes/s", who, took_ns, unit="ms")
    record.value("changes/s", who, len(took_ns) / elapsed_s, unit="1/s", at=RATE)
    record.value("reads beside them", who, sum(reads) / elapsed_s, unit="1/s", at=RATE)
