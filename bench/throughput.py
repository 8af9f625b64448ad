"""Requests per second with and without the extension, in turns."""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path

from .contenders import BY_NAME, contenders
from .load import client, requests_per_s
from .record import Record
from .servers import redis_server, site

WORKERS = 2
#: Beside those that all are measured in: the ratio to plain Flask is what matters most.
EXTRA = ("flask", "waffle-file", "waffle-redis")


def run(record: Record) -> None:
    """Measure throughput of every contender, and its ratio to the same app without it."""
    seconds = record.rounds(2, 1)
    print(f"\nThroughput with {WORKERS} workers, by {client()}, rounds of {seconds} s in turns")
    chosen = contenders(peers=record.peers)
    samples: dict[str, list[float]] = {one.name: [] for one in chosen}
    ratios: dict[str, list[float]] = {one.name: [] for one in chosen if one.baseline}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name)
        redis_port = stack.enter_context(redis_server(root))
        ports = {
            one.name: stack.enter_context(
                site(one, root / one.name, workers=WORKERS, redis_port=redis_port)
            ).port
            for one in chosen
        }
        for port in ports.values():
            requests_per_s(port, 1)
        rounds = [list(ports)] * record.rounds(15, 2)
        rounds += [[one for one in EXTRA if one in ports]] * record.rounds(25, 0)
        order = random.Random(1)
        for names in rounds:
            # Whoever always came second would be measured on a warmer machine.
            turn = order.sample(names, len(names))
            figures = {one: requests_per_s(ports[one], seconds) for one in turn}
            for one, figure in figures.items():
                samples[one].append(figure)
                baseline = BY_NAME[one].baseline
                if baseline is not None:
                    ratios[one].append(figure / figures[baseline])
    for one, found in samples.items():
        record.samples("throughput", one, found, unit="requests/s")
    for one, found in ratios.items():
        record.samples("throughput ratio", one, found, unit="of its baseline")
