"""What the extension costs a worker that has nothing to do: memory and processor time."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import psutil

from .servers import redis_server, uwsgi

WORKERS = 4
IDLE_S = 20.0
MIB = 1024 * 1024


def run() -> None:
    """Print memory and idle processor time of a worker: bare, file mode, Redis mode."""
    print(f"\nFootprint of one of {WORKERS} lazily loaded workers, median, {IDLE_S:g} s idle")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        bare, _ = _measure(Path(name) / "bare", "bare")
        _measure(Path(name) / "file", "file", than=bare)
        _measure(
            Path(name) / "redis",
            "redis",
            than=bare,
            FLASK_WAFFLE_WATCHTYPE="redis",
            FLASK_WAFFLE_REDIS_URL=url,
        )


def _measure(
    folder: Path, kind: str, *, than: float | None = None, **env: str
) -> tuple[float, float]:
    folder.mkdir()
    with uwsgi(folder, workers=WORKERS, kind=kind, **env) as pids:
        workers = [psutil.Process(pid) for pid in pids]
        before = [_cpu_s(worker) for worker in workers]
        start = time.monotonic()
        time.sleep(IDLE_S)
        elapsed_s = time.monotonic() - start
        spent = [_cpu_s(worker) - was for worker, was in zip(workers, before, strict=True)]
        # Private memory: what is shared with the master is paid for once.
        memory = statistics.median(worker.memory_full_info().uss for worker in workers) / MIB
    share = 100 * statistics.median(spent) / elapsed_s
    more = "" if than is None else f"   more than bare: {memory - than:5.2f} MiB"
    print(f"  {kind:<8} {memory:7.2f} MiB{more:<32} idle: {share:.3f} % of a core")
    return memory, share


def _cpu_s(process: psutil.Process) -> float:
    # Nanoseconds, where psutil's cpu_times() counts hundredths of a second.
    with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as file:
        main = int(file.read().split()[0])
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return max(main, sum(int(t.read_text("ascii").split()[0]) for t in threads)) / 1e9
