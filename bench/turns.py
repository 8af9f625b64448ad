"""What the extension adds to a request, in turns within one worker."""

from __future__ import annotations

import contextlib
import json
import tempfile
import urllib.request
from pathlib import Path

from .contenders import BY_NAME
from .load import load
from .record import Record
from .servers import core, redis_server, site


def run(record: Record) -> None:
    """Measure the processor time of a request with and without the extension, and the ratio."""
    seconds = record.rounds(40, 3)
    print(f"\nProcessor time of a request, {seconds} s in turns within one worker")
    for who in ("waffle-file", "waffle-redis"):
        found = _turns(who, seconds)
        # The first of them warm up; the last need not be whole.
        size = min(map(len, found.values()))
        base = found["flask"][size // 10 : size]
        for way, ns in found.items():
            name = way if way == who else f"{way} beside {who}"
            took = ns[size // 10 : size]
            record.samples("request in turns", name, took, unit="µs")
            ratio = [below / above for below, above in zip(base, took, strict=True)]
            record.samples("request in turns, ratio", name, ratio, unit="plain Flask's to its own")


def _turns(who: str, seconds: int) -> dict[str, list[float]]:
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
            found: dict[str, list[float]] = json.load(answer)
        return found
