"""The changes of one process: each committed, applied here, and announced, in one sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import (
    OutcomeUnknown,
    RevisionConflict,
    StoreError,
    StoreLost,
    StoreMissing,
    WaffleError,
    raise_unheld,
)
from ..notifiers.base import Notifier
from ..snapshot import Change
from ..stores.base import Committed, Dump, Store
from .announcer import Announcer
from .layers import Layers
from .page import Page, PageChange
from .reading import Reading
from .refresher import Refresher, always


class Changes:
    """Makes the changes of one process; any thread may call every method.

    :param layers: what was read last; only looked at.
    :param reading: only looked at, likewise.
    :param make: makes what is missing of page, watch file and store, from now on.
    :param changed: called with what changed, after it was announced, without any lock held.
    :param remote: announces to other hosts what the store does not announce itself, or ``None``.
    """

    def __init__(
        self,
        store: Store,
        page: Page,
        layers: Layers,
        reading: Reading,
        refresher: Refresher,
        announcer: Announcer,
        *,
        make: Callable[[], None],
        changed: Callable[[list[Change]], None],
        remote: Notifier | None,
    ) -> None:
        self._store = store
        self._page = page
        self._layers = layers
        self._reading = reading
        self._refresher = refresher
        self._announcer = announcer
        self._make = make
        self._changed = changed
        self._remote = remote

    def commit(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None,
        reason: str | None,
        expected_revision: int | None,
        may_apply: Callable[[], bool] = always,
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

        committed: list[Committed] = []

        def write(**more: Any) -> int:
            if self._store.reports_committed:
                more["committed"] = committed.append
            return self._store.write(
                raws, author=author, reason=reason, expected_revision=expected_revision, **more
            )

        self._know_store(may_apply)
        return self._change(write, may_apply, committed)

    def replace(
        self,
        dump: Dump,
        *,
        expected_revision: int | None,
        may_apply: Callable[[], bool] = always,
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

        self._make()
        self._change(stand_in, always)

    def _know_store(self, may_apply: Callable[[], bool]) -> None:
        """Make a store that is to be changed if none is known, and refuse one that is not known.

        :raises StoreLost: the store that this host knows is gone, or another is in its place.
        :raises StoreMissing: there is none, and none can be made.
        """
        self._make()
        if self._store.keeps_replaced and (self._reading.lost or not self._layers.base.epoch):
            raise_unheld(
                self._refresher.catch_up(force=True, may_apply=may_apply),
                (StoreLost, StoreMissing),
            )

    def _change(
        self,
        write: Callable[..., int],
        may_apply: Callable[[], bool],
        committed: Sequence[Committed] = (),
    ) -> int:
        """Write, apply and announce, with the page held; the whole sequence of a change.

        :param committed: has what was written, afterwards, if the store reports that.
        """
        changes: list[Change] = []
        announced = False
        try:
            with self._page.change() as change:
                try:
                    revision = self._written(write, change)
                except BaseException as exc:
                    # It may have been committed; and a conflict names a revision that this
                    # host may not have seen.
                    announced = not change.opened
                    if change.opened or isinstance(exc, RevisionConflict):
                        self._refresher.catch_up(
                            force=True, may_apply=may_apply, change=change, receive=changes
                        )
                    raise
                # From here on the change stands: what fails is reported and healed by a
                # resync. A revision that is not above the own one came back.
                error = self._refresher.catch_up(
                    force=True,
                    complete=revision <= self._layers.base.revision,
                    may_apply=may_apply,
                    change=change,
                    committed=committed[0] if committed else None,
                    receive=changes,
                )
                lost = str(error) if isinstance(error, StoreLost) else ""
                del error
                if lost:
                    raise OutcomeUnknown(
                        f"the change was written where no process reads it: {lost}"
                    )
                base = self._layers.base
                self._announcer.announce(
                    max(revision, base.revision),
                    base.epoch,
                    base.mark,
                    done_by=self._remote if self._store.announces else None,
                )
                announced = True
        finally:
            if not announced:
                # Its outcome is unknown, or a timeout of gevent's came in between.
                self._announcer.owe()
            self._changed(changes)
        return revision

    def _written(self, write: Callable[..., int], change: PageChange) -> int:
        try:
            if self._store.calls_before_commit:
                return write(before_commit=change.open)
            change.open()
            return write()
        except WaffleError:
            raise
        except Exception as exc:
            # A store may be the user's own, or spoilt, and its driver closed by another thread;
            # those who change settings expect errors of a store.
            text = f"{type(exc).__name__}: {exc}"
            if change.opened:
                raise OutcomeUnknown(
                    f"{text}; the change may have been made: read the settings before you repeat it"
                ) from exc
            raise StoreError(text) from exc
