"""One process of a crowd: many watchers on one store, each as on another host if by Redis.

A host is its ear: a manager with its page, a watcher that is subscribed, and the row by which it
answers for the host. Its other workers are views of the same page, which a request would compare.
"""

from __future__ import annotations

import os
import resource
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
from uwsgi_waffle.reporting.host_rows import HostReporter
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Change, Delta, initial_snapshot
from uwsgi_waffle.stores import Store, store_from_url

from .reports import pack

CONFS = {"NUMBER": {"desc": "counts the rounds", "default": 0}}
#: The default of WAFFLE_POLL_INTERVAL.
FILE_POLL_S = 0.2
#: The report of a process that its watchers have all subscribed.
READY = -1
#: The report of a process that it has written down how often the store was read.
COUNTED = -2
#: so many workers of a host follow its page
FOLLOWERS = 7
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


class _Follower:
    """A worker that only follows the page: what its next request would compare."""

    def __init__(self, path: Path) -> None:
        self._page = Page(path)
        self._seen = b""

    def must_look(self) -> bool:
        """Return whether its next request would read the store; it has then."""
        words = self._page.words()
        if words == self._seen:
            return False
        self._seen = words
        return True


class _Member:
    """One watcher with its manager; reports each number that it applied."""

    def __init__(
        self, identity: int, watch_file: Path, store: Any, notifier: Notifier, send: Any
    ) -> None:
        self._identity = identity
        self._send = send
        self._followers: list[_Follower] = []
        self.subscribed = threading.Event()
        declarations = declare(CONFS)
        # A host of its own.
        page = watch_file.with_name(f"{identity}.page")
        manager = Manager(
            declarations,
            store,
            FileNotifier(watch_file),
            Page(page),
            snapshot=initial_snapshot(declarations),
            apply=self._apply,
            changed=self._changed,
            resync_interval_s=_RESYNC_S,
        )
        manager.refresh()
        tasks: list[Any] = [self]
        if not isinstance(notifier, FileNotifier):
            self._followers = [_Follower(page) for _ in range(FOLLOWERS)]
            manager.serve_as("crowd", 1)
            tasks += [HostReporter(manager, store, app="crowd", interval_s=_RESYNC_S)]
        self.watcher = Watcher(manager, notifier, poll_interval_s=_POLL_S, tasks=tasks)

    def turn(self) -> None:
        """Called by the watcher after its first wait, which ends with the subscription."""
        self.subscribed.set()

    def end(self) -> None:
        """There is nothing to end."""

    def _apply(self, values: Mapping[str, Any]) -> None:
        """There is no app to put them into."""

    def _changed(self, changes: list[Change]) -> None:
        at_ns = time.monotonic_ns()
        # It was marked before: no request of another worker is served what was there.
        looks = [each.must_look() for each in self._followers]
        if all(looks):
            for change in changes:
                self._send(pack(self._identity, change.new, at_ns))


def main(first: int, count: int, store_url: str, where: str, channel: str, reports: str) -> None:
    """Run watchers until SIGTERM; at SIGUSR1 write how often the store was read since they began.

    :param where: the URL of Redis, or the watch file that all share as on one host.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(reports)
    # Beside what it writes: removed by who starts the crowd.
    folder = Path(tempfile.mkdtemp(dir=Path(os.environ["BENCH_COUNTS"]).parent))

    def make_store() -> _Counted:
        return _Counted(
            store_from_url(store_url, folder=folder, timeout_s=30.0, write_timeout_s=30.0)
        )

    shared = make_store()
    stores = [shared]
    members = []
    for identity in range(first, first + count):
        store = shared
        if not store_url.startswith("sqlite:"):
            # A host has its own connections, and waits for no other's.
            stores.append(store := make_store())
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
    while before != sum(each.reads for each in stores):
        before = sum(each.reads for each in stores)
        time.sleep(1.5)
    sender.send(pack(first, READY, time.monotonic_ns()))
    while signal.sigwait({signal.SIGTERM, signal.SIGUSR1}) == signal.SIGUSR1:
        reads = sum(each.reads for each in stores) - before
        Path(os.environ["BENCH_COUNTS"], str(first)).write_text(str(reads))
        sender.send(pack(first, COUNTED, time.monotonic_ns()))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
