"""What the extension adds to a request, in turns within one worker."""

from __future__ import annotations

import contextlib
import json
import tempfile
import urllib.request
from pathlib import Path

from .contenders import BY_NAME
from .load import client, load
from .record import Record
from .servers import core, redis_server, site


def run(record: Record) -> None:
    """Measure requests with and without the extension, by the clock and by the processor."""
    seconds = record.rounds(40, 3)
    print(f"\nThroughput and processor time, {seconds} s in turns within one worker, by {client()}")
    for who in ("waffle-file", "waffle-redis"):
        found = _turns(who, seconds)
        # The first of them warm up; the last need not be whole.
        size = min(map(len, found.values()))
        ways = {name: took[size // 10 : size] for name, took in found.items()}
        for way, took in ways.items():
            name = way if way == who else f"{way} beside {who}"
            clock, processor = zip(*took, strict=True)
            rates = [1e9 / ns for ns in clock]
            record.samples("throughput in turns", name, rates, unit="requests/s")
            record.samples("processor time in turns", name, processor, unit="µs")
            if way == "flask":
                continue
            for number, measure in enumerate(("throughput", "processor time")):
                pairs = zip(ways["flask"], took, strict=True)
                ratio = [below[number] / above[number] for below, above in pairs]
                record.samples(f"{measure} in turns, ratio", name, ratio, unit="of plain Flask")


def _turns(who: str, seconds: int) -> dict[str, list[tuple[float, float]]]:
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_port = stack.enter_context(redis_server(root))
        with core(-1):
            running = stack.enter_context(
                site(
                    BY_NAME[who],
                    root / who,
                    module="bench.turns_app:application",
                    workers=1,
                    redis_port=redis_port,
                )
            )
        with core(0):
            load(running.port, seconds)
        url = f"http://127.0.0.1:{running.port}/turns"
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: dict[str, list[tuple[float, float]]] = json.load(answer)
        return found
