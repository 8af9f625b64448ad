"""The settings of one process, current for its requests, its other code and its watcher."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import NotifierError, raise_unheld
from ..masking import redact
from ..notifiers.base import MAX_ASKS, Notice, Notifier
from ..notifiers.file import FileNotifier
from ..settings.declarations import Declarations
from ..snapshot import Change, Snapshot, mask_secrets
from ..stores.base import Store
from .announcer import Announcer
from .changes import Changes
from .claims import Claims
from .health import Health
from .kept_slot import KeptSlot
from .layers import Layers
from .page import Page, identity_of
from .reading import STORE, LastKnown, Reading
from .refresher import Refresher, always
from .slots import Slots
from .tickets import Ticket, Tickets
from .token import Reached, Token

#: Seconds between two reads of the store that only a notice asks for, from the second on.
NOTICE_PAUSE_S = 0.05
# How long a watcher may be silent, in polls and at least, until requests do without it.
_SILENT_POLLS = 3
_SILENT_S = 1.0
_ASK_AGAIN_S = 10.0


def nothing_known() -> LastKnown | None:
    """Return nothing: no earlier process has left any values."""
    return None


class Manager:
    """Keeps the settings of one process current.

    Belongs to one process: it is made after the fork. Every method may be called by any thread.

    :ivar tickets: of the requests of this process.
    :ivar changes: makes those of this process.
    :ivar reading: when and how the store is read.
    :ivar page: what the processes of this host know of each other's changes.
    :ivar slot: by which this process shows them what it serves.

    :param snapshot: served until the store was read.
    :param source: where it comes from; see ``Status.source``.
    :param apply: called with the values that changed, to put them into ``app.config``.
    :param changed: called with the changes, after they were applied and announced, without any
        lock held.
    :param remote: announces to other hosts what the store does not announce itself, or ``None``.
    :param last_known: asked once, if the first read of the store fails.
    :param make_folder: makes the folder of page and watch file, where that is this app's to do.
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
        source: str = "defaults",
        apply: Callable[[Mapping[str, Any]], None],
        changed: Callable[[list[Change]], None],
        remote: Notifier | None = None,
        last_known: Callable[[], LastKnown | None] = nothing_known,
        make_folder: Callable[[], None] = lambda: None,
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
        self._asks: list[str] = []
        # When the watcher last turned.
        self._turned_at = float("-inf")
        self._declarations = declarations
        self._make_folder = make_folder
        self._wait_s = wait_s
        self._resync_interval_s = resync_interval_s
        self._silent_s = max(_SILENT_S, _SILENT_POLLS * poll_interval_s) + wait_s
        self._clock = clock
        self._remote = remote
        notifiers = [watch_file] if remote is None else [watch_file, remote]
        self._announcer = Announcer(notifiers, self.health, clock=clock)
        self._layers = Layers(declarations, snapshot, apply, claims)
        self.reading = Reading(
            store,
            watch_file,
            self.health,
            source=source,
            may_make=page.may_make,
            host_epoch=lambda: page.epoch,
            last_known=last_known,
            resync_interval_s=resync_interval_s,
            clock=clock,
        )
        self.slot = KeptSlot(self.slots, page, self.reading, self.health, lambda: self._layers.base)
        self._refresher = Refresher(
            store,
            page,
            self._layers,
            self.reading,
            self.tickets,
            self.slot,
            self.health,
            changed=changed,
            wait_s=wait_s,
        )
        self.changes = Changes(
            store,
            page,
            self._layers,
            self.reading,
            self._refresher,
            self._announcer,
            make=self.make,
            changed=changed,
            remote=remote,
        )
        self._notice_at = float("-inf")
        self._ask_again_at = float("inf")
        self._reached = Reached()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot of this process that may be shown to anybody."""
        return self._refresher.served

    @property
    def applied(self) -> Snapshot:
        """The snapshot in ``app.config``; takes no lock, so that a child may ask its parent's."""
        return self._layers.applied

    @property
    def source_after_fork(self) -> str:
        """The ``Status.source`` of a child of this process, until the child reads the store."""
        return "master" if self.reading.source == STORE else self.reading.source

    @property
    def watched(self) -> bool:
        """Whether a watcher turns in this process; one that hangs does not."""
        return self._clock() - self._turned_at < self._silent_s

    def watch(self, *, on: bool, ear: bool = False) -> None:
        """Note that the watcher turns, or that it turns no more.

        :param ear: it hears for all of this host what other hosts announce.
        """
        self._turned_at = self._clock() if on else float("-inf")
        self.slot.hear(ear=ear)

    def is_current(self) -> bool:
        """Return whether this host serves what this process does, as far as the page shows."""
        return bool(self.page.problem) or self.page.identity == identity_of(self._layers.base)

    @property
    def identity(self) -> bytes:
        """The identity of what this process serves, as on a page."""
        return identity_of(self._refresher.served)

    def known_epochs(self) -> frozenset[str]:
        """Return which epochs of the store this host knows, by their words."""
        return self.reading.known_epochs(self._layers.base)

    def mask(self, text: str) -> str:
        """Return a text in which no current value of a secret setting is shown."""
        return mask_secrets(text, self._refresher.served, self._declarations)

    @property
    def may_make(self) -> bool:
        """Whether this process makes what is missing; see :meth:`make`."""
        return self.page.may_make

    def make(self) -> None:
        """Make what is missing from now on: page, watch file, and a store that no host knows.

        For a process that serves or changes settings, and was made as one that only reads.

        :raises ConfigurationError: the instance folder can't be made.
        """
        if not self.may_make:
            self._make_folder()
            self.page.may_make = self.reading.may_make = True
            self.reading.ask()

    # Slot

    def serve_as(self, app: str, worker_id: int) -> None:
        """Take a slot, because this process serves requests or has a watcher.

        To be called before the first of them. Waits for nobody.
        """
        if not self.slot.serves and self.may_make:
            self.slot.serve_as(app, worker_id)
            # One that code outside of requests left behind.
            self.tickets.revoke()

    def read_after(self, introduce: Callable[[], None]) -> None:
        """Have a function called before the store is read, which is due from now on.

        :param introduce: called by the thread that reads, until it is taken away; raises nothing.
        """
        self.reading.introduce = introduce
        self.reading.ask()
        # What was read before must not be shared.
        self.tickets.revoke()

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
                self._ask_again_at = self._clock() + _ASK_AGAIN_S
            else:
                self.health.works(f"asking by {self._remote.name}")
                self._ask_again_at = float("inf")

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
        self._look(self.between_requests if nested else always)
        environ[key].snapshot = self._refresher.served if nested else self._layers.applied
        self._refresher.share(environ[key], looked_at)

    def current(self) -> Snapshot:
        """Return the newest settings for code outside of requests, refreshed if need be.

        Applies them to ``app.config`` if no request runs. Blocks as :meth:`admit` does.
        """
        if self._refresher.reader != threading.get_ident() and not self.tickets.holds():
            looked_at = time.monotonic()
            self._look(self.between_requests)
            ticket = self.tickets.issue()
            ticket.snapshot = self._layers.applied
            self._refresher.share(ticket, looked_at)
        return self._refresher.served

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
        if pause_s is None or pause_s <= 0 or self._refresher.others_have_news():
            self.page.follow_path()
            if self._must_follow() or not self._layers.settled:
                if self.reading.is_asked:
                    self._notice_at = self._clock()
                    pause_s = NOTICE_PAUSE_S
                self._refresher.catch_up(
                    may_read=self._must_follow, may_apply=self.between_requests
                )
        base = self._layers.base
        self._announcer.retry(base.revision, base.epoch, base.mark)
        if self._clock() >= self._ask_again_at:
            # Who asked may not ask again, and a failure that has ended would be shown on. To ask
            # nothing is to announce what is known.
            self.ask_hosts("")
        self.slot.keep(self.oldest_held)
        return pause_s if self.reading.is_asked else None

    def refresh(self, *, complete: bool = False, may_apply: Callable[[], bool] = always) -> None:
        """Read the store now, whatever the notices say, and apply what is new.

        :param complete: read every row again, not only those that are newer.
        :param may_apply: see :meth:`.Changes.commit`.
        :raises StoreError: the store can't be read; what is served stays.
        """
        self.page.follow_path()
        raise_unheld(self._refresher.catch_up(force=True, complete=complete, may_apply=may_apply))

    def require(self, token: Token, *, may_apply: Callable[[], bool] = always) -> bool:
        """Read the store unless a token was reached; return whether it is reached now.

        Shares a read of another thread that begins after this call. Keeps to the back-off while
        the store fails, so that no request waits for it again. Blocks for at most ``wait_s`` and
        the store's own bound.

        :param may_apply: see :meth:`.Changes.commit`.
        """
        if token in self._reached or token.is_of(self._layers.base):
            return True
        self.page.follow_path()
        self.reading.ask()
        is_read = self._refresher.catch_up(may_read=self._may_read, may_apply=may_apply) is None
        if not is_read or self.reading.failing:
            return False
        self._reached.add(token)
        return True

    @contextlib.contextmanager
    def override(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Serve other values in this process while the context lasts; the store is not touched."""
        layer = dict(values)
        self._refresher.override(layer, on=True)
        try:
            yield
        finally:
            self._refresher.override(layer, on=False)

    # Looking

    def _look(self, may_apply: Callable[[], bool]) -> None:
        self.page.follow_path()
        # A live watcher resyncs, so that no request pays for it; if it hangs, requests take over.
        grace_s = self._resync_interval_s if self.watched else 0.0
        # The page and the watch file first: a reader marks them as seen only after
        # unsettling.
        if self._refresher.is_due(grace_s) or not self._layers.settled:
            self._refresher.catch_up(
                may_read=self._may_read,
                may_apply=may_apply,
                wait_s=0.0 if self.reading.failing else self._wait_s,
            )

    def _must_follow(self) -> bool:
        """Return whether the watcher is to read.

        Not for the own mark, which only the next request can't tell from another's: all hosts
        would read each change twice. A process that marked meanwhile, and whose mark this one has
        overwritten, finds that by itself, and marks again.
        """
        return self._refresher.others_have_news() or self.reading.is_due(0.0)

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
