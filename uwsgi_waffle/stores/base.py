"""The interface of every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import StoreError
from ..snapshot import MAX_REVISION, Delta

#: the changes that a store keeps in its history, unless another number is given
HISTORY_LIMIT = 100_000
#: the most revisions that one change removes from the history, so that none takes long
PRUNED_AT_ONCE = 320
#: how messages name a URL of which nothing says where it was given
URL_NAMED = "the URL"


class HistoryEntry(NamedTuple):
    """One setting in one committed change, as a store keeps it: raw texts, also of secrets.

    People see it as a :class:`~uwsgi_waffle.operations.HistoryItem`.

    :ivar old_raw: JSON text before, or ``None`` for the default.
    :ivar new_raw: JSON text after, or ``None`` for the default.
    :ivar at: when it was committed, by the clock of the host that committed it, in UTC.
    """

    revision: int
    name: str
    old_raw: str | None
    new_raw: str | None
    author: str | None
    reason: str | None
    at: datetime

    def __repr__(self) -> str:
        # The texts may be of a secret, which a store does not know.
        return (
            f"HistoryEntry(revision={self.revision}, name={self.name!r}, "
            f"author={self.author!r}, at={self.at!r}, …)"
        )


class Committed(NamedTuple):
    """A committed change, as its own transaction has it.

    :ivar revision: the one before the change.
    :ivar mark: of that revision.
    :ivar delta: what a reader of that revision lacks, as :meth:`Store.read_since` returns it.
    """

    revision: int
    mark: str
    delta: Delta


class Dump(NamedTuple):
    """All that a store keeps of settings, as of one revision.

    :ivar raws: mapping of setting name to JSON text, of what is not at its default.
    :ivar history: newest first, as :meth:`Store.history` has it; as far back as the store has it.
    """

    revision: int
    epoch: str
    raws: dict[str, str]
    history: tuple[HistoryEntry, ...]

    def __repr__(self) -> str:
        return (
            f"Dump(revision={self.revision}, epoch={self.epoch!r}, settings={len(self.raws)}, "
            f"history={len(self.history)})"
        )


class WorkerReport(NamedTuple):
    """How the settings of one process are doing, as it reports itself.

    :ivar app: the Flask app's name.
    :ivar host: the host's name; with ``app`` and ``pid`` it identifies a process.
    :ivar worker_id: 1 and up in a worker of uWSGI, 0 elsewhere.
    :ivar revision: the revision that is applied.
    :ivar staleness_s: seconds since the store was last read with success when it was reported,
        or ``None`` if it never was.
    :ivar state: the name of its :class:`~uwsgi_waffle.process.health.State`.
    :ivar last_error: what failed last, when it began and, if it is over, when it ended; without
        passwords and secret values; or ``None``.
    :ivar lifetime_s: seconds after which a report that was not repeated no longer counts.
    :ivar age_s: seconds since it was reported; ignored when it is reported.
    """

    app: str
    host: str
    pid: int
    worker_id: int
    revision: int
    staleness_s: float | None
    state: str
    last_error: str | None
    lifetime_s: float
    age_s: float = 0.0


class Channel(NamedTuple):
    """Where other hosts hear of changes.

    :ivar kind: ``"postgresql"``, which is a channel of the store's own database, or ``"redis"``.
    :ivar name: of the channel.
    :ivar url: of the Redis.
    """

    kind: str
    name: str
    url: str = ""

    def __repr__(self) -> str:
        # A URL may hold a password.
        return f"Channel(kind={self.kind!r}, name={self.name!r})"


def sound_revision(revision: object, store: object) -> int:
    """Return the revision that a store says it is at.

    :raises StoreError: it is none.
    """
    if type(revision) is not int or not 0 <= revision <= MAX_REVISION:
        raise StoreError(f"{store!r} is at {revision!r}, which is no revision")
    return revision


class Store(ABC):
    """Keeps raw values, one revision for all of them, and the history.

    A store sees names and JSON texts only; it knows nothing of types. An instance may be made
    before a fork and used after it, by any thread: connections belong to the process, never to
    the instance. Every method blocks for at most the store's stated timeouts.

    A store that keeps *marks* gives each change a random token of its own, kept with the revision
    and in the history. Its readers notice when a revision comes back with other content, because a
    backup was restored or a lagging replica was promoted. Without marks they can't: they take such
    a revision for one that they have, until the next complete read.
    """

    #: whether :meth:`write` calls ``before_commit``; it is passed to no other store
    calls_before_commit: bool = False
    #: whether :meth:`write` has one more parameter, ``committed``, a function that it calls after
    #: the commit with a :class:`Committed`, so that the writer need not read its change back. It
    #: does not call it where it is not certain what readers see, as when its file was replaced.
    reports_committed: bool = False
    #: whether the store keeps which epochs it stands in for: :meth:`replaced`, :meth:`stand_in`.
    #: Only then can a process notice that a store that it knows is gone.
    keeps_replaced: bool = False

    @property
    def outlives_process(self) -> bool:
        """Whether a process that starts later finds what is kept; false for one in memory."""
        return True

    @property
    def identity(self) -> str:
        """A name of what the store keeps, unique on its host, without any password.

        The page and the last known values belong to it.
        """
        return type(self).__qualname__

    @property
    def announces(self) -> bool:
        """Whether each change announces itself to other hosts, if and when it is committed."""
        return False

    def announce_on(self, channel: Channel) -> None:
        """Have each change announce itself, within its own transaction, if the store can do that.

        Called at most once, before the first change. A store that does nothing here, as most do,
        has its changes announced after their commit: one whose process dies in between reaches
        other hosts at their next resync.
        """
        return

    def for_app(
        self, app: Any, *, timeout_s: float, write_timeout_s: float, history_limit: int | None
    ) -> Store:
        """Return the store that serves one app; called by ``init_app``, before anything else.

        For stores that need the app to find their database. Opens nothing.

        :param app: the Flask app.
        :param timeout_s: what ``WAFFLE_STORE_TIMEOUT`` says, for a store that was given none.
        :param write_timeout_s: what ``WAFFLE_WRITE_TIMEOUT`` says, likewise.
        :param history_limit: what ``WAFFLE_HISTORY_LIMIT`` says, likewise; ``None`` if nothing.
        """
        return self

    def files(self) -> tuple[Path, ...]:
        """Return the files of this host in which the store keeps everything; opens none.

        Empty if it keeps it elsewhere.
        """
        return ()

    @abstractmethod
    def prepare(self) -> None:
        """Make what the store needs, unless it is there already. May be called again.

        A store that is made has a new epoch. One that sets :attr:`keeps_replaced` is prepared only
        by a process of a host that knows no epoch of it, so that lost data is never replaced by an
        empty store without being noticed.

        :raises StoreUnavailable: the store can't be reached.
        :raises StoreError: it can be reached, but not prepared.
        """

    @abstractmethod
    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        """Return the rows that changed after a revision, read at one instant, in one query.

        Settings that were reset come as rows without raw text. Writes nothing. The delta is
        complete with revision 0, with another epoch, with a revision that the store has not
        reached, and, from a store that keeps marks, when its history does not hold this mark at
        this revision: another mark is there, or the revision is there no more.

        :param mark: the mark that the reader has of its revision; empty if it knows none, which a
            store that keeps marks answers completely. It is passed only by readers that once got
            a mark, so a store without them may leave it out of its signature.
        :raises StoreMissing: the store is not prepared, or what it kept is gone.
        :raises StoreUnavailable: the store can't be read within its bound.
        """

    @abstractmethod
    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> int:
        """Commit one change in one transaction; return the revision it made.

        :param raws: mapping of setting name to JSON text; ``None`` resets to the default.
        :param before_commit: called immediately before the commit, after all statements and all
            waiting for other writers, in each attempt. If it raises, nothing is committed. A store
            that sets :attr:`calls_before_commit` takes it; others may leave it out.
        :raises RevisionConflict: the store is not at ``expected_revision``; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit; the change may have been
            made. It is not tried again.
        :raises StoreUnavailable: the store can't be written within its bound.
        :raises StoreError: the store refuses to be written.
        """

    @abstractmethod
    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """Return the newest entries, newest first.

        A store may forget old changes, each of them whole, but never the newest.

        :raises StoreUnavailable: the store can't be read within its bound.
        """

    def dump(self) -> Dump:
        """Return everything that is kept, as of one revision; writes nothing.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        while True:
            delta = self.read_since(0, "")
            sound_revision(delta.revision, self)
            entries = _whole_history(self)
            # A store that was replaced while it was read begins again.
            if not self.read_since(delta.revision, delta.epoch, delta.mark).complete or (
                delta.revision == 0
            ):
                break
        raws = {name: raw for name, raw in delta.rows if raw is not None}
        # The history only grows: what came in while it was read is newer.
        history = tuple(entry for entry in entries if entry.revision <= delta.revision)
        return Dump(delta.revision, delta.epoch, raws, history)

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Replace everything that is kept by a dump, in one transaction; the store is prepared.

        The revision becomes the dump's. New marks, or in a store without marks a new epoch, have
        every reader read the whole of it. Rows of the user's own table that the dump lacks are
        removed. Only a store that can be restored and copied to has this method.

        :param before_commit: see :meth:`write`.
        :raises RevisionConflict: the store is not at ``expected_revision``; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store refuses to be written, or can't do this.
        """
        raise StoreError(
            f"{self!r} can't be restored or copied to: {type(self).__name__} has no load()"
        )

    def replaced(self) -> frozenset[str]:
        """Return which epochs the store stands in for, by :func:`~.epochs.word_of`.

        Only of a store that sets :attr:`keeps_replaced`.

        :raises StoreMissing: there is no store.
        :raises StoreUnavailable: the store can't be read within its bound.
        """
        return frozenset()

    def stand_in(
        self, epochs: Iterable[str], *, before_commit: Callable[[], None] | None = None
    ) -> None:
        """Record that this store stands in for others, so that hosts which know those accept it.

        Changes no setting, and no revision.

        :param epochs: those of the stores that are gone, by :func:`~.epochs.word_of`.
        :param before_commit: see :meth:`write`.
        :raises StoreMissing: there is no store.
        :raises StoreError: the store refuses to be written, or can't do this.
        """
        raise StoreError(f"{self!r} can't stand in for another: {type(self).__name__} can't do it")

    def enroll(self, app: str, record: str) -> None:
        """Keep the record of an app, in place of its previous one.

        Changes no setting, and no revision. A store that can't keep it does nothing.

        :param app: the Flask app's name.
        :param record: JSON text of at most some kilobytes.
        :raises StoreError: it could not be kept.
        """
        return

    def apps(self) -> dict[str, str]:
        """Return the last record of each app that ever used the store, by the app's name.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        return {}

    def report(self, report: WorkerReport) -> None:
        """Keep the report of a process, in place of its previous one.

        Also drops some reports that are older than their lifetime. Costs no flush to the disk,
        and waits for no writer: a lost report is sent again. A store that can't keep reports does
        nothing.

        :raises StoreError: it could not be kept.
        """
        return

    def retract(self, report: WorkerReport) -> None:
        """Forget the report of a process; called by a process that ends.

        :raises StoreError: it could not be forgotten.
        """
        return

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        """Return the reports of every host that are younger than their lifetime.

        Ordered by app, host, worker and pid. Ages are measured by one clock, so that it does not
        matter whether the hosts' clocks agree. A store that can't keep reports returns none.

        :param max_age_s: leave out older reports, even if their lifetime is longer.
        :raises StoreUnavailable: the store can't be read within its bound.
        """
        return []

    def loses_changes(self) -> str | None:
        """Return the setting by which the database may lose a confirmed change in a crash.

        Such as ``synchronous_commit = off``; ``None`` if no such setting is known.

        :raises StoreUnavailable: the store can't be reached.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Close this process's connections; they open again when they are needed."""


def time_of(kept: object) -> datetime | None:
    """Return a time that a store keeps as text, or ``None`` if it is no time.

    What names no zone is in UTC. An entry whose time was spoilt by hand is left out of the history,
    so that the others can be read.
    """
    try:
        at = datetime.fromisoformat(kept)  # type: ignore[arg-type]  # what is no text is refused
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)


def history_row(entry: HistoryEntry) -> dict[str, Any]:
    """Return an entry as the columns of an SQL store, with its time as text in UTC."""
    return {**entry._asdict(), "at": entry.at.astimezone(timezone.utc).isoformat()}


def _whole_history(store: Store) -> list[HistoryEntry]:
    limit = 10_000
    while True:
        entries = store.history(limit=limit)
        if len(entries) < limit:
            return entries
        limit *= 8
