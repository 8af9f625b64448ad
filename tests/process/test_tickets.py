"""Tickets: who shares one, for how long, and when the watcher leaves ``app.config`` alone."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.process.gate import Gate
from uwsgi_waffle.process.page import Page
from uwsgi_waffle.process.page_file import Absent
from uwsgi_waffle.process.tickets import TICKET_S, Ticket, Tickets

from ..support.rig import Clock, MemoryStore, Rig, set_ticket_clock, wait_until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every ticket, set by hand."""
    clock = Clock()
    set_ticket_clock(monkeypatch.setattr, clock)
    return clock


class Served:
    """A gate before a manager; what its requests find and whether they had to look."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.looks = 0
        self.gate = Gate(self._app, self._look, "ticket", clears_environ=True)
        self.gate.tickets = rig.manager.tickets

    def _look(self, environ: dict[str, Any]) -> None:
        self.looks += 1
        self.rig.manager.admit(environ, "ticket")

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return []

    def request(self) -> dict[str, Any]:
        """Start a request; it runs until its environment is emptied."""
        environ: dict[str, Any] = {}
        self.gate.wsgi_app(environ, lambda *_: None)
        return environ

    def looked(self) -> bool:
        """Return whether a request that starts now looks for itself; it ends at once."""
        before = self.looks
        self.request().clear()
        return self.looks > before


@pytest.fixture
def served(rig: Rig, clock: Clock) -> Served:
    served = Served(rig)
    # What this process put on the page itself is confirmed once.
    for _ in range(3):
        served.looked()
    assert not served.looked()
    return served


# --- shared while the words are the page's ------------------------------------------------------


@pytest.mark.parametrize("step", ["open", "mark", "close"])
def test_ticket_is_shared_only_while_its_words_are_the_pages(step: str, served: Served) -> None:
    page = Page(served.rig.manager.page.path)
    if step == "open":
        page.open()
    elif step == "mark":
        page.mark(b"identity", 7)
    else:
        page._file.put(16, b"anything")
    assert served.looked()


def test_no_ticket_is_shared_while_a_change_is_open(served: Served) -> None:
    with Page(served.rig.manager.page.path).change() as change:
        change.open()
        assert all(served.looked() for _ in range(5))
    served.looked()
    assert not served.looked()


def test_replaced_page_is_noticed_once_tickets_are_over(served: Served, clock: Clock) -> None:
    page = served.rig.manager.page
    page.path.unlink()
    other = Page(page.path)
    other.open()
    assert not served.looked(), "the ticket's own page has not changed"
    clock.advance(TICKET_S)
    assert served.looked()
    assert page.inode == other.inode


# --- and for a time that counts from before the look --------------------------------------------


def _slow_look(rig: Rig, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = rig.watch_file.signature

    def slow() -> Any:
        try:
            return signature()
        finally:
            clock.advance(0.015)

    monkeypatch.setattr(rig.watch_file, "signature", slow)


@pytest.mark.parametrize("way", ["admit", "current"])
def test_time_of_a_ticket_counts_from_before_the_look(
    way: str, served: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = served.rig
    clock.advance(1.0)
    began = clock.now
    _slow_look(rig, clock, monkeypatch)
    if way == "admit":
        rig.begin_request()
    else:
        rig.manager.current()
    assert clock.now > began, "the look took no time, so that this test shows nothing"
    assert 0.0 < rig.manager.tickets.shared.until <= began + TICKET_S


def test_ticket_is_over_after_its_time(served: Served, clock: Clock) -> None:
    clock.advance(1.0)
    assert served.looked()
    clock.advance(TICKET_S * 0.9)
    assert not served.looked()
    clock.advance(TICKET_S * 0.2)
    assert served.looked()


def test_sharing_waits_for_no_lock(served: Served, clock: Clock) -> None:
    rig = served.rig
    clock.advance(1.0)
    with rig.manager._refresher._lock:
        assert served.looked()
        assert served.looked(), "one who could not share must not keep an older ticket"


# --- in use ------------------------------------------------------------------------------------


def test_issued_ticket_is_in_use_until_its_request_ends() -> None:
    tickets = Tickets()
    environ = {"ticket": tickets.issue()}
    tickets.revoke()
    assert not tickets.unused
    environ.clear()
    assert tickets.unused


def test_shared_ticket_is_in_use_only_by_requests() -> None:
    tickets = Tickets()
    tickets.share(tickets.issue(), Ticket().view, b"", time.monotonic())
    held = tickets.shared
    tickets.revoke()
    assert not tickets.unused
    assert held.until == 0.0, "nobody may share it any more"
    del held
    assert tickets.unused


def test_ticket_that_code_outside_of_requests_shares_is_in_use_in_a_request(
    served: Served, clock: Clock
) -> None:
    rig = served.rig
    clock.advance(1.0)
    rig.manager.current()
    before = served.looks
    environ = served.request()
    assert served.looks == before, "it did not share that ticket, so that this test shows nothing"
    seen = dict(rig.config)
    rig.changed_elsewhere(LIMIT=7)
    rig.manager.follow(None)
    rig.manager.current()
    assert rig.config == seen
    assert environ["ticket"].snapshot["LIMIT"] == 10
    environ.clear()
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


# --- one read for many ---------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """Answers each read only when it is let; the rows are those of when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.slow = False

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Any:
        delta = super().read_since(revision, epoch, mark)
        if self.slow:
            self.asked.release()
            assert self.let.acquire(timeout=10)
        return delta


def test_requests_that_wait_share_one_read_that_began_after_they_did(folder: Path) -> None:
    store = SlowStore()
    rig = Rig(folder, store=store, wait_s=10.0)
    rig.begin_request()
    rig.begin_request()
    store.slow = True
    rig.changed_elsewhere(LIMIT=1)
    seen: list[int] = []

    def request() -> None:
        seen.append(rig.begin_request().revision)

    first = threading.Thread(target=request)
    first.start()
    assert store.asked.acquire(timeout=10)
    # Under way since before this change, so that it is of no use to those who come now.
    rig.changed_elsewhere(LIMIT=2)
    before = store.calls["read_since"]
    waiting = [threading.Thread(target=request) for _ in range(8)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(rig.manager.tickets._issued) >= 9, "all have begun")
    store.slow = False
    store.let.release()
    for thread in [first, *waiting]:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(seen)[1:] == [2] * 8
    # One that all of them share; one more confirms what this process itself put on the page.
    assert store.calls["read_since"] <= before + 2


def test_ticket_holds_until_its_time_and_not_at_it(clock: Clock) -> None:
    tickets = Tickets()
    ticket = tickets.issue()
    tickets.share(ticket, Absent(), bytes(24), clock())
    holds = [tickets.holds()]
    for seconds in (TICKET_S, -TICKET_S / 2):
        clock.advance(seconds)
        holds.append(tickets.holds())
    assert holds == [True, False, True]
    ticket.words = b"others".ljust(24)
    assert not tickets.holds()


def test_ticket_is_younger_than_the_page_promises() -> None:
    # docs/promises.md and docs/architecture.md name it.
    assert TICKET_S == 0.02


def test_override_ends_the_shared_ticket(rig: Rig) -> None:
    rig.begin_request()
    rig.begin_request()
    shared = rig.manager.tickets.shared
    assert shared.until > 0
    with rig.manager.override({"LIMIT": 7}):
        assert shared.until == 0
