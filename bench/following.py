"""How soon the workers serve a change that has returned, and how many reads were stale."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from .contenders import Contender, contenders
from .record import Record
from .servers import Site, ask, redis_server, site

WORKERS = 4


def run(record: Record) -> None:
    """Change a setting through one worker, and ask all of them until each serves it."""
    print(f"\nA change made through one of {WORKERS} workers, as the others' requests see it")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        for contender in contenders(peers=record.peers):
            if not contender.live:
                continue
            with site(
                contender, Path(name) / contender.name, workers=WORKERS, redis_port=port
            ) as running:
                _measure(record, contender, running)


def _measure(record: Record, contender: Contender, running: Site) -> None:
    slow = contender.follows_s > 5
    # Those that poll slowly, or keep a value for a minute, are given few rounds.
    rounds = record.rounds(5 if slow else 300, 1 if slow else 10)
    if slow and record.quick:
        return
    order = random.Random(1)
    stale = reads = 0
    took_ns: list[float] = []
    for number in range(1, rounds + 1):
        if slow:
            # So that a change falls into any phase of what polls, or of what is kept.
            time.sleep(order.uniform(0, contender.follows_s / 2))
        ask(order.choice(running.ports), number)
        returned_at = time.monotonic_ns()
        waiting = order.sample(running.ports, len(running.ports))
        first = True
        while waiting:
            behind = []
            for port in waiting:
                if ask(port) == number:
                    took_ns.append(time.monotonic_ns() - returned_at)
                else:
                    behind.append(port)
            if first:
                reads += len(waiting)
                stale += len(behind)
                first = False
            waiting = behind
            elapsed_s = (time.monotonic_ns() - returned_at) / 1e9
            if elapsed_s > contender.follows_s:
                raise RuntimeError(f"{contender.name}: not followed within {elapsed_s:.0f} s")
            # Fine enough to tell, and rare enough not to be what is measured.
            time.sleep(min(0.2, max(0.001, elapsed_s / 50)) if waiting else 0)
    record.value("stale reads", contender.name, 100 * stale / reads, unit="% of reads", at=reads)
    record.samples("served by all", contender.name, took_ns, unit="ms")
