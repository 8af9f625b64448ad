"""The lease: no look at the watch file for a short time, and never a request that is stale."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from uwsgi_waffle.errors import StoreUnavailable
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process.lease import LEASE_S, Lease, Ticket, outlast

from ..support.rig import MemoryStore, Rig, Worker


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def settled(rig: Rig) -> Lease:
    """Return the lease of a manager whose last look found nothing new."""
    rig.manager.begin_request()
    rig.manager.begin_request()
    return rig.manager.lease


def shared(lease: Lease) -> bool:
    return time.monotonic() < lease.ticket.until


def test_nothing_is_shared_before_the_first_look() -> None:
    assert not shared(Lease())


def test_look_that_found_nothing_vouches_for_the_requests_after_it(rig: Rig) -> None:
    before = time.monotonic()
    lease = settled(rig)
    assert before < lease.ticket.until - LEASE_S <= time.monotonic()
    assert lease.ticket.snapshot is rig.manager.snapshot


def test_look_that_had_to_refresh_vouches_for_nobody(rig: Rig) -> None:
    rig.manager.begin_request()
    assert not shared(rig.manager.lease)


def test_look_while_the_store_fails_vouches_for_nobody(rig: Rig) -> None:
    settled(rig).revoke()
    rig.memory.error = StoreUnavailable("gone")
    rig.clock.now += 60
    rig.manager.begin_request()
    assert not shared(rig.manager.lease)


def test_error_that_somebody_keeps_does_not_make_a_request_seem_to_run_on(tmp_path: Path) -> None:
    store = MemoryStore()
    worker = Worker(tmp_path, store=store)
    worker.get("LIMIT")
    # Its traceback holds every frame under it, that of the request's start among them.
    store.error = StoreUnavailable("gone")
    (tmp_path / "waffle.watch").touch()
    outlast()
    app: Any = worker.app
    app(EnvironBuilder("/").get_environ(), lambda *given: None).close()
    assert store.error.__traceback__ is not None
    worker.manager.lease.revoke()
    assert worker.manager.lease.unused


def test_own_change_ends_the_lease(rig: Rig) -> None:
    ticket = settled(rig).ticket
    rig.update(LIMIT=7)
    assert not shared(rig.manager.lease)
    assert ticket.until == 0.0


def test_change_that_the_watcher_read_ends_the_lease_even_if_it_is_not_applied(rig: Rig) -> None:
    lease = settled(rig)
    rig.idle = False
    rig.changed_elsewhere(LIMIT=7)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] != 7
    assert not shared(lease)
    assert rig.manager.begin_request()["LIMIT"] == 7


def test_request_that_shares_a_ticket_keeps_the_watcher_from_applying(rig: Rig) -> None:
    lease = settled(rig)
    request: Ticket | None = lease.ticket
    rig.changed_elsewhere(LIMIT=7)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] != 7
    del request
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


def test_lease_that_no_request_uses_does_not_keep_the_watcher_from_applying(rig: Rig) -> None:
    assert shared(settled(rig))
    rig.changed_elsewhere(LIMIT=7)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


def test_ticket_that_is_older_than_what_another_thread_applied_is_not_shared(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(rig).revoke()
    grant = rig.manager._grant

    def change_then_grant(ticket: Ticket, looked_at: float) -> None:
        # Between its look and its grant another thread changes a setting.
        rig.update(LIMIT=7)
        grant(ticket, looked_at)

    monkeypatch.setattr(rig.manager, "_grant", change_then_grant)
    assert rig.manager.begin_request()["LIMIT"] != 7
    assert not shared(rig.manager.lease)


def test_change_returns_only_when_every_look_from_before_it_is_too_old(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced_at: list[float] = []
    announce = FileNotifier.announce

    def noted(notifier: FileNotifier, revision: int) -> None:
        announce(notifier, revision)
        announced_at.append(time.monotonic())

    monkeypatch.setattr(FileNotifier, "announce", noted)
    rig.update(LIMIT=7)
    assert time.monotonic() >= announced_at[0] + LEASE_S


def test_wait_goes_on_when_a_sleep_ends_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = time.sleep
    monkeypatch.setattr("uwsgi_waffle.process.lease.time.sleep", lambda s: sleep(s / 4))
    began = time.monotonic()
    outlast()
    assert time.monotonic() >= began + LEASE_S


def test_requests_within_a_lease_take_no_look_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(tmp_path)
    monkeypatch.setattr("uwsgi_waffle.process.lease.LEASE_S", 60.0)
    for _ in range(2):
        worker.get("LIMIT")
    looks: list[None] = []
    monkeypatch.setattr(FileNotifier, "signature", lambda notifier: looks.append(None))
    for _ in range(5):
        worker.get("LIMIT")
    assert looks == []


def test_no_request_is_stale_that_starts_after_a_change_returned(tmp_path: Path) -> None:
    writer, reader = Worker(tmp_path), Worker(tmp_path)
    stop = threading.Event()
    started: list[int] = []

    def ask() -> None:
        # So that a lease is always under way when a change comes.
        while not stop.is_set():
            started.append(int(str(reader.get("LIMIT"))))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for number in range(11, 41):
            writer.waffle.update({"LIMIT": number})
            assert reader.get("LIMIT") == number
    finally:
        stop.set()
        thread.join()
    assert len(started) > 30
    assert started == sorted(started)
