"""From a write to a watched page until the watcher of another process wakes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from uwsgi_waffle.notifiers.file import FileNotifier

from .record import Record

#: as ``WAFFLE_WATCHER_INTERVAL`` has it by default
POLL_INTERVAL_S = 0.2


def run(record: Record) -> None:
    """Measure p50 and p99 of the wake-up."""
    print("\nFrom a pwrite to the page until the watcher of another process wakes")
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "waffle.page"
        page.write_bytes(bytes(64))
        samples = _measure(Path(name) / "waffle.watch", page, record.rounds(500, 20))
    record.samples("watcher wakes", "waffle", samples, unit="ms")


def _measure(watch_file: Path, page: Path, rounds: int) -> list[float]:
    """Return the nanoseconds of each wake-up."""
    output, target = os.pipe()
    pid = os.fork()
    if pid == 0:
        _wake_and_say(watch_file, page, rounds, target)
    os.close(target)
    descriptor = os.open(page, os.O_WRONLY)
    samples: list[float] = []
    try:
        with os.fdopen(output, "rb") as woken:
            woken.readline()
            for number in range(rounds):
                # Longer than it takes the other to wait again.
                time.sleep(0.005)
                began = time.monotonic_ns()
                os.pwrite(descriptor, number.to_bytes(8, "little"), 0)
                samples.append(int(woken.readline()) - began)
    finally:
        os.close(descriptor)
        os.waitpid(pid, 0)
    return samples


def _wake_and_say(watch_file: Path, page: Path, rounds: int, target: int) -> None:
    notifier = FileNotifier(watch_file, poll_interval_s=POLL_INTERVAL_S, also=[page])
    notifier.ensure()
    while notifier.wait(0.05) is not None:
        pass
    os.write(target, b"ready\n")
    for _ in range(rounds):
        notifier.wait(60.0)
        os.write(target, b"%d\n" % time.monotonic_ns())
    os._exit(0)
