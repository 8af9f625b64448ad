"""Everything that a run starts, and the means of its faults."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from integration.support.redis_server import RedisServer
from integration.support.waiting import eventually
from uwsgi_waffle.forking import FLOCK

from .app import CLOCK, DIE
from .bounds import CONFIG
from .databases import Database, PostgresDatabase, SqliteDatabase
from .load import Load, Target
from .record import Excuse, Failure, Problem, Read, Recorder, Seen
from .relay import Relay
from .servers import FaultFailed, Uwsgi

WORKERS = 4
DISK_MIB = 48


class FaultSkipped(Exception):
    """A fault can't be injected here; says why."""


class Host:
    """One host's folder and uWSGI."""

    def __init__(self, folder: Path, name: str, *, workers: int, watch: Path, **config: object):
        self.folder = folder
        self.name = name
        self.watch_file = watch
        folder.mkdir()
        watch.parent.mkdir(exist_ok=True)
        self.set_clock(0)
        text = json.dumps({**CONFIG, **config, "WAFFLE_WATCHER_FILE": str(watch)})
        self.uwsgi = Uwsgi(name, folder, text, workers=workers)

    @property
    def targets(self) -> list[Target]:
        """The ports of its workers."""
        return [Target(self.name, port) for port in self.uwsgi.ports]

    def ear(self) -> int:
        """Return the pid of the process that hears what other hosts announce; 0 if none does.

        Source: fcntl(2), ``F_GETLK``: the pid of who holds a lock.
        """
        for path in self.watch_file.parent.glob(f"{self.watch_file.name}.*.page.ear"):
            asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            with open(path, "rb") as file:
                kind, *_, pid = FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                return int(pid)
        return 0

    def set_clock(self, offset_ns: int) -> None:
        """Set the wall clock of its workers off by so much."""
        # In place: the workers have this file mapped.
        descriptor = os.open(self.folder / CLOCK, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(descriptor, struct.pack("<q", offset_ns), 0)
        os.close(descriptor)

    def let_next_writer_die(self, at: str) -> None:
        """Let the next process that changes something die at one of the app's instants."""
        # Whole at once: every worker looks at it.
        new = self.folder / f"{DIE}.new"
        new.write_text(at)
        new.rename(self.folder / DIE)


class World:
    """The servers of a run, the load on them, and its record.

    :ivar one: the host that is harmed; has 4 workers.
    :ivar hosts: a second one, of two workers, is there if the store can be shared.
    :ivar relay: between the second host and where it hears: Redis, or PostgreSQL if that notifies.
    :ivar restored: how many backups were put back.
    :ivar disk: holds the watch file of the first host and, if embedded, the store.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.folder = folder
        self.store = store
        self.random = random.Random(0)
        self.fault = ""
        self.restored = 0
        self.recorder = Recorder(folder / "record.jsonl")
        self.load = Load(self.recorder, lambda: self.targets)
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.hosts: list[Host] = []
        with contextlib.ExitStack() as stack:
            self._make(stack)
            self._cleanup = stack.pop_all()

    def _make(self, stack: contextlib.ExitStack) -> None:
        folder = self.folder
        self.disk_is_small = _mount(self.disk)
        if self.disk_is_small:
            # Lazily: what was killed a moment ago may not be gone yet.
            stack.callback(subprocess.run, ["umount", "--lazy", str(self.disk)], check=False)
        self.redis = RedisServer(folder)
        stack.callback(self.redis.stop)
        embedded = self.store == "sqlite"
        self.database: Database = (
            SqliteDatabase(self.disk / "store") if embedded else PostgresDatabase()
        )
        stack.callback(self.database.close)
        notifies = self.store == "notify"
        self.relay = Relay(self.database.port if notifies else self.redis.port)
        stack.callback(self.relay.close)
        common = {"WAFFLE_REDIS_URL": self.redis.url, "WAFFLE_STORE_URL": self.database.url}
        if notifies:
            common["WAFFLE_WATCHTYPE"] = "postgresql"
        watch = self.disk / "watch" / "waffle.watch"
        self.one = Host(folder / "one", "one", workers=WORKERS, watch=watch, **common)
        self.hosts = [self.one]
        if not embedded:
            watch = folder / "two-watch" / "waffle.watch"
            common["WAFFLE_REDIS_URL"] = f"redis://127.0.0.1:{self.relay.port}/0"
            if notifies:
                # The store itself goes on beside it.
                url = f"postgresql://waffle:s3cret@127.0.0.1:{self.relay.port}/postgres"
                common["WAFFLE_POSTGRESQL_URL"] = url
            self.hosts.append(Host(folder / "two", "two", workers=2, watch=watch, **common))
        for host in self.hosts:
            stack.callback(host.uwsgi.kill)

    @property
    def targets(self) -> list[Target]:
        """All workers' ports."""
        return [target for host in self.hosts for target in host.targets]

    def start(self) -> None:
        """Start all servers, make a first change, then start the load."""
        self.redis.start()
        self.database.start()
        for host in self.hosts:
            host.uwsgi.start()
        first = self.load.write(self.one.targets[0])
        if first.outcome != "acknowledged":
            raise FaultFailed(f"the very first change failed: {first.error}")
        self.load.start(len(self.targets))
        self.until("every worker answers", lambda: self.load.latest.keys() >= set(self.targets))

    def close(self) -> None:
        """End all that was started."""
        # The servers first: a request that waits for a stopped one would keep its thread.
        self.load.finish()
        self._cleanup.close()
        self.load.stop()
        self.recorder.close()

    def pid(self, target: Target) -> int:
        """Return the pid of a worker, as it told last."""
        return self.load.latest[target].pid

    def victim(self) -> Target:
        """Return a random worker of the first host."""
        return self.random.choice(self.one.targets)

    def kill_worker(self, target: Target, pid: int = 0) -> int:
        """End a worker by SIGKILL; return its pid. Requests that it was at are lost."""
        pid = pid or self.pid(target)
        if not any(pid in host.uwsgi.children() for host in self.hosts):
            raise FaultFailed(f"{pid} is no worker of ours")
        with self.excused("connection", ports=[target.port]):
            os.kill(pid, signal.SIGKILL)
        return pid

    def look(self) -> int:
        """Return the store's revision, and record that a command of the first host saw it."""
        revision = self.database.revision()
        self.recorder.add(Seen(self.one.name, time.monotonic(), revision))
        return revision

    def await_reads(self, what: str, good: Callable[[Read], bool], *, limit_s: float) -> None:
        """Wait until the newest answer of each worker is good, and began after this call."""
        begin = time.monotonic()
        latest = self.load.latest

        def are_good() -> bool:
            newest = [latest[target] for target in self.targets if target in latest]
            return len(newest) == len(self.targets) and all(
                read.begin > begin and good(read) for read in newest
            )

        self.until(what, are_good, limit_s=limit_s)

    @contextlib.contextmanager
    def excused(self, *kinds: Failure, ports: Iterable[int] = ()) -> Iterator[None]:
        """Explain the failures of requests that are under way within this context."""
        begin = time.monotonic()
        try:
            yield
        finally:
            excuse = Excuse(self.fault, begin, time.monotonic(), list(kinds), list(ports))
            self.recorder.add(excuse)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Record a problem unless a change is refused in this context: a fault without effect."""
        before = self.load.refused
        yield
        if self.load.refused == before:
            self.problem("no change was refused: the fault had no effect")

    def replace_workers(self, order: Callable[[], None], *, limit_s: float = 60.0) -> None:
        """Give uWSGI an order, and wait until each worker of the first host is another."""
        before = {target: self.pid(target) for target in self.one.targets}
        order()
        self.until(
            "every worker replaced",
            lambda: all(self.pid(target) != pid for target, pid in before.items()),
            limit_s=limit_s,
        )

    def problem(self, text: str) -> None:
        """Record that something is wrong."""
        self.recorder.add(Problem(time.monotonic(), self.fault, text))

    def until(self, what: str, probe: Callable[[], object], *, limit_s: float = 30.0) -> None:
        """Wait for something; see :func:`~integration.support.waiting.eventually`."""
        eventually(what, probe, deadline_s=limit_s)


def _mount(folder: Path) -> bool:
    """Mount a small tmpfs; return whether that can be done."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
