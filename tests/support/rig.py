"""What the tests share: a worker in miniature, a store in memory, a clock that is set by hand."""

from __future__ import annotations

import contextlib
import contextvars
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, jsonify

from uwsgi_waffle import NotifierError, RevisionConflict, WaffleConf
from uwsgi_waffle.app_state import WaffleState
from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process import gate as gate_module
from uwsgi_waffle.process import manager as manager_module
from uwsgi_waffle.process import tickets as tickets_module
from uwsgi_waffle.process.engine import Engine
from uwsgi_waffle.process.health import Status
from uwsgi_waffle.process.manager import Manager
from uwsgi_waffle.process.page import Page
from uwsgi_waffle.process.tickets import Ticket
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Change, Delta, Row, Snapshot, initial_snapshot
from uwsgi_waffle.stores import HistoryEntry, Store

DEADLINE_S = 10.0
NOBODY = 65534

CONFS: dict[str, dict[str, Any]] = {
    "SITENAME": {"desc": "Name of the site", "default": "Shop"},
    "LIMIT": {"desc": "Upload limit", "default": 10, "min": 1, "max": 1000},
    "TOKEN": {"desc": "API token", "default": "hush", "secret": True},
}


class Clock:
    """A monotonic clock that stands still until it is advanced.

    It begins later than that of any machine, so that a time of the machine's that it is compared
    with by mistake is earlier on all of them, and not only on one that has just started.

    :ivar slept: how long each sleep by it was, in seconds.
    """

    def __init__(self, now: float = 2.0**26) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


def set_ticket_clock(patch: Callable[[Any, str, Any], Any], clock: Clock) -> None:
    """Have a clock time every ticket: who issues it, and who asks whether it still holds."""
    patch(manager_module, "time", SimpleNamespace(monotonic=clock))
    patch(gate_module, "monotonic", clock)
    patch(tickets_module, "monotonic", clock)


class MemoryStore(Store):
    """Keeps rows in memory, counts calls, and fails when it is told to.

    :ivar error: raised by every call while it is set.
    :ivar errors: mapping of a method's name to what each call of it raises.
    :ivar during_read: called within each read, before the rows are taken.
    """

    calls_before_commit = True

    def __init__(self) -> None:
        self.epoch = "first"
        self.revision = 0
        #: of each revision
        self.marks: dict[int, str] = {0: ""}
        self.rows: dict[str, tuple[str | None, int]] = {}
        self.calls: Counter[str] = Counter()
        self.read_from: list[int] = []
        self._lock = threading.Lock()
        self.error: Exception | None = None
        self.errors: dict[str, Exception] = {}
        self.during_read: Callable[[], object] | None = None

    def prepare(self) -> None:
        self._called("prepare")

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        self._called("read_since")
        self.read_from.append(revision)
        if self.during_read is not None:
            self.during_read()
        with self._lock:
            return self._read(revision, epoch, mark)

    def _read(self, revision: int, epoch: str, mark: str) -> Delta:
        complete = (
            revision == 0
            or epoch != self.epoch
            or revision > self.revision
            or self.marks.get(revision) != mark
        )
        since = 0 if complete else revision
        return Delta(
            self.revision,
            self.epoch,
            tuple(Row(name, raw) for name, (raw, at) in self.rows.items() if at > since),
            complete,
            self.marks[self.revision],
        )

    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> int:
        self._called("write")
        if expected_revision not in (None, self.revision):
            assert expected_revision is not None
            raise RevisionConflict(expected_revision, self.revision)
        if before_commit is not None:
            before_commit()
        with self._lock:
            self.revision += 1
            self.marks[self.revision] = secrets.token_hex(8)
            self.rows.update({name: (raw, self.revision) for name, raw in raws.items()})
            return self.revision

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        now = datetime.now(timezone.utc)
        rows = self.rows.items()
        return [HistoryEntry(at, row, None, raw, None, None, now) for row, (raw, at) in rows]

    def close(self) -> None:
        self.calls["close"] += 1

    def _called(self, method: str) -> None:
        self.calls[method] += 1
        if self.error is not None:
            raise self.error
        if method in self.errors:
            raise self.errors[method]


class StubNotifier(Notifier):
    """Gives the notices that a test puts in, and keeps what is announced."""

    name = "stub"

    def __init__(self) -> None:
        self.announced: list[int] = []
        self.error: Exception | None = None
        self.notices: list[Notice | Exception] = []
        self.waits: list[float] = []
        self._wake = threading.Event()
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def put(self, *notices: Notice | Exception) -> None:
        self.notices.extend(notices)
        self._wake.set()

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        if self.error is not None:
            raise self.error
        self.announced.append(revision)

    def wait(self, timeout_s: float) -> Notice | None:
        self.waits.append(timeout_s)
        if not self.notices and not self.closed:
            self._wake.wait(timeout_s)
            self._wake.clear()
        if not self.notices:
            return None
        notice = self.notices.pop(0)
        if isinstance(notice, Exception):
            raise notice
        return notice

    def close(self) -> None:
        self._closed.set()
        self._wake.set()


def waits_while_away(
    notifier: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, turns: int
) -> tuple[int, list[float | None]]:
    """Let a notifier wait so often for a server that is away.

    :return: how many times it tried to come back, and how long the other turns waited.
    """
    waits: list[float | None] = []

    def wait(timeout_s: float | None = None) -> bool:
        waits.append(timeout_s)
        clock.advance(timeout_s or 0.0)
        return False

    monkeypatch.setattr(notifier._closed, "wait", wait)
    attempts = 0
    for _ in range(turns):
        try:
            notifier.wait(0.2)
        except NotifierError:
            attempts += 1
    return attempts, waits


class Rig:
    """A manager with everything around it in a test's hand."""

    def __init__(
        self,
        folder: Path,
        *,
        confs: Mapping[str, Any] = CONFS,
        store: Store | None = None,
        remote: Notifier | None = None,
        wait_s: float = 0.2,
        snapshot: Snapshot | None = None,
        **more: Any,
    ) -> None:
        self.memory = MemoryStore()
        self.store = store or self.memory
        self.clock = Clock()
        self.config: dict[str, Any] = {}
        self.applied: list[dict[str, Any]] = []
        self.changes: list[Change] = []
        self.watch_file = FileNotifier(folder / "waffle.watch", poll_interval_s=0.005)
        self.declarations = declare(confs)
        self.config.update(self.declarations.defaults())
        self.manager = Manager(
            self.declarations,
            self.store,
            self.watch_file,
            Page(folder / "waffle.page"),
            snapshot=snapshot or initial_snapshot(self.declarations),
            source="defaults" if snapshot is None else "master",
            apply=self._apply,
            changed=self.changes.extend,
            remote=remote,
            wait_s=wait_s,
            resync_interval_s=10.0,
            clock=self.clock,
            **more,
        )

        #: what the tasks of a watcher read
        self.status: Callable[[], Status] = Engine(
            self.manager, lambda: self.watch_file, poll_interval_s=0.1
        ).status
        self._request: Ticket | None = None

    @property
    def idle(self) -> bool:
        """Whether no request runs; a test may say so."""
        return self._request is None

    @idle.setter
    def idle(self, idle: bool) -> None:
        self._request = None if idle else self.manager.tickets.issue()

    def _apply(self, values: Mapping[str, Any]) -> None:
        self.applied.append(dict(values))
        self.config.update(values)

    def update(self, **values: object) -> int:
        """Change settings as this process would."""
        return self.manager.changes.commit(
            self.declarations.encode(values), author=None, reason=None, expected_revision=None
        )

    def begin_request(self) -> Snapshot:
        """Return what a request sees that starts now and ends at once."""
        held: dict[str, Any] = {}
        try:
            self.manager.admit(held, "ticket")
            snapshot: Snapshot = held["ticket"].snapshot
            return snapshot
        finally:
            held.clear()

    def changed_silently(self, **values: object) -> int:
        """Change settings as another process would whose notice gets lost."""
        return self.store.write(self.declarations.encode(values))

    def changed_elsewhere(self, **values: object) -> int:
        """Change settings as another process of this host would."""
        revision = self.changed_silently(**values)
        FileNotifier(self.watch_file.path).announce(revision)
        return revision


class Worker:
    """One Flask app with its WaffleConf: what one process of a server holds.

    Several of them with one folder stand for several workers of one host.
    """

    def __init__(
        self,
        folder: Path,
        *,
        confs: Mapping[str, Any] = CONFS,
        store: Store | None = None,
        **config: object,
    ) -> None:
        self.folder = folder
        self.app = app = Flask("shop", instance_path=str(folder))
        app.config.update(WAFFLE_CONFS=confs, **config)
        self.waffle = WaffleConf(app, store)

        @app.get("/read/<name>")
        def read(name: str) -> Any:
            return jsonify(
                config=app.config[name], conf=self.waffle.conf[name], revision=self.waffle.revision
            )

    @property
    def state(self) -> WaffleState:
        state = self.app.extensions["waffleconf"]
        assert isinstance(state, WaffleState)
        return state

    @property
    def manager(self) -> Manager:
        return self.state.engine.manager

    def update(self, **values: object) -> int:
        """Change settings as another process would: outside of every context of the caller."""
        return contextvars.Context().run(self.waffle.update, values)

    def get(self, name: str) -> Any:
        """Return what a request that starts now reads in ``app.config``."""
        answer = self.app.test_client().get(f"/read/{name}").get_json()
        assert answer["config"] == answer["conf"]
        return answer["config"]

    def close(self) -> None:
        self.waffle.stop()
        self.state.store.close()


def raising(error: Exception) -> Callable[..., Any]:
    """Return a function that takes anything and raises an error."""

    def fail(*args: object, **more: object) -> Any:
        raise error

    return fail


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds; fail the test after a generous deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        time.sleep(0.002)


@contextlib.contextmanager
def ordinary_user(uid: int = NOBODY) -> Iterator[None]:
    """Run as a user whom file modes bind, if the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
