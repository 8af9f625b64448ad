"""When and how one process reads its store, and what it knows of that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from ..backoff import Backoff
from ..errors import NotifierError, StoreError, StoreLost, StoreMissing
from ..notifiers.file import FileNotifier, Signature
from ..snapshot import Delta, Snapshot
from ..stores.base import Committed, Store, sound_revision
from ..stores.epochs import word_of
from .health import Health, describe_source
from .page import identity_of

logger = logging.getLogger("uwsgi_waffle")

STORE = "store"
_NEVER: Signature = (-1, -1, -1)
_RECREATE = (
    "`flask waffle recreate` makes it again, from the last known values or a backup, or takes what "
    "is there now"
)


class LastKnown(msgspec.Struct, frozen=True):
    """Values that an earlier process read and kept on the disk.

    :ivar delta: complete, but for what was not to be kept.
    :ivar place: where they were kept.
    """

    delta: Delta
    place: str


class Look(msgspec.Struct, frozen=True):
    """The notices before a read, which therefore is no news after it.

    :ivar touch: the last touch of the watch file by hand.
    :ivar notices: how many notices had asked for a read.
    """

    signature: Signature | None
    touch: int | None
    notices: int


class Reading:
    """Reads the store of one process; the manager's lock guards what writes.

    What :meth:`is_due` visits may be read without the lock.

    :ivar begun: how many reads were begun.
    :ivar done: number of the newest read that succeeded.
    :ivar refreshes: how often the store was read with success.
    :ivar failures: how often it could not be read.
    :ivar failing: the newest attempt failed.
    :ivar introduce: called before rows are read, by the thread that reads; raises nothing.
    :ivar read_at: when it was last read with success, by the clock of the host in UTC seconds.
    :ivar lost: the newest attempt failed because the store that this host knows is gone.
    :ivar may_make: whether this process makes what is missing, of store and watch file; one that
        only reads does not.
    :ivar source: where the settings come from: ``store``, ``defaults``, ``master`` (read before
        the fork), or the path of the file of last known values.

    :param host_epoch: returns the word of the epoch that this host knows by its page, if any.
    :param last_known: asked once, if the first read fails, or if no page knows the store.
    :param resync_interval_s: a read is due this long after the last one, notice or not.
    """

    def __init__(
        self,
        store: Store,
        watch_file: FileNotifier,
        health: Health,
        *,
        source: str,
        may_make: bool,
        host_epoch: Callable[[], str],
        last_known: Callable[[], LastKnown | None],
        resync_interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.begun = 0
        self.done = 0
        self.refreshes = 0
        self.failures = 0
        self.failing = False
        self.lost = False
        self.read_at: float | None = None
        self.may_make = may_make
        self.source = source
        self.introduce: Callable[[], None] | None = None
        self._store = store
        self._watch_file = watch_file
        self._health = health
        self._host_epoch = host_epoch
        self._ask_last_known: Callable[[], LastKnown | None] | None = last_known
        self._kept: LastKnown | None = None
        self._offers_kept = True
        self._resync_interval_s = resync_interval_s
        self._clock = clock
        self._seen: Signature | None = _NEVER
        self._touch: int | None = None
        self._notices = 0
        self._followed = 0
        self._resync_at = 0.0
        self._checked_at: float | None = None
        self._prepared = False
        self._complete = False
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._failed_identity: bytes | None = None

    @property
    def staleness_s(self) -> float | None:
        """Seconds since the store was last read with success, or ``None`` if it never was."""
        return None if self._checked_at is None else self._clock() - self._checked_at

    def is_due(self, grace_s: float) -> bool:
        """Return whether something calls for a read; costs one ``lstat``.

        :param grace_s: how much later than its time the resync may come.
        """
        return (
            self._watch_file.signature() != self._seen
            or self._notices != self._followed
            or self._clock() >= self._resync_at + grace_s
            or self.failing
        )

    def may_try(self, identity: bytes) -> bool:
        """Return whether the store may be asked now, though it may have failed just before.

        :param identity: of the page: if another process has since read or changed something, the
            store works again.
        """
        return self._clock() >= self._retry_at or identity != self._failed_identity

    def is_refuted(self, identity: bytes) -> bool:
        """Return whether another process got through to the store since it failed here."""
        return self.failing and identity != self._failed_identity

    @property
    def is_asked(self) -> bool:
        """Whether :meth:`ask` was called and no read that began after it has succeeded."""
        return self._notices != self._followed

    def ask(self) -> None:
        """Make a read due, until one that begins after this has succeeded."""
        self._notices += 1

    def look(self) -> Look:
        """Return what there is to notice before a read; make the watch file if it is gone."""
        notices = self._notices
        seen = self._watch_file.signature()
        if seen is not None and seen == self._seen:
            # A change of another host: nothing more is in the file than when it was last opened.
            self._health.works(self._watch_file.name)
            return Look(seen, self._touch, notices)
        mark = self._watch_file.mark()
        if mark.signature is None:
            if not self.may_make:
                return Look(None, mark.touch, notices)
            try:
                self._watch_file.ensure()
            except NotifierError as exc:
                self._health.failed(self._watch_file.name, exc)
                return Look(mark.signature, mark.touch, notices)
            if self._complete and self._seen is not None:
                logger.warning("%s was gone and was made again", self._watch_file.path)
            mark = self._watch_file.mark()
        self._health.works(self._watch_file.name)
        return Look(mark.signature, mark.touch, notices)

    def lacks_only(self, committed: Committed, base: Snapshot) -> bool:
        """Return whether a snapshot, read here before, lacks nothing but a change of this process.

        As the change's own transaction shows: then a read would say the same, that nothing was
        lost included.
        """
        before = (committed.delta.epoch, committed.revision, committed.mark)
        return (
            self._complete
            and not self.failing
            # Without a mark it may be what someone has loaded at revision 0.
            and bool(base.mark)
            and (base.epoch, base.revision, base.mark) == before
            and self._known_epoch(base) in ("", word_of(base.epoch))
        )

    def read(self, base: Snapshot, look: Look, *, complete: bool) -> Delta:
        """Return what the store has that a snapshot lacks; blocks for the store's own bound.

        A store that this host knows is not made again, and no other is taken for it. Where none is
        known, a process that may not make one takes it for empty.

        :param complete: return every row, not only the newer ones.
        :raises StoreLost: the store that this host knows is gone, or another is in its place.
        :raises StoreError: the store can't be read, whatever it raised.
        """
        self.begun += 1
        complete = complete or look.touch != self._touch or not self._complete
        # Before the rows: another process may follow to the next epoch meanwhile.
        known = self._known_epoch(base)
        try:
            self._prepare(known)
            if self.introduce is not None:
                self.introduce()
            delta = self._ask_store(None if complete else base)
            if delta.epoch == base.epoch and delta.revision < base.revision and not complete:
                # It went back: only a read of everything is believed.
                delta = self._ask_store(None)
            if known and word_of(delta.epoch) != known and known not in self._store.replaced():
                raise StoreLost(
                    f"{self._store!r} is not the one that this host knows (its epoch is "
                    f"{word_of(delta.epoch)}, not {known}), so the values of that one stay in "
                    f"force: {_RECREATE}"
                )
            return delta
        except StoreMissing as exc:
            self._prepared = False
            if known:
                raise StoreLost(f"{exc}; what was in it stays in force: {_RECREATE}") from exc
            if self.may_make or not self._store.keeps_replaced:
                raise
            return Delta(0, "", (), complete=True)
        except StoreError:
            raise
        except Exception as exc:
            # A store may be the user's own: what it raises must not reach a request.
            raise StoreError(f"{type(exc).__name__}: {exc}") from exc

    def succeeded(self, look: Look) -> None:
        """Note that what a read returned is taken; from here on it is no news."""
        self._seen = look.signature
        self._touch = look.touch
        self._followed = look.notices
        now = self._clock()
        self._checked_at = now
        self.read_at = time.time()
        self._resync_at = now + self._resync_interval_s
        self.failing = self.lost = False
        self._retry_at = 0.0
        self._complete = True
        self.done = self.begun
        self.refreshes += 1
        self.source = STORE
        self._ask_last_known = self._kept = None
        self._backoff.reset()
        self._health.works(STORE)
        self._health.initialized()

    def failed(self, error: StoreError, identity: bytes, revision: int) -> None:
        """Note that a read failed.

        :param identity: of the page, when it failed.
        :param revision: what is served instead.
        """
        self.failures += 1
        self.failing = True
        self.lost = isinstance(error, StoreLost)
        self._failed_identity = identity
        self._retry_at = self._clock() + self._backoff.next_s()
        text = str(error) or type(error).__name__
        self._health.failed(STORE, f"{text}; serving {describe_source(self.source, revision)}")

    def blocked(self, error: StoreError, *, failing: bool) -> None:
        """Note that another thread's read takes longer than a request may wait."""
        if not self.failing:
            self._health.failed(STORE, error)
            # So that no other request waits for a store that keeps to no bound of its own.
            self.failing = failing

    def last_known(self, base: Snapshot, identity: bytes) -> LastKnown | None:
        """Return the last known values, if this process never read the store and has no newer.

        Reads a file at the first call, and returns ``None`` at all others.

        :param identity: of the page: what this host has served last.
        """
        known = self._asked_last_known() if self._offers_kept else None
        self._offers_kept = False
        # What the parent read before it forked this process may be the newer one.
        if known is None or _is_newer(base, known.delta, identity):
            return None
        self.source = known.place
        return known

    def known_epochs(self, base: Snapshot) -> frozenset[str]:
        """Return the words of all epochs that this host knows: page, this process, kept values."""
        kept = self._asked_last_known()
        epochs = [base.epoch, kept.delta.epoch if kept is not None else ""]
        return frozenset(filter(None, [self._host_epoch(), *map(word_of, filter(None, epochs))]))

    def _known_epoch(self, base: Snapshot) -> str:
        """Return the word of the newest epoch that this host knows, or nothing.

        That of the page goes first: its processes follow to the next epoch together.
        """
        if not self._store.keeps_replaced:
            return ""
        if not self._store.outlives_process:
            return word_of(base.epoch) if base.epoch else ""
        if word := self._host_epoch():
            return word
        if base.epoch:
            return word_of(base.epoch)
        kept = self._asked_last_known()
        return "" if kept is None else word_of(kept.delta.epoch)

    def _asked_last_known(self) -> LastKnown | None:
        ask, self._ask_last_known = self._ask_last_known, None
        if ask is not None:
            self._kept = ask()
        return self._kept

    def _prepare(self, known: str) -> None:
        """Prepare the store once, unless that would make one that this host knows again."""
        ours = self._store.keeps_replaced
        if not self._prepared and not known and (self.may_make or not ours):
            self._store.prepare()
            self._prepared = True

    def _ask_store(self, base: Snapshot | None) -> Delta:
        if base is None:
            delta = self._store.read_since(0, "")
        elif base.mark:
            delta = self._store.read_since(base.revision, base.epoch, base.mark)
        else:
            # A user's own store may know no marks.
            delta = self._store.read_since(base.revision, base.epoch)
        # A store may be spoilt, or the user's own.
        sound_revision(delta.revision, self._store)
        return delta


def _is_newer(base: Snapshot, kept: Delta, identity: bytes) -> bool:
    """Return whether a process serves what it has rather than what its host has kept.

    :param identity: of the page, which shows which of the two the host has served last: if a
        backup was restored, that is the one of the lower revision.
    """
    own, others = identity_of(base), identity_of(kept)
    # The same without the secrets, which are not kept, would be less.
    if own in (others, identity):
        return True
    return others != identity and base.epoch == kept.epoch and base.revision > kept.revision
