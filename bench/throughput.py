"""Requests per second with and without the extension, in turns."""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path

from .contenders import Contender, contenders
from .load import client, load
from .record import Record
from .servers import Site, core, cpu_s, redis_server, site

#: Measured in more rounds, as the ratio to plain Flask is what matters most.
MANY = ("flask", "flask-stat", "waffle-file", "waffle-redis")
#: a figure for each round that was measured, by the start of the servers and the round after it
Rounds = dict[tuple[int, int], float]


def run(record: Record) -> None:
    """Measure throughput of every contender, and its ratio to the same app without it."""
    print(f"\nThroughput of one worker on a core of its own, by {client()}, rounds of 1 s in turns")
    chosen = contenders(peers=record.peers)
    many = [one for one in chosen if one.name in MANY]
    rates: dict[str, Rounds] = {one.name: {} for one in chosen}
    cpu: dict[str, Rounds] = {one.name: {} for one in chosen}
    order = random.Random(1)
    for start in range(record.rounds(8, 1)):
        with contextlib.ExitStack() as stack:
            sites = _start(chosen if start < record.rounds(3, 1) else many, stack)
            rounds = [list(sites)] * record.rounds(5, 2)
            rounds += [[one.name for one in many]] * record.rounds(3, 0)
            for number, names in enumerate(rounds):
                # One that always came second would be measured on a warmer machine.
                for who in order.sample(names, len(names)):
                    rate, cpu_ns = _round(sites[who])
                    rates[who][start, number] = rate
                    cpu[who][start, number] = cpu_ns
    for who, found in rates.items():
        record.samples("throughput", who, list(found.values()), unit="requests/s")
    for who, found in cpu.items():
        record.samples("processor time of a request", who, list(found.values()), unit="µs")
    for one in chosen:
        if one.baseline is None:
            continue
        ratio = ratios(rates[one.name], rates[one.baseline])
        record.samples("throughput ratio", one.name, ratio, unit="of its baseline")
        ratio = ratios(cpu[one.baseline], cpu[one.name])
        record.samples("processor time ratio", one.name, ratio, unit="its baseline's to its own")


def ratios(figures: Rounds, base: Rounds) -> list[float]:
    """Return the ratio of each round in which both were measured."""
    return [figure / base[place] for place, figure in figures.items() if place in base]


def _start(chosen: list[Contender], stack: contextlib.ExitStack) -> dict[str, Site]:
    """Restart every contender, and let it serve for a while.

    Two servers with the very same app differ by up to 5 %, as their memory happens to lie: no
    number of rounds with the same two would tell that from what is measured.
    """
    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    redis_port = stack.enter_context(redis_server(root))
    with core(-1):
        sites = {
            one.name: stack.enter_context(
                site(one, root / one.name, workers=1, redis_port=redis_port)
            )
            for one in chosen
        }
    for running in sites.values():
        _round(running)
    return sites


def _round(running: Site) -> tuple[float, float]:
    """Return the requests per second, and the nanoseconds the workers spent on each."""
    before_s = sum(map(cpu_s, running.pids))
    with core(0):
        done = load(running.port, 1)
    spent_s = sum(map(cpu_s, running.pids)) - before_s
    return done.requests_per_s, spent_s * 1e9 / done.requests
