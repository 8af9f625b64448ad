"""The settings of one process: read when there is news, changed, applied, and announced."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import (
    NotifierError,
    OutcomeUnknown,
    RevisionConflict,
    StoreError,
    StoreLost,
    StoreMissing,
    StoreUnavailable,
)
from ..masking import redact
from ..notifiers.base import MAX_ASKS, Notice, Notifier
from ..notifiers.file import FileNotifier
from ..settings.declarations import Declarations
from ..snapshot import Change, Snapshot, mask_secrets
from ..stores.base import Dump, Store
from ..stores.epochs import word_of
from .announcer import Announcer
from .claims import Claims
from .health import Health
from .layers import Layers
from .page import Page, PageChange, identity_of, is_open
from .reading import LastKnown, Reading
from .slots import Slot, Slots
from .tickets import Ticket, Tickets
from .token import Reached, Token

PAGE = "page"
#: the part that fails when this process has no slot
SLOT = "slot"
#: Seconds between two reads of the store that only a notice asks for, from the second on.
NOTICE_PAUSE_S = 0.05
# How often a read is begun again because the page changed while it was under way.
_READS = 3
# How long a watcher may be silent, in polls and at least, until requests do without it.
_SILENT_POLLS = 3
_SILENT_S = 1.0


def nothing_known() -> LastKnown | None:
    """Return nothing: no earlier process has left any values."""
    return None


def _always() -> bool:
    return True


class Manager:
    """Keeps the settings of one process current.

    Belongs to one process: it is made after the fork. Every method may be called by any thread.

    :ivar tickets: of the requests of this process.
    :ivar page: what the processes of this host know of each other's changes.

    :param snapshot: served until the store was read.
    :param apply: called with the values that changed, to put them into ``app.config``.
    :param changed: called with the changes, after they were applied and announced, without any
        lock held.
    :param remote: announces to other hosts what the store does not announce itself, or ``None``.
    :param last_known: asked once, if the first read of the store fails.
    :param wait_s: longest time that a request waits for another thread's refresh.
    :param resync_interval_s: the store is read at least this often, notice or not.
    :param poll_interval_s: how often a watcher turns at least.
    """

    def __init__(
        self,
        declarations: Declarations,
        store: Store,
        watch_file: FileNotifier,
        page: Page,
        *,
        snapshot: Snapshot,
        apply: Callable[[Mapping[str, Any]], None],
        changed: Callable[[list[Change]], None],
        remote: Notifier | None = None,
        last_known: Callable[[], LastKnown | None] = nothing_known,
        wait_s: float = 1.0,
        resync_interval_s: float = 10.0,
        poll_interval_s: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        claims = Claims(page.path.with_name(f"{page.path.name}.said"))
        self.health = Health(lambda text: self.mask(redact(text)), claims=claims)
        self.tickets = Tickets()
        self.page = page
        self.slots = Slots(page.path)
        self._slot: Slot | None = None
        self._serves_as: tuple[str, int] | None = None
        self._asks: list[str] = []
        # When the watcher last turned.
        self._turned_at = float("-inf")
        self._declarations = declarations
        self._store = store
        self._changed = changed
        self._wait_s = wait_s
        self._resync_interval_s = resync_interval_s
        self._silent_s = max(_SILENT_S, _SILENT_POLLS * poll_interval_s) + wait_s
        self._clock = clock
        self._remote = remote
        notifiers = [watch_file] if remote is None else [watch_file, remote]
        self._announcer = Announcer(notifiers, self.health, clock=clock)
        self._lock = threading.Lock()
        # The thread that reads just now: its store may ask for the app's context.
        self._reader: int | None = None
        self._layers = Layers(declarations, snapshot, apply, claims)
        self.reading = Reading(
            store,
            watch_file,
            self.health,
            source="defaults" if not snapshot.epoch else "master",
            may_make=page.may_make,
            host_epoch=lambda: page.epoch,
            last_known=last_known,
            resync_interval_s=resync_interval_s,
            clock=clock,
        )
        # The page's words from before the read that the base comes from; never those of an open
        # page, nor a ``seq`` that was written after that read.
        self._vouched: bytes | None = None
        # What may leave this process: it is on the page.
        self._served = snapshot
        self._notice_at = float("-inf")
        self._reached = Reached()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot of this process that may be shown to anybody."""
        return self._served

    @property
    def applied_revision(self) -> int:
        """The revision that ``app.config`` is at."""
        return self._layers.applied.revision

    @property
    def watched(self) -> bool:
        """Whether a watcher turns in this process; one that hangs does not."""
        return self._clock() - self._turned_at < self._silent_s

    def watch(self, *, on: bool) -> None:
        """Note that the watcher turns, or that it turns no more."""
        self._turned_at = self._clock() if on else float("-inf")

    def is_current(self) -> bool:
        """Return whether this host serves what this process does, as far as the page shows."""
        base = self._layers.base
        return bool(self.page.problem) or self.page.identity == identity_of(
            base.epoch, base.revision, base.mark
        )

    @property
    def identity(self) -> bytes:
        """The identity of what this process serves, as on a page."""
        served = self._served
        return identity_of(served.epoch, served.revision, served.mark)

    def known_epochs(self) -> frozenset[str]:
        """Return which epochs of the store this host knows, by their words."""
        return self.reading.known_epochs(self._layers.base)

    def mask(self, text: str) -> str:
        """Return a text in which no current value of a secret setting is shown."""
        return mask_secrets(text, self._served, self._declarations)

    @property
    def may_make(self) -> bool:
        """Whether this process makes what is missing; see :meth:`make`."""
        return self.page.may_make

    def make(self) -> None:
        """Make what is missing from now on: page, watch file, and a store that no host knows.

        For a process that serves or changes settings, and was made as one that only reads.
        """
        if not self.may_make:
            self.page.may_make = self.reading.may_make = True
            self.reading.ask()

    # Slot

    def serve_as(self, app: str, worker_id: int) -> None:
        """Take a slot, because this process serves requests or has a watcher.

        To be called before the first of them. Waits for nobody.
        """
        if self._serves_as is None and self.may_make:
            self._serves_as = app, worker_id
            self._take_slot()
            # One that code outside of requests left behind.
            self.tickets.revoke()

    @property
    def serves(self) -> bool:
        """Whether this process has, or should have, a slot."""
        return self._serves_as is not None

    @property
    def slot_number(self) -> int | None:
        """The place of this process among the slots, if it has one."""
        slot = self._slot
        return None if slot is None else slot.number

    def leave_slot(self) -> None:
        """Give the slot back; for a process that ends."""
        self._serves_as = self._slot = None

    def oldest_held(self, *, but: Ticket | None = None) -> int:
        """Return the oldest revision that a running request of this process holds."""
        return self.tickets.oldest(but=but, newest=self._layers.base.revision)

    def take_asks(self) -> list[str]:
        """Return what other hosts have asked since the last call."""
        asks, self._asks = self._asks, []
        return asks

    def ask_hosts(self, ask: str) -> None:
        """Ask every other host, by the channel, to say what it serves; a failure is shown only.

        :param ask: a random text, which the answers name.
        """
        base = self._layers.base
        if self._remote is not None:
            try:
                self._remote.ask(ask, base.revision, base.epoch, base.mark)
            except NotifierError as exc:
                self.health.failed(f"asking by {self._remote.name}", exc, harmless=True)
            else:
                self.health.works(f"asking by {self._remote.name}")

    def _take_slot(self) -> None:
        assert self._serves_as is not None
        try:
            self._slot = self.slots.take(*self._serves_as)
        except OSError as exc:
            self._slot_failed(exc)
        else:
            self.health.works(SLOT)
            self._show_slot()

    def _show_slot(self) -> None:
        slot, base = self._slot, self._layers.base
        if slot is None:
            return
        try:
            slot.show(
                failing=self.reading.failing,
                uses_page=not self.page.problem,
                identity=identity_of(base.epoch, base.revision, base.mark),
                revision=base.revision,
            )
        except OSError as exc:
            self._slot_failed(exc)

    def _keep_slot(self) -> None:
        """Take another slot if the file was replaced, and answer what is asked; by the watcher."""
        if self._serves_as is None:
            return
        slot = self._slot
        if slot is None or not slot.is_there:
            self._take_slot()
            slot = self._slot
        asked = self.page.asked
        if slot is not None and any(asked) and asked != slot.answered:
            try:
                slot.answer(asked, self.oldest_held())
            except OSError as exc:
                self._slot_failed(exc)

    def _slot_failed(self, exc: OSError) -> None:
        text = (
            f"{self.slots.path} can't be used ({exc.strerror or exc}): make it and its folder "
            "writable for every worker, so that wait() knows this process"
        )
        self.health.failed(SLOT, text, harmless=True)

    # Serving

    def admit(self, environ: dict[str, Any], key: str, *, nested: bool = False) -> None:
        """Give a request that starts now its ticket, with settings refreshed if need be.

        Runs in the request's thread. Costs two ``lstat`` when nothing changed. Blocks for at
        most ``wait_s`` for another thread's refresh and once for the store's own bound; while
        the store fails, a worker with a live watcher leaves it to the watcher to try again.

        :param environ: what holds the ticket for as long as the request runs, and no frame of
            ours, because an error of the store that somebody keeps would hold that, too.
        :param key: under which it lies there.
        :param nested: another request of this thread runs, under which ``app.config`` must stay.
        """
        # Before the look at the settings: from here on the watcher leaves app.config alone.
        environ[key] = self.tickets.issue()
        looked_at = time.monotonic()
        self._look(self.between_requests if nested else _always)
        environ[key].snapshot = self._served if nested else self._layers.applied
        self._share(environ[key], looked_at)

    def current(self) -> Snapshot:
        """Return the newest settings for code outside of requests, refreshed if need be.

        Applies them to ``app.config`` if no request runs. Blocks as :meth:`admit` does.
        """
        if self._reader != threading.get_ident() and not self.tickets.holds():
            looked_at = time.monotonic()
            self._look(self.between_requests)
            ticket = self.tickets.issue()
            ticket.snapshot = self._layers.applied
            self._share(ticket, looked_at)
        return self._served

    def between_requests(self) -> bool:
        """Return whether no request of this process runs; asked under the lock."""
        self.tickets.revoke()
        return self.tickets.unused

    def follow(self, notice: Notice | None) -> float | None:
        """Refresh if a notice, the page, the watch file or the resync interval calls for it.

        Runs in the watcher thread. Applies what it read only between requests; else the next
        request that starts does.

        :return: seconds after which it is to be called again, notice or not; ``None`` if that
            does not matter.
        """
        pause_s = None
        if notice is not None:
            if self._is_news(notice):
                self.reading.ask()
            self._asks = [*self._asks, *notice.asks][-MAX_ASKS:]
        if self.reading.is_asked:
            pause_s = self._notice_at + NOTICE_PAUSE_S - self._clock()
        if pause_s is None or pause_s <= 0 or self._page_has_news():
            self.page.follow_path()
            if self._is_due(0.0) or not self._layers.settled:
                if self.reading.is_asked:
                    self._notice_at = self._clock()
                    pause_s = NOTICE_PAUSE_S
                self._catch_up(may_apply=self.between_requests)
        base = self._layers.base
        self._announcer.retry(base.revision, base.epoch, base.mark)
        self._keep_slot()
        return pause_s if self.reading.is_asked else None

    def refresh(self, *, complete: bool = False, may_apply: Callable[[], bool] = _always) -> None:
        """Read the store now, whatever the notices say, and apply what is new.

        :param complete: read every row again, not only those that are newer.
        :param may_apply: see :meth:`commit`.
        :raises StoreError: the store can't be read; what is served stays.
        """
        self.page.follow_path()
        error = self._catch_up(force=True, complete=complete, may_apply=may_apply)
        if error is not None:
            raise error

    def require(self, token: Token, *, may_apply: Callable[[], bool] = _always) -> bool:
        """Read the store unless a token was reached; return whether it is reached now.

        Shares a read of another thread that begins after this call. Keeps to the back-off while
        the store fails, so that no request waits for it again. Blocks for at most ``wait_s`` and
        the store's own bound.

        :param may_apply: see :meth:`commit`.
        """
        if token in self._reached or token.is_of(self._layers.base):
            return True
        self.page.follow_path()
        self.reading.ask()
        error = self._catch_up(may_read=self._may_read, may_apply=may_apply)
        if error is not None or self.reading.failing:
            return False
        self._reached.add(token)
        return True

    # Changing

    def commit(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None,
        reason: str | None,
        expected_revision: int | None,
        may_apply: Callable[[], bool] = _always,
    ) -> int:
        """Commit a change, apply it here, and announce it; return its revision.

        When it returns, every process of this host serves the change. Waits for nothing
        but the store's transaction and the announcement.

        :param raws: mapping of setting name to raw text that was checked already, or ``None``.
        :param may_apply: asked whether ``app.config`` may change now; else the next request that
            starts changes it.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store failed; nothing was written.
        """

        def write(**more: Any) -> int:
            return self._store.write(
                raws, author=author, reason=reason, expected_revision=expected_revision, **more
            )

        self._know_store(may_apply)
        return self._change(write, may_apply)

    def replace(
        self,
        dump: Dump,
        *,
        expected_revision: int | None,
        may_apply: Callable[[], bool] = _always,
    ) -> None:
        """Replace all that the store keeps, apply it here, and announce it.

        :param may_apply: see :meth:`commit`.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store refuses, or can't do this.
        """

        def load(**more: Any) -> int:
            self._store.load(dump, expected_revision=expected_revision, **more)
            return 0  # below the own revision in any case: read everything again

        self._know_store(may_apply)
        self._change(load, may_apply)

    def recreate(self, dump: Dump | None, epochs: Iterable[str], *, revision: int | None) -> None:
        """Have the store stand in for those that are gone; make it if there is none.

        Each process that knows one of those takes the store over, on this host at once.

        :param dump: put into the store before; ``None`` leaves what it holds.
        :param epochs: by their words.
        :param revision: the one that the store is expected at; ``None`` if there is none.
        :raises RevisionConflict: it is at another; nothing was written.
        :raises OutcomeUnknown: the connection broke within a commit.
        :raises StoreError: the store refuses, or can't do this.
        """

        def stand_in(**more: Any) -> int:
            # A new epoch, which no process that knows another one takes: not before it is full.
            self._store.prepare()
            if dump is not None:
                self._store.load(dump, expected_revision=revision, **more)
            self._store.stand_in(epochs, **more)
            return 0

        self.make()
        self._change(stand_in, _always)

    def _know_store(self, may_apply: Callable[[], bool]) -> None:
        """Make a store that is to be changed if none is known, and refuse one that is not known.

        :raises StoreLost: the store that this host knows is gone, or another is in its place.
        :raises StoreMissing: there is none, and none can be made.
        """
        self.make()
        if self._store.keeps_replaced and (self.reading.lost or not self._layers.base.epoch):
            error = self._catch_up(force=True, may_apply=may_apply)
            if isinstance(error, StoreLost | StoreMissing):
                raise error

    def _change(self, write: Callable[..., int], may_apply: Callable[[], bool]) -> int:
        changes: list[Change] = []
        try:
            with self.page.change() as change:
                try:
                    revision = self._written(write, change)
                except BaseException as exc:
                    # It may have been committed; and a conflict names a revision that this
                    # host may not have seen.
                    if change.opened or isinstance(exc, RevisionConflict):
                        self._catch_up(
                            force=True, may_apply=may_apply, change=change, receive=changes
                        )
                    raise
                # From here on the change stands: what fails is reported and healed by a
                # resync. A revision that is not above the own one came back.
                error = self._catch_up(
                    force=True,
                    complete=revision <= self._layers.base.revision,
                    may_apply=may_apply,
                    change=change,
                    receive=changes,
                )
                if isinstance(error, StoreLost):
                    raise OutcomeUnknown(f"the change was written where nobody reads it: {error}")
                base = self._layers.base
                self._announcer.announce(
                    max(revision, base.revision),
                    base.epoch,
                    base.mark,
                    done_by=self._remote if self._store.announces else None,
                )
        finally:
            self._changed(changes)
        return revision

    def _written(self, write: Callable[..., int], change: PageChange) -> int:
        if self._store.calls_before_commit:
            return write(before_commit=change.open)
        change.open()
        return write()

    @contextlib.contextmanager
    def override(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Serve other values in this process while the context lasts; the store is not touched."""
        layer = dict(values)
        self._set_override(layer, on=True)
        try:
            yield
        finally:
            self._set_override(layer, on=False)

    def _set_override(self, layer: Mapping[str, Any], *, on: bool) -> None:
        with self._lock:
            self._layers.override(layer, on=on)
            self.tickets.revoke()
            self._served = self._layers.newest
            changes = self._layers.apply()
        self._changed(changes)

    # Looking and reading

    def _look(self, may_apply: Callable[[], bool]) -> None:
        self.page.follow_path()
        # A live watcher resyncs, so that no request pays for it; if it hangs, requests take over.
        grace_s = self._resync_interval_s if self.watched else 0.0
        # The page and the watch file first: a reader marks them as seen only after
        # unsettling.
        if self._is_due(grace_s) or not self._layers.settled:
            self._catch_up(
                may_read=self._may_read,
                may_apply=may_apply,
                wait_s=0.0 if self.reading.failing else self._wait_s,
            )

    def _share(self, ticket: Ticket, looked_at: float) -> None:
        # Under the lock, because a ticket that is older than app.config must not be shared.
        if self._lock.acquire(blocking=False):
            try:
                if (
                    self._vouched is not None
                    and self._layers.settled
                    and self._layers.applied is ticket.snapshot
                    and not self.reading.failing
                ):
                    self.tickets.share(ticket, self.page.view, self._vouched, looked_at)
            finally:
                self._lock.release()

    def _is_due(self, grace_s: float) -> bool:
        return self._page_has_news() or self.reading.is_due(grace_s)

    def _page_has_news(self) -> bool:
        return self.page.words() != self._vouched

    def _is_news(self, notice: Notice) -> bool:
        base = self._layers.base
        return (
            notice.revision != base.revision
            or bool(notice.epoch and notice.epoch != base.epoch)
            or bool(notice.mark and notice.mark != base.mark)
        )

    def _may_read(self) -> bool:
        # While the store fails, the watcher alone tries, unless another process has got through to
        # it since.
        return not (self.reading.failing and self.watched) or self.reading.is_refuted(
            self.page.identity
        )

    def _catch_up(
        self,
        *,
        may_apply: Callable[[], bool],
        may_read: Callable[[], bool] = _always,
        force: bool = False,
        complete: bool = False,
        change: PageChange | None = None,
        receive: list[Change] | None = None,
        wait_s: float | None = None,
    ) -> StoreError | None:
        """Read what is newer, apply it if that is allowed now, and return what failed.

        :param change: the own change that this is a part of.
        :param receive: takes the changes for the app's receivers, which else are called here.
        """
        begun = self.reading.begun
        if not self._lock.acquire(timeout=self._wait_s if wait_s is None else wait_s):
            error = StoreUnavailable(f"another thread's refresh takes over {self._wait_s} s")
            self.reading.blocked(error, failing=self._lock.locked())
            self._show_slot()
            return error
        changes: list[Change] = []
        failure: StoreError | None = None
        self._reader = threading.get_ident()
        try:
            # A read that began after this call saw all that this one would see.
            shared = self.reading.done > begun
            if force or (not shared and may_read() and self._must_read()):
                failure = self._read(complete, change)
            if not self._layers.settled and may_apply():
                changes = self._layers.apply()
        finally:
            self._reader = None
            self._lock.release()
        if receive is None:
            self._changed(changes)
        else:
            receive += changes
        return failure

    def _must_read(self) -> bool:
        return self.reading.may_try(self.page.identity) and self._is_due(0.0)

    def _read(self, complete: bool, change: PageChange | None) -> StoreError | None:
        """Read, take and mark; the one sequence in which the orders of the protocol show."""
        page, layers, reading = self.page, self._layers, self.reading
        for attempt in range(1, _READS + 1):
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
                self.tickets.revoke()
            # 4. Marked before it is served; if others have marked meanwhile, read again.
            base = layers.base
            identity = identity_of(base.epoch, base.revision, base.mark)
            # A store that was never made has nothing to mark.
            if base.epoch and page.identity != identity:
                if page.words() != words and attempt < _READS:
                    continue
                page.mark(
                    identity,
                    base.revision,
                    epoch=word_of(base.epoch) if self._store.keeps_replaced else "",
                    within_change=bool(change and change.covers),
                )
            break
        # 5. Seen and served.
        reading.succeeded(look)
        if is_open(words):
            page.close_if_unused()
            self._vouched = None
        else:
            self._vouched = words
        self._served = layers.newest
        self._show_page()
        self._show_slot()
        return None

    def _fall_back(self, error: StoreError) -> None:
        """Serve the last known values, if the store was never read by this process."""
        layers = self._layers
        known = self.reading.last_known(layers.base)
        if known is not None:
            layers.take(known.delta)
            self.tickets.revoke()
            self._served = layers.newest
        self.reading.failed(error, self.page.identity, layers.base.revision)
        self._show_slot()

    def _show_page(self) -> None:
        if self.page.problem:
            self.health.failed(PAGE, self.page.problem, harmless=True)
        else:
            self.health.works(PAGE)
