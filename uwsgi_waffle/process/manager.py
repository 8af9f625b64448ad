"""The snapshot of one process: how it is refreshed, changed and applied."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..backoff import Backoff
from ..errors import NotifierError, StoreError, StoreUnavailable
from ..notifiers.base import Notice, Notifier
from ..notifiers.file import FileNotifier, Signature
from ..settings.declarations import Declarations
from ..snapshot import Change, Delta, Row, Snapshot, advance, diff, mask_secrets, overlay
from ..stores.base import Dump, Store
from .announcer import Announcer
from .health import Health
from .lease import Lease, Ticket, outlast

logger = logging.getLogger("uwsgi_waffle")

STORE = "store"
_NEVER: Signature = (-1, -1, -1)


class LastKnown(NamedTuple):
    """Values that an earlier process read and kept on the disk.

    :ivar delta: complete, but for what was not to be kept.
    :ivar place: where they were kept.
    """

    delta: Delta
    place: str


def _nothing_known() -> LastKnown | None:
    return None


def _always() -> bool:
    return True


def _never(names: Iterable[str]) -> bool:
    return False


class Manager:
    """Keeps the settings of one process current.

    Belongs to one process: it is made after the fork. Every method may be called by any thread.

    Two snapshots matter: the *newest* that was read, and the one *applied* to ``app.config``. They
    differ only while a request runs that must not see its settings change. A third, *verified*,
    lags behind the newest while that rests on rows that a notice carried.

    :ivar lease: of the requests of this process.
    :ivar refreshes: how often the store was read with success.
    :ivar failures: how often it could not be read.
    :ivar source: where the settings come from: ``store``, ``defaults``, ``master`` (read before
        the fork), or the path of the file of last known values.

    :param snapshot: served until the store was read.
    :param apply: called with the values that changed, to put them into ``app.config``.
    :param changed: called with the changes, after they were applied and without any lock held.
    :param remote: announces to other hosts, or ``None``.
    :param may_carry: tells whether a notice may carry the values of some settings.
    :param last_known: asked once, if the first read of the store fails.
    :param wait_s: longest time that a request waits for another thread's refresh.
    :param resync_interval_s: the store is read at least this often, notice or not.
    """

    def __init__(
        self,
        declarations: Declarations,
        store: Store,
        watch_file: FileNotifier,
        *,
        snapshot: Snapshot,
        apply: Callable[[Mapping[str, Any]], None],
        changed: Callable[[list[Change]], None],
        remote: Notifier | None = None,
        last_known: Callable[[], LastKnown | None] = _nothing_known,
        may_carry: Callable[[Iterable[str]], bool] = _never,
        wait_s: float = 1.0,
        resync_interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.health = Health()
        self.lease = Lease()
        self.watched = False
        self.refreshes = 0
        self.failures = 0
        self.source = "defaults" if not snapshot.epoch else "master"
        self._last_known: Callable[[], LastKnown | None] | None = last_known
        self._stopgap = ""
        self._declarations = declarations
        self._store = store
        self._watch_file = watch_file
        self._apply_values = apply
        self._changed = changed
        self._may_carry = may_carry
        self._wait_s = wait_s
        self._resync_interval_s = resync_interval_s
        self._clock = clock
        notifiers = [watch_file] if remote is None else [watch_file, remote]
        self._announcer = Announcer(notifiers, self.health, clock=clock)
        self._lock = threading.Lock()
        self._base = snapshot
        self._verified = snapshot
        self._newest = snapshot
        self._applied = snapshot
        self._overrides: list[Mapping[str, Any]] = []
        # The next three may be read without the lock by a request that starts.
        self._settled = True
        self._seen: Signature | None = _NEVER
        self._resync_at = 0.0
        self._touch: int | None = None
        self._touched: set[str] = set()
        self._believed: set[str] = set()
        self._prepared = False
        self._complete = False
        self._checked_at: float | None = None
        self._failing = False
        self._retry_at = 0.0
        self._backoff = Backoff()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot of this process."""
        return self._newest

    @property
    def applied_revision(self) -> int:
        """The revision that ``app.config`` is at."""
        return self._applied.revision

    @property
    def staleness_s(self) -> float | None:
        """Seconds since the store was last read with success, or ``None`` if it never was."""
        return None if self._checked_at is None else self._clock() - self._checked_at

    def mask(self, text: str) -> str:
        """Return a text in which no current value of a secret setting is shown."""
        return mask_secrets(text, self._newest, self._declarations)

    def admit(self, environ: dict[str, Any], key: str) -> None:
        """Give a request that starts now its ticket, with settings refreshed if need be.

        Runs in the request's thread. Costs one ``lstat`` when nothing changed. Blocks for at
        most ``wait_s`` for another thread's refresh and once for the store's own bound; while
        the store fails, a worker with a live watcher leaves it to the watcher to try again.

        :param environ: what holds the ticket for as long as the request runs, and no frame of
            ours, because an error of the store that somebody keeps would hold that, too.
        :param key: under which it lies there.
        """
        # Before the look at the settings: from here on the watcher leaves app.config alone.
        environ[key] = self.lease.issue()
        looked_at = time.monotonic()
        # A live watcher resyncs, so that no request pays for it; if it hangs, requests take over.
        grace_s = self._resync_interval_s if self.watched else 0.0
        # The watch file first: whoever reads marks it as seen only after unsettling.
        due = self._is_due(grace_s) or not self._settled
        if due:
            self._catch_up(
                may_read=not (self._failing and self.watched),
                may_apply=_always,
                wait_s=0.0 if self._failing else self._wait_s,
            )
        environ[key].snapshot = self._applied
        if not due:
            self._grant(environ[key], looked_at)

    def begin_request(self) -> Snapshot:
        """Return the settings, refreshed if need be as :meth:`admit` does, without a request."""
        held: dict[str, Any] = {}
        try:
            self.admit(held, "ticket")
            snapshot: Snapshot = held["ticket"].snapshot
            return snapshot
        finally:
            held.clear()

    def follow(self, notice: Notice | None) -> None:
        """Refresh if a notice, the watch file or the resync interval calls for it.

        Runs in the watcher thread. Applies what it read only between requests; else the next
        request that starts does.
        """
        told = notice is not None and notice.revision != self._base.revision
        if told or not self._settled or self._is_due(0.0):
            delta = notice.delta if notice is not None else None
            error = self._catch_up(force=told, delta=delta, may_apply=self._between_requests)
            if told and error is not None:
                self._resync_at = 0.0
        self._announcer.retry(self._base.revision)

    def refresh(self, *, complete: bool = False) -> None:
        """Read the store now, whatever the notices say, and apply what is new.

        :param complete: read every row again, not only those that are newer.
        :raises StoreError: the store can't be read; the last good snapshot stays.
        """
        error = self._catch_up(force=True, complete=complete, may_apply=_always)
        if error is not None:
            raise error

    def update(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None,
        reason: str | None,
        expected_revision: int | None,
    ) -> int:
        """Commit a change, apply it here, and announce it; return its revision.

        :param raws: mapping of setting name to raw text that was checked already, or ``None``.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises StoreError: nothing was written.
        """
        revision = self._store.write(
            raws, author=author, reason=reason, expected_revision=expected_revision
        )
        # From here on the change stands: whatever fails is reported and healed by a resync.
        self._catch_up(force=True, may_apply=_always)
        self._announcer.announce(revision, self._carried(revision, raws))
        outlast()
        return revision

    def replace(self, dump: Dump, *, expected_revision: int | None) -> None:
        """Replace all that the store keeps, apply it here, and announce it.

        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises StoreError: the store refuses, or can't do this.
        """
        self._store.load(dump, expected_revision=expected_revision)
        self._catch_up(force=True, complete=True, may_apply=_always)
        self._announcer.announce(dump.revision)
        outlast()

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
            # By identity: contexts of several threads need not end in the order they began.
            others = [other for other in self._overrides if other is not layer]
            self._overrides = [*others, layer] if on else others
            self._replace(self._base, layer)
            changes = self._apply()
        self._changed(changes)

    def _grant(self, ticket: Ticket, looked_at: float) -> None:
        # Under the lock, because a ticket that is older than app.config must not be shared.
        if self._lock.acquire(blocking=False):
            try:
                if self._settled and self._applied is ticket.snapshot:
                    self.lease.grant(ticket, looked_at)
            finally:
                self._lock.release()

    def _between_requests(self) -> bool:
        return self.lease.unused

    def _is_due(self, grace_s: float) -> bool:
        return (
            self._watch_file.signature() != self._seen
            or self._clock() >= self._resync_at + grace_s
            or self._failing
        )

    def _catch_up(
        self,
        *,
        may_apply: Callable[[], bool],
        may_read: bool = True,
        force: bool = False,
        complete: bool = False,
        delta: Delta | None = None,
        wait_s: float | None = None,
    ) -> StoreError | None:
        """Read what is newer, apply it if that is allowed now, and return what failed."""
        if not self._lock.acquire(timeout=self._wait_s if wait_s is None else wait_s):
            error = StoreUnavailable(f"another thread's refresh takes over {self._wait_s} s")
            if not self._failing:
                self.health.failed(STORE, error)
                # So that no other request waits for a store that holds to no bound of its own.
                self._failing = self._lock.locked()
            return error
        changes: list[Change] = []
        failure: StoreError | None = None
        try:
            if delta is not None and self._follows(delta):
                self._believe(delta)
            # Asked again: the thread that held the lock may have read it all meanwhile.
            elif force or (may_read and self._clock() >= self._retry_at and self._is_due(0.0)):
                failure = self._read(complete)
            if not self._settled and may_apply():
                changes = self._apply()
        finally:
            self._lock.release()
        self._changed(changes)
        return failure

    def _follows(self, delta: Delta) -> bool:
        """Return whether a delta that a notice carried is the very next of what is here."""
        base = self._base
        return self._complete and (delta.epoch, delta.revision) == (base.epoch, base.revision + 1)

    def _believe(self, delta: Delta) -> None:
        """Take a change from a notice, until the store is read and has the last word."""
        names = [row.name for row in delta.rows]
        self._replace(advance(self._base, delta, self._declarations), names)
        self._believed.update(names)

    def _carried(self, revision: int, raws: Mapping[str, str | None]) -> Delta | None:
        """Return a change as a notice may carry it, or ``None`` if it may not."""
        base = self._base
        if base.revision < revision or not self._may_carry(raws):
            return None
        rows = tuple(Row(name, raw) for name, raw in raws.items())
        return Delta(revision, base.epoch, rows, complete=False)

    def _read(self, complete: bool) -> StoreError | None:
        # The signature comes before the rows: what is announced later makes it differ again.
        signature, touch = self._look()
        by_hand = touch != self._touch
        complete = complete or by_hand or not self._complete
        base = self._verified
        try:
            if not self._prepared:
                self._store.prepare()
                self._prepared = True
            delta = self._store.read_since(
                0 if complete else base.revision, "" if complete else base.epoch
            )
        except Exception as exc:
            # A store may be the user's own: whatever it raises must not reach a request.
            self.failures += 1
            self._fall_back()
            text = str(exc) or type(exc).__name__
            self.health.failed(STORE, f"{text}; {self._stopgap}" if self._stopgap else text)
            self._failing = True
            self._retry_at = self._clock() + self._backoff.next_s()
            if isinstance(exc, StoreError):
                return exc
            error = StoreError(f"{type(exc).__name__}: {exc}")
            error.__cause__ = exc
            return error
        self._take(delta)
        self._seen = signature
        self._touch = touch
        now = self._clock()
        self._checked_at = now
        self._resync_at = now + self._resync_interval_s
        self._failing = False
        self._retry_at = 0.0
        self._complete = True
        self.refreshes += 1
        self.source = "store"
        self._stopgap = ""
        self._last_known = None
        self._backoff.reset()
        self.health.works(STORE)
        self.health.initialized()
        return None

    def _fall_back(self) -> None:
        """Serve the last known values, if the store was never read by this process."""
        ask, self._last_known = self._last_known, None
        known = ask() if ask is not None else None
        if known is None:
            return
        # What the master read before it forked this process may be the newer one.
        base = self._base
        if base.epoch != known.delta.epoch or base.revision <= known.delta.revision:
            self._take(known.delta)
            self.source = known.place
            self._stopgap = (
                f"serving the last known values of revision {known.delta.revision} "
                f"from {known.place}"
            )

    def _take(self, delta: Delta) -> None:
        base = self._verified
        if not delta.complete and delta.revision == base.revision and not self._believed:
            return
        snapshot = advance(base, delta, self._declarations)
        for name, fault in snapshot.faults.items():
            if base.faults.get(name) != fault:
                logger.error(
                    "the stored value of %s does not fit its declaration, its default is served: "
                    "%s; correct it with an update, or declare it so that it fits",
                    name,
                    fault,
                )
        self._verified = snapshot
        rows = (row.name for row in delta.rows)
        # What was only believed is laid aside, should the store say otherwise.
        self._replace(snapshot, self._declarations if delta.complete else {*rows, *self._believed})
        self._believed.clear()

    def _replace(self, snapshot: Snapshot, names: Iterable[str]) -> None:
        # In this order: a request that starts now must not take what it finds for the newest.
        self._settled = False
        self.lease.revoke()
        self._touched.update(name for name in names if name in self._declarations)
        self._base = snapshot
        for values in self._overrides:
            snapshot = overlay(snapshot, values)
        self._newest = snapshot

    def _apply(self) -> list[Change]:
        newest = self._newest
        changes = diff(self._applied, newest, self._touched, self._declarations)
        self._apply_values({name: newest.by_name[name] for name in self._touched})
        self._touched.clear()
        self._applied = newest
        self._settled = True
        return changes

    def _look(self) -> tuple[Signature | None, int | None]:
        """Return the watch file's signature and its last touch by hand; make it if it is gone."""
        seen = self._watch_file.signature()
        if seen is not None and seen == self._seen:
            # A change of another host: nothing more is in the file than when it was last opened.
            self.health.works(self._watch_file.name)
            return seen, self._touch
        mark = self._watch_file.mark()
        if mark.signature is None:
            try:
                self._watch_file.ensure()
            except NotifierError as exc:
                self.health.failed(self._watch_file.name, exc)
                return mark.signature, mark.touch
            if self._complete:
                logger.warning("%s was gone and was made anew", self._watch_file.path)
            mark = self._watch_file.mark()
        self.health.works(self._watch_file.name)
        return mark.signature, mark.touch
