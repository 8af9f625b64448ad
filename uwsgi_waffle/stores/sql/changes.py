"""A store in an SQL database: what its changes say to the database."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...errors import ConfigurationError, RevisionConflict, StoreMissing, StoreUnavailable
from ...ownership import make_shared_file
from ..base import (
    HISTORY_LIMIT,
    PRUNED_AT_ONCE,
    Channel,
    Dump,
    Store,
    history_row,
    sound_revision,
)
from ..epochs import apps_in, with_app, with_words, words_in
from .attempts import Attempts, is_collision
from .databases import translated
from .statements import Connections, Statements

if TYPE_CHECKING:
    from .listening import Listening

T = TypeVar("T")
#: a connection, as the library has it
C = TypeVar("C")

#: one of so many changes looks whether the history is too long: on a server that takes as long as
#: another statement of the change
PRUNED_EACH = 32
#: PostgreSQL takes 63 bytes of a table's name, MySQL 64, and the longest ends in "revisions"
MOST_PREFIX_BYTES = 54
#: a process looks for the dead among the reports at its first one, and then after so many seconds:
#: a look reads all of them, which thousands of workers would do with each report
DEAD_EACH_S = 300.0


class SqlStore(Store, Generic[C]):
    """The common part of the stores that use an SQL database through a library.

    Each read is one statement outside of any transaction; each change is one short transaction.
    Writers wait for each other at the row that holds the revision.
    """

    calls_before_commit = True
    keeps_replaced = True

    def __init__(
        self,
        *,
        prefix: str,
        has_model: bool,
        timeout_s: float | None,
        write_timeout_s: float | None,
        history_limit: int | None,
    ) -> None:
        if len(prefix.encode(errors="replace")) > MOST_PREFIX_BYTES:
            raise ConfigurationError(
                f"the prefix of the tables must have at most {MOST_PREFIX_BYTES} bytes, or a "
                f"database would cut their names: got {prefix!r}"
            )
        #: what the names of the store's tables begin with
        self.prefix = prefix
        self._has_model = has_model
        self._given = (timeout_s, write_timeout_s, history_limit)
        self._history_limit = history_limit or HISTORY_LIMIT
        self._timeout_s = timeout_s or 1.0
        self._attempts: Attempts[C] = Attempts(
            self._connections, self._timeout_s, write_timeout_s or 5.0
        )
        self._channel = ""
        self._dialect = ""
        # When a process is to look for the dead again, by its pid.
        self._dead_at: dict[int, float] = {}

    @abstractmethod
    def _connections(self) -> Connections[C]:
        """Return this process's connections; opens none."""

    @abstractmethod
    def _statements(self, connection: C) -> Statements:
        """Return the statements of a change."""

    @abstractmethod
    def _is_prepared(self, connection: C) -> bool:
        """Say whether the tables and the row that holds the revision are there."""

    @abstractmethod
    def _make_tables(self, connection: C, epoch: str) -> None:
        """Make what is missing of the tables and of the row that holds the revision."""

    def files(self) -> tuple[Path, ...]:
        path = self._connections().file
        return () if path is None else (Path(path).absolute(),)

    @property
    def dialect(self) -> str:
        """The kind of the database, such as ``"postgresql"``; ``""`` if it is not known yet."""
        if not self._dialect:
            with contextlib.suppress(StoreUnavailable):
                self._dialect = self._connections().dialect
        return self._dialect

    @property
    def announces(self) -> bool:
        return bool(self._channel) and self.dialect == "postgresql"

    def announce_on(self, channel: Channel) -> None:
        if channel.kind == "postgresql":
            self._channel = channel.name

    def notify(self, channel: str, message: str) -> None:
        """Announce a message by PostgreSQL's NOTIFY, as changes announce themselves.

        :raises StoreMissing: the store is not prepared.
        :raises StoreUnavailable: the database can't be reached.
        """
        self._attempts.read(
            lambda connection: self._statements(connection).notify(channel, message)
        )

    def listen(self) -> Listening:
        """Open a connection to the database that hears what is announced there.

        :raises StoreUnavailable: it can't be opened.
        :raises StoreError: the driver can't listen.
        """
        # Imported by the process of a host that listens.
        from .listening import listening

        connections = self._connections()
        shown, passwords = connections.shown, connections.passwords
        with translated(shown, passwords):
            connection = connections.connect(self._timeout_s)
        return listening(connection, self._timeout_s, shown, passwords)

    def prepare(self) -> None:
        """Make the tables and the row that holds the revision, unless they are there.

        :raises StoreUnavailable: the database can't be reached.
        :raises StoreError: the tables are missing, and can't be made.
        """
        self._make_file()
        if not self._attempts.read(self._is_prepared):
            self.create_tables()

    def create_tables(self) -> None:
        """Make those of the store's tables that are missing, also that of workers' reports.

        For a user who may create tables, where the app's own may not.

        :raises StoreUnavailable: the database can't be reached.
        :raises StoreError: they can't be made.
        """
        self._make_file()
        # Of many that make a table at once, all but one may fail.
        self._attempts.commit(
            lambda connection: self._make_tables(connection, uuid.uuid4().hex),
            may_retry=lambda exc: True,
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
        def change(connection: C) -> int:
            to = self._statements(connection)
            mark = secrets.token_hex(8)
            revision = self._next_revision(to, expected_revision, mark)
            old = to.stored(raws)
            about = {
                "revision": revision,
                "author": author,
                "reason": reason,
                "at": datetime.now(timezone.utc).isoformat(),
                "mark": mark,
            }
            to.insert(
                "history",
                [
                    {"name": name, "old_raw": old.get(name), "new_raw": raw, **about}
                    for name, raw in raws.items()
                ],
            )
            self._prune(to, revision)
            self._announce(to)
            if not self._has_model:
                to.upsert("marks", _rows(raws, revision), known=old)
                return revision
            gone = [name for name, raw in raws.items() if raw is None and name in old]
            if gone:
                to.delete("values", gone)
            kept = {name: raw for name, raw in raws.items() if raw is not None}
            to.upsert("values", _rows(kept), known=old)
            marks = [{"name": name, "revision": revision} for name in raws]
            to.upsert("marks", marks, known=to.marked(raws))
            return revision

        return self._attempts.commit(change, may_retry=is_collision, before_commit=before_commit)

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        def replace(connection: C) -> None:
            to = self._statements(connection)
            mark = secrets.token_hex(8)
            # Takes the lock on the row, like every change.
            self._next_revision(to, expected_revision, mark)
            to.restart(dump.revision)
            self._announce(to)
            to.delete("history")
            to.insert("history", [{**history_row(entry), "mark": mark} for entry in dump.history])
            to.delete("marks")
            # Rows of revision 0 would be newer than nothing.
            revision = dump.revision or 1
            if not self._has_model:
                to.insert("marks", _rows(dump.raws, revision))
                return
            known = to.stored(None)
            gone = [name for name in known if name not in dump.raws]
            if gone:
                to.delete("values", gone)
            to.upsert("values", _rows(dump.raws), known)
            to.insert("marks", [{"name": name, "revision": revision} for name in dump.raws])

        self._attempts.commit(replace, may_retry=is_collision, before_commit=before_commit)

    def replaced(self) -> frozenset[str]:
        return words_in(self._note("replaced"))

    def stand_in(
        self, epochs: Iterable[str], *, before_commit: Callable[[], None] | None = None
    ) -> None:
        words = list(epochs)
        self._change_note(
            "replaced", lambda text: with_words(text, words), before_commit, announced=True
        )

    def enroll(self, app: str, record: str) -> None:
        self._change_note("apps", lambda text: with_app(text, app, record))

    def apps(self) -> dict[str, str]:
        return apps_in(self._note("apps"))

    def _note(self, column: str) -> str | None:
        found = self._attempts.read(lambda connection: self._statements(connection).note(column))
        if not found:
            raise self._lost()
        return found[0]

    def _change_note(
        self,
        column: str,
        change: Callable[[str | None], str],
        before_commit: Callable[[], None] | None = None,
        *,
        announced: bool = False,
    ) -> None:
        def run(connection: C) -> None:
            to = self._statements(connection)
            if not to.lock():
                raise self._lost()
            to.set_note(column, change(to.note(column)[0]))
            if announced:
                self._announce(to)

        self._attempts.commit(run, may_retry=is_collision, before_commit=before_commit)

    def _make_file(self) -> None:
        # SQLite would make it readable for everyone, and writable for its owner only. What can't
        # be made is reported when it is opened.
        path = self._connections().file
        if path is not None:
            with contextlib.suppress(OSError):
                make_shared_file(Path(path))

    def _looks_for_dead(self) -> bool:
        """Return whether the report that is made now also drops some that ended."""
        pid, now = os.getpid(), time.monotonic()
        if now < self._dead_at.get(pid, float("-inf")):
            return False
        self._dead_at[pid] = now + DEAD_EACH_S
        return True

    def _reports_on_reader(self, read: Callable[[C], list[T]]) -> list[T]:
        """Return what a function reads of the reports: none where there is no store."""
        try:
            return self._attempts.read(read)
        except StoreMissing:
            return []

    def _next_revision(self, to: Statements, expected: int | None, mark: str) -> int:
        # The update comes first: who made it holds the row until the end of the transaction.
        revision = to.raise_revision(mark)
        if revision is None:
            raise self._lost()
        before = sound_revision(revision - 1, self)
        if expected not in (None, before):
            raise RevisionConflict(expected, before)
        return revision

    def _announce(self, to: Statements) -> None:
        """Announce the change, if and when it is committed."""
        if self.announces:
            to.notify(self._channel)

    def _prune(self, to: Statements, revision: int) -> None:
        """Forget the changes over the limit: a bounded number, and not by each change."""
        last = revision - self._history_limit
        if last > 0 and revision % PRUNED_EACH == 0:
            oldest = to.oldest()
            if oldest is not None and oldest <= last:
                to.forget(min(last, oldest + PRUNED_AT_ONCE - 1))

    def _lost(self) -> StoreMissing:
        return StoreMissing(
            f"{self._connections().shown} holds no settings: the row of the revision is missing"
        )


def _rows(raws: Mapping[str, str | None], revision: int | None = None) -> list[dict[str, Any]]:
    also = {} if revision is None else {"revision": revision}
    return [{"name": name, "raw": raw, **also} for name, raw in raws.items()]
