"""How store reads and propagation grow with the number of watchers."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

from flask import Flask

from integration.support.processes import clean_environment
from uwsgi_waffle import WaffleConf

from .contenders import ROOT
from .crowd import CONFS, READY
from .record import Record
from .reports import Reports
from .servers import redis_server, spawned

CROWDS = (4, 16, 64)
CHANNEL = "bench-crowd"


def run(record: Record) -> None:
    """Measure both in every mode, on SQLite."""
    print("\nWatchers on one SQLite store, in processes of 16")
    for crowd in CROWDS:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for mode in ("file", "redis"):
                measure(
                    record,
                    root / mode,
                    crowd,
                    f"sqlite:///{root / mode / 'settings.db'}",
                    mode,
                    rounds=record.rounds(30, 2),
                    per_process=16,
                )


def measure(
    record: Record,
    folder: Path,
    crowd: int,
    store_url: str,
    mode: str,
    *,
    rounds: int,
    per_process: int,
    suffix: str = "",
) -> None:
    """Make changes and measure how a crowd of watchers follows.

    :param mode: "file": all on one host; "redis": each on a host of its own.
    """
    folder.mkdir(parents=True)
    counts = folder / "counts"
    counts.mkdir()
    reports = Reports(folder / "reports", timeout_s=60)
    samples: list[float] = []
    watch_file = folder / "watch"
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server(folder))
        url = f"redis://127.0.0.1:{port}/0"
        app = Flask("bench", instance_path=str(folder / "writer"))
        app.config.update(
            WAFFLE_CONFS=CONFS,
            WAFFLE_WATCHTYPE="file" if mode == "file" else "redis",
            WAFFLE_WATCHER_FILE=str(watch_file),
            WAFFLE_REDIS_URL=url,
            WAFFLE_REDIS_CHANNEL=CHANNEL,
            WAFFLE_STORE_URL=store_url,
        )
        waffle = WaffleConf(app)
        stack.enter_context(app.app_context())
        firsts = range(0, crowd, per_process)
        for first in firsts:
            command = [sys.executable, "-m", "bench.crowd", str(first)]
            command += [str(min(per_process, crowd - first)), store_url]
            command += [str(watch_file) if mode == "file" else url, CHANNEL]
            env = clean_environment(PYTHONPATH=str(ROOT), BENCH_COUNTS=str(counts))
            stack.enter_context(
                spawned([*command, str(folder / "reports")], env, folder / f"crowd-{first}.log")
            )
        reports.of(READY, receivers=len(firsts))
        base = waffle.snapshot["NUMBER"]
        for number in range(base + 1, base + 1 + rounds):
            began = time.monotonic_ns()
            waffle.update({"NUMBER": number})
            samples += [at - began for at in reports.of(number, receivers=crowd)]
    reports.close()
    waffle.state.store.close()
    reads = sum(int(path.read_text()) for path in counts.iterdir())
    who = f"waffle {mode}{suffix}"
    record.samples("watchers: update() to applied", who, samples, unit="ms", at=crowd)
    record.value("watchers: store reads", who, reads / rounds, unit="per change", at=crowd)
