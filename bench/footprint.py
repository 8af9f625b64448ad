"""What a worker costs that has nothing to do: memory, processor time, and its start."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from .contenders import BY_NAME, alone, contenders
from .record import Record
from .servers import Site, cpu_s, redis_server, site

WORKERS = 4
SIZES = (10, 1_000, 10_000)
MIB = 1024 * 1024


def run(record: Record) -> None:
    """Measure start-up, memory and idle processor time of every contender."""
    idle_s = record.rounds(20, 1)
    print(f"\nFootprint of one of {WORKERS} lazily loaded workers, {idle_s} s idle")
    chosen = alone(contenders(peers=record.peers))
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name)
        port = stack.enter_context(redis_server(root))
        starts: dict[str, list[float]] = {one.name: [] for one in chosen}
        for number in range(record.rounds(5, 1)):
            for one in chosen:
                folder = root / f"{one.name}-{number}"
                with site(one, folder, workers=WORKERS, redis_port=port) as running:
                    starts[one.name].append(running.started_s * 1e9)
        for who, samples in starts.items():
            record.samples("start-up", who, samples, unit="ms")
        sites = {
            one.name: stack.enter_context(
                site(one, root / one.name, workers=WORKERS, redis_port=port)
            )
            for one in chosen
        }
        memory = {who: _memory_mib(running) for who, running in sites.items()}
        for who, mib in memory.items():
            record.value("memory", who, mib, unit="MiB")
            baseline = BY_NAME[who].baseline
            if baseline is not None:
                record.value("memory more", who, mib - memory[baseline], unit="MiB")
        _measure_idle(record, sites, idle_s)
        _measure_growth(record, root, port, memory["flask"])


def _measure_idle(record: Record, sites: dict[str, Site], idle_s: float) -> None:
    # All in the same seconds: they hardly disturb each other.
    time.sleep(min(2.0, idle_s))
    before = {who: [cpu_s(pid) for pid in one.pids] for who, one in sites.items()}
    start = time.monotonic()
    time.sleep(idle_s)
    elapsed_s = time.monotonic() - start
    for who, running in sites.items():
        spent = [cpu_s(pid) - was for pid, was in zip(running.pids, before[who], strict=True)]
        record.samples("idle", who, [100 * s / elapsed_s for s in spent], unit="% of a core")


def _measure_growth(record: Record, root: Path, port: int, plain_mib: float) -> None:
    for size in SIZES:
        folder = root / f"size-{size}"
        with site(
            alone([BY_NAME["waffle-file"]])[0],
            folder,
            workers=WORKERS,
            redis_port=port,
            BENCH_SETTINGS=str(size),
        ) as running:
            more = _memory_mib(running) - plain_mib
            record.value("memory more", "waffle-file", more, unit="MiB", at=size)


def _memory_mib(running: Site) -> float:
    # Private memory: what is shared with the master is paid for once.
    return (
        statistics.median(psutil.Process(pid).memory_full_info().uss for pid in running.pids) / MIB
    )
