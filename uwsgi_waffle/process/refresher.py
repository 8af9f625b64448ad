"""A refresh: the store read, what is new marked on the page, and served; one sequence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import StoreError, StoreUnavailable
from ..snapshot import Change, Delta, Snapshot
from ..stores.base import Committed, Store
from ..stores.epochs import word_of
from .health import Health
from .kept_slot import KeptSlot
from .layers import Layers
from .page import Page, PageChange, identity_of, is_open
from .reading import Look, Reading
from .tickets import Ticket, Tickets

#: the part that fails when this process can't use the page
PAGE = "page"
# How often a read is begun again because the page changed while it was under way.
_READS = 3


def always() -> bool:
    """Say yes: ``app.config`` may change now."""
    return True


class Refresher:
    """Refreshes the settings of one process; one thread at a time, and any may ask.

    :ivar served: what may leave this process: it is on the page.
    :ivar reader: the thread that reads just now: its store may ask for the app's context.

    :param layers: what was read, and what is applied; nothing else changes them.
    :param reading: when and how the store is read.
    :param tickets: of the requests of this process; spent as soon as there is something new.
    :param slot: shows other processes what was read.
    :param changed: called with the changes, after they were applied, without any lock held.
    :param wait_s: longest time that a caller waits for another thread's refresh.
    """

    def __init__(
        self,
        store: Store,
        page: Page,
        layers: Layers,
        reading: Reading,
        tickets: Tickets,
        slot: KeptSlot,
        health: Health,
        *,
        changed: Callable[[list[Change]], None],
        wait_s: float,
    ) -> None:
        self.served: Snapshot = layers.base
        self.reader: int | None = None
        self._store = store
        self._page = page
        self._layers = layers
        self._reading = reading
        self._tickets = tickets
        self._slot = slot
        self._health = health
        self._changed = changed
        self._wait_s = wait_s
        self._lock = threading.Lock()
        # The page's words from before the read that the base comes from; never those of an open
        # page, nor a ``seq`` that was written after that read.
        self._vouched: bytes | None = None
        # The page's words as the newest mark of this process left them, if they became others.
        self._marked: bytes | None = None

    # What calls for a read

    def is_due(self, grace_s: float) -> bool:
        """Return whether the page, the watch file, a notice or the resync calls for a read.

        :param grace_s: how much later than its time the resync may come.
        """
        return self._page.words() != self._vouched or self._reading.is_due(grace_s)

    def others_have_news(self) -> bool:
        """Return whether the page shows more than the newest mark of this process."""
        return self._page.words() not in (self._vouched, self._marked)

    # Serving

    def share(self, ticket: Ticket, looked_at: float) -> None:
        """Have later requests share a ticket, unless what it sees may be old by now.

        :param looked_at: when the look for it began, by the monotonic clock.
        """
        # Under the lock, because a ticket that is older than app.config must not be shared.
        if self._lock.acquire(blocking=False):
            try:
                if (
                    self._vouched is not None
                    and self._layers.settled
                    and self._layers.applied is ticket.snapshot
                    and not self._reading.failing
                ):
                    self._tickets.share(ticket, self._page.view, self._vouched, looked_at)
            finally:
                self._lock.release()

    def override(self, layer: Mapping[str, Any], *, on: bool) -> None:
        """Serve other values over those of the store, or no longer."""
        with self._lock:
            self._layers.override(layer, on=on)
            self._tickets.revoke()
            self.served = self._layers.newest
            changes = self._layers.apply()
        self._changed(changes)

    # Reading

    def catch_up(
        self,
        *,
        may_apply: Callable[[], bool],
        may_read: Callable[[], bool] = always,
        force: bool = False,
        complete: bool = False,
        change: PageChange | None = None,
        committed: Committed | None = None,
        receive: list[Change] | None = None,
        wait_s: float | None = None,
    ) -> StoreError | None:
        """Read what is newer, apply it if that is allowed now, and return what failed.

        Blocks for another thread's refresh, and for the store's own bound.

        :param may_apply: asked, under the lock, whether ``app.config`` may change now; else the
            next request that starts changes it.
        :param may_read: asked, likewise, whether this thread is to read if something calls for it.
        :param force: read in any case.
        :param complete: read every row again, not only those that are newer.
        :param change: the own change that this is a part of.
        :param committed: what that has committed; it is read back only if anything else happened
            since the last read.
        :param receive: takes the changes for the app's receivers, which else are called here.
        :param wait_s: longest time to wait for another thread's refresh, if not the usual one.
        """
        begun = self._reading.begun
        if not self._lock.acquire(timeout=self._wait_s if wait_s is None else wait_s):
            error = StoreUnavailable(f"another thread's refresh takes over {self._wait_s} s")
            self._reading.blocked(error, failing=self._lock.locked())
            self._slot.show()
            return error
        changes: list[Change] = []
        failure: StoreError | None = None
        self.reader = threading.get_ident()
        try:
            # A read that began after this call saw all that this one would see.
            shared = self._reading.done > begun
            if force or (not shared and may_read() and self._must_read()):
                failure = self._read(complete, change, committed)
            if not self._layers.settled and may_apply():
                changes = self._layers.apply()
        finally:
            self.reader = None
            self._lock.release()
        if receive is None:
            self._changed(changes)
        else:
            receive += changes
        try:
            return failure
        finally:
            # See raise_unheld().
            del failure

    def _must_read(self) -> bool:
        return self._reading.may_try(self._page.identity) and self.is_due(0.0)

    def _read(
        self, complete: bool, change: PageChange | None, committed: Committed | None
    ) -> StoreError | None:
        """Read, take and mark; the one sequence in which the orders of the protocol show."""
        page, layers, reading = self._page, self._layers, self._reading
        covers = change is not None and change.covers
        own: tuple[bytes, Delta] | None = None
        if (
            change
            and covers
            and committed
            and not complete
            and reading.lacks_only(committed, layers.base)
        ):
            own = change.words, committed.delta
        for attempt in range(1, _READS + 1):
            look: Look | None = None
            if own is not None:
                # 1. and 2. at its commit, before which the page was opened. The watch file and
                # notices stay unseen.
                (words, delta), own = own, None
            else:
                # 1. What is to notice comes before the rows: what is announced later differs again.
                words = page.words()
                look = reading.look()
                # 2. The rows.
                try:
                    delta = reading.read(layers.base, look, complete=complete)
                except StoreError as exc:
                    self._fall_back(exc)
                    return exc
            # 3. Unsettled before it is seen: a request that starts now must wait for the rest.
            if layers.take(delta):
                self._tickets.revoke()
            # 4. Marked before it is served; if others have marked meanwhile, read again.
            base = layers.base
            identity = identity_of(base)
            # A store that was never made has nothing to mark.
            if base.epoch and page.identity != identity:
                if page.words() != words and attempt < _READS:
                    continue
                seq = page.mark(
                    identity,
                    base.revision,
                    epoch=word_of(base.epoch) if self._store.keeps_replaced else "",
                    within_change=covers,
                )
                self._marked = words[:16] + seq if seq and not is_open(words) else None
            break
        # 5. Seen and served.
        if look is not None:
            reading.succeeded(look)
        if is_open(words):
            if not covers:
                page.close_if_unused()
            self._vouched = None
        else:
            self._vouched = words
        self.served = layers.newest
        self._show_page()
        self._slot.show()
        return None

    def _fall_back(self, error: StoreError) -> None:
        """Serve the last known values, if the store was never read by this process."""
        layers = self._layers
        known = self._reading.last_known(layers.base, self._page.identity)
        if known is not None:
            layers.take(known.delta)
            self.served = layers.newest
        self._reading.failed(error, self._page.identity, layers.base.revision)
        self._slot.show()

    def _show_page(self) -> None:
        if self._page.problem:
            self._health.failed(PAGE, self._page.problem, harmless=True)
        else:
            self._health.works(PAGE)
