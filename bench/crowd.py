"""One process of a crowd: many watchers on one store, each as on a host of its own if by Redis."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uwsgi_waffle.notifiers.base import Notifier
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.notifiers.redis import RedisNotifier
from uwsgi_waffle.process.manager import Manager
from uwsgi_waffle.process.page import Page
from uwsgi_waffle.process.watcher import Watcher
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Change, Delta, initial_snapshot
from uwsgi_waffle.stores import Store, store_from_url

from .reports import pack

CONFS = {"NUMBER": {"desc": "counts the rounds", "default": 0}}
#: The default of WAFFLE_POLL_INTERVAL.
FILE_POLL_S = 0.2
#: The report of a process that its watchers have all subscribed.
READY = -1
# None but a notice brings a change while it is measured.
_RESYNC_S = 600.0
_POLL_S = 1.0


class _Counted:
    """Counts the reads of a store, and leaves the rest to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.reads = 0

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        with self._lock:
            self.reads += 1
        return self._store.read_since(revision, epoch, mark)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Member:
    """One watcher with its manager; reports each number that it applied."""

    def __init__(
        self, identity: int, watch_file: Path, store: Any, notifier: Notifier, send: Any
    ) -> None:
        self._identity = identity
        self._send = send
        self.subscribed = threading.Event()
        declarations = declare(CONFS)
        manager = Manager(
            declarations,
            store,
            FileNotifier(watch_file),
            # A host of its own.
            Page(watch_file.with_name(f"{identity}.page")),
            snapshot=initial_snapshot(declarations),
            apply=self._apply,
            changed=self._changed,
            resync_interval_s=_RESYNC_S,
        )
        manager.refresh()
        self.watcher = Watcher(manager, notifier, poll_interval_s=_POLL_S, tasks=[self])

    def turn(self) -> None:
        """Called by the watcher after its first wait, which ends with the subscription."""
        self.subscribed.set()

    def end(self) -> None:
        """There is nothing to end."""

    def _apply(self, values: Mapping[str, Any]) -> None:
        """There is no app to put them into."""

    def _changed(self, changes: list[Change]) -> None:
        for change in changes:
            self._send(pack(self._identity, change.new, time.monotonic_ns()))


def main(first: int, count: int, store_url: str, where: str, channel: str, reports: str) -> None:
    """Run watchers until SIGTERM, then report how often the store was read since they began.

    :param where: the URL of Redis, or the watch file that all share as on one host.
    """
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(reports)
    folder = Path(tempfile.mkdtemp())
    store = _Counted(store_from_url(store_url, folder=folder, timeout_s=30.0, write_timeout_s=30.0))
    members = []
    for identity in range(first, first + count):
        notifier: Notifier
        if where.startswith("redis:"):
            watch_file = folder / f"{identity}.watch"
            notifier = RedisNotifier(where, channel)
        else:
            watch_file = Path(where)
            notifier = FileNotifier(watch_file, poll_interval_s=FILE_POLL_S)
        members.append(_Member(identity, watch_file, store, notifier, sender.send))
    for member in members:
        member.watcher.start()
    for member in members:
        member.subscribed.wait(60)
    # Each subscription makes its watcher read the store once.
    before = -1
    while before != store.reads:
        before = store.reads
        time.sleep(1.5)
    sender.send(pack(first, READY, time.monotonic_ns()))
    signal.sigwait({signal.SIGTERM})
    Path(os.environ["BENCH_COUNTS"], str(first)).write_text(str(store.reads - before))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
