"""Writers and readers that never stop, and record each request."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .client import Failed, ask
from .record import Read, Recorder, Write

WRITERS = 2
ROAMERS = 2
_WRITE_PACE_S = 0.03
_READ_PACE_S = 0.012
# Of those that ask the workers in turn: they tell whether a change comes and goes.
_ROAM_PACE_S = 0.001
_FAILED_PACE_S = 0.05


class Target(NamedTuple):
    """One worker's port."""

    host: str
    port: int


class Load:
    """Two writers on workers of the first host, a reader on each worker, and some that roam.

    :param targets: returns the workers there are; asked before each request.
    """

    def __init__(self, recorder: Recorder, targets: Callable[[], list[Target]]) -> None:
        self._recorder = recorder
        self._targets = targets
        self._numbers = itertools.count(1)
        self._done = threading.Event()
        self._may_write = threading.Event()
        self._may_write.set()
        self._writing = [threading.Lock() for _ in range(WRITERS)]
        self._threads: list[threading.Thread] = []
        #: the newest answer of each worker
        self.latest: dict[Target, Read] = {}
        self.refused = 0
        self.crashed: list[BaseException] = []

    def start(self, workers: int) -> None:
        """Start all threads."""
        tasks: list[Callable[[], None]] = []
        for index in range(WRITERS):
            tasks.append(lambda index=index: self._write(index))  # type: ignore[misc]
        for index in range(workers):
            tasks.append(lambda index=index: self._stay(index))  # type: ignore[misc]
        for index in range(ROAMERS):
            tasks.append(lambda index=index: self._roam(index))  # type: ignore[misc]
        for task in tasks:
            thread = threading.Thread(target=self._guarded, args=(task,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """Let all threads end, each after the request that it is at."""
        self._done.set()
        self._may_write.set()

    def stop(self) -> None:
        """Wait until all threads have ended."""
        self.finish()
        for thread in self._threads:
            thread.join(30)

    @contextlib.contextmanager
    def no_writers(self) -> Iterator[None]:
        """Hold the writers while the context lasts; entered when none is writing."""
        self._may_write.clear()
        try:
            for lock in self._writing:
                lock.acquire()
                lock.release()
            yield
        finally:
            self._may_write.set()

    def write(self, target: Target) -> Write:
        """Change A and B once; record it and return the entry."""
        number = next(self._numbers)
        begin = time.monotonic()
        try:
            data, took_s = ask(target.port, "/update", {"A": number, "B": number})
        except Failed as exc:
            entry = Write(
                *target,
                begin,
                time.monotonic(),
                number,
                "refused" if exc.kind == "refused" else "unknown",
                exc.kind,
                str(exc),
                took_s=exc.took_s,
            )
        else:
            entry = Write(
                *target,
                begin,
                time.monotonic(),
                number,
                "acknowledged",
                pid=data["pid"],
                revision=data["revision"],
                took_s=took_s,
            )
        self._recorder.add(entry)
        self.refused += entry.outcome == "refused"
        return entry

    def read(self, target: Target, pause_s: float = 0.0) -> Read:
        """Read once; record it and return the entry."""
        begin = time.monotonic()
        try:
            data, took_s = ask(target.port, f"/read?pause_s={pause_s}" if pause_s else "/read")
        except Failed as exc:
            entry = Read(*target, begin, time.monotonic(), exc.kind, str(exc))
        else:
            pid, revision, interrupted, *values = data
            end = time.monotonic()
            entry = Read(
                *target,
                begin,
                end,
                pid=pid,
                revision=revision,
                interrupted=interrupted,
                values=tuple(values),
                took_s=took_s - pause_s,
            )
            self.latest[target] = entry
        self._recorder.add(entry)
        return entry

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as exc:
            self.crashed.append(exc)
            raise

    def _write(self, index: int) -> None:
        for turn in itertools.count():
            self._may_write.wait()
            if self._done.is_set():
                return
            with self._writing[index]:
                if not self._may_write.is_set():
                    continue
                near = [target for target in self._targets() if target.host == "one"]
                # The two never meet on the same worker.
                mine = near[index::WRITERS]
                entry = self.write(mine[turn % len(mine)])
            self._pace(_WRITE_PACE_S, entry.failure)

    def _stay(self, index: int) -> None:
        while not self._done.is_set():
            targets = self._targets()
            entry = self.read(targets[index % len(targets)])
            self._pace(_READ_PACE_S, entry.failure)

    def _roam(self, index: int) -> None:
        for turn in itertools.count(index):
            if self._done.is_set():
                return
            targets = self._targets()
            # Some requests take long enough for several changes to come in.
            entry = self.read(targets[turn % len(targets)], 0.02 if turn % 25 == 0 else 0.0)
            self._pace(_ROAM_PACE_S, entry.failure)

    def _pace(self, pace_s: float, failure: str) -> None:
        self._done.wait(_FAILED_PACE_S if failure else pace_s)
