"""The embedded store: one SQLite file, safe for all processes of one host."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from ...errors import RevisionConflict, StoreError, StoreMissing
from ...forking import PerProcess
from ...ownership import make_shared_file
from ...snapshot import Delta, Row
from ..base import (
    HISTORY_LIMIT,
    PRUNED_AT_ONCE,
    Committed,
    Dump,
    HistoryEntry,
    Store,
    WorkerReport,
    history_row,
    sound_revision,
)
from ..epochs import apps_in, with_app, with_words, words_in
from ..soundness import entries_within
from ..sql.rows import delta_of, entry_of
from .connections import (
    UNSTORABLE,
    Reader,
    Writer,
    commit,
    connect,
    patiently,
    storable,
    translated,
    translation,
    unstorable,
)
from .reports import Reports
from .tables import DEFAULT_PREFIX, Tables

T = TypeVar("T")
#: what a transaction finds: revision, epoch and mark
_Found = tuple[int, str, str]


class SqliteStore(Store):
    """Keeps settings in an SQLite file in WAL mode; readers never wait for a writer.

    A commit is on the disk when :meth:`write` returns (``synchronous = FULL``). Keeps marks.

    Source: SQLite documentation, "Write-Ahead Logging" (readers do not block) and
    "How To Corrupt" (a connection must not be carried across a fork).

    :param path: the database file; its folder must exist.
    :param prefix: what the tables' names begin with; give each app of a file its own.
    :param timeout_s: longest time that a read may block.
    :param write_timeout_s: longest time that a write may wait for other writers.
    :param history_limit: how many changes the history keeps.
    :raises ConfigurationError: the prefix can't begin a table's name.
    """

    calls_before_commit = True
    reports_committed = True
    keeps_replaced = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout_s: float = 1.0,
        write_timeout_s: float = 5.0,
        history_limit: int = HISTORY_LIMIT,
    ) -> None:
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._write_timeout_s = write_timeout_s
        self._history_limit = history_limit
        self._prefix = prefix
        self._tables = Tables(prefix)
        self._reports = Reports(self.path, prefix)
        self._reader = PerProcess(lambda: Reader(self.path, timeout_s))
        self._writer = PerProcess(lambda: Writer(self.path, write_timeout_s))

    def __repr__(self) -> str:
        shown = "" if self._prefix == DEFAULT_PREFIX else f" prefix={self._prefix!r}"
        return f"<SqliteStore {self.path}{shown}>"

    @property
    def identity(self) -> str:
        return repr(self)

    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def prepare(self) -> None:
        """Make the file (mode 0660) and its tables, unless they are there.

        :raises StoreUnavailable: the file can't be opened, made or locked.
        """
        self._create_file()
        with translated(self.path):
            # By the bound of a read: nearly always there is nothing to make.
            with contextlib.closing(connect(self.path, self._timeout_s)) as connection:
                # Another process may turn the file to WAL just now, which locks out who reads.
                if patiently(lambda: self._has_schema(connection), self._timeout_s):
                    return
            with contextlib.closing(connect(self.path, self._write_timeout_s)) as connection:
                self._switch_to_wal(connection)
                commit(connection, self._make_tables, wait_s=self._write_timeout_s)

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        reader = self._reader.get()
        known = {"since": revision, "epoch": epoch, "mark": mark}
        rows = reader.query(self._tables.read_since, known)
        if not rows:
            raise self._lost()
        return delta_of(rows)

    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
        committed: Callable[[Committed], None] | None = None,
    ) -> int:
        writer = self._writer.get()

        def change(connection: sqlite3.Connection, found: _Found) -> tuple[Committed, object]:
            current, epoch, known = found
            mark = _new_mark()
            about = {
                "revision": current + 1,
                "mark": mark,
                "author": author,
                "reason": reason,
                "at": datetime.now(timezone.utc).isoformat(),
            }
            connection.execute(self._tables.raise_revision, about)
            rows = [{**about, "name": name, "raw": raw} for name, raw in raws.items()]
            try:
                connection.executemany(self._tables.write_history, rows)
                connection.executemany(self._tables.write_setting, rows)
            except UNSTORABLE as exc:
                raise unstorable(self.path, exc) from exc
            last = current + 1 - self._history_limit
            if last > 0:
                connection.execute(self._tables.forget, {"last": last, "most": PRUNED_AT_ONCE})
            delta = Delta(
                current + 1, epoch, tuple(map(Row._make, raws.items())), complete=False, mark=mark
            )
            return Committed(current, known, delta), writer.identity

        made, file = self._change(change, expected_revision, before_commit)
        # Else it was written where no one reads it.
        if committed is not None and writer.uses(file):
            committed(made)
        return made.delta.revision

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        def read(most: int) -> list[Any]:
            return self._reader.get().query(self._tables.history, {"name": name, "limit": most})

        return entries_within(read, entry_of, limit)

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        # No reader has this mark yet, so that one for all revisions is enough.
        mark = _new_mark() if dump.revision else ""
        # Rows of revision 0 would be newer than nothing.
        rows = [
            {"name": name, "raw": raw, "revision": dump.revision or 1}
            for name, raw in dump.raws.items()
        ]

        def replace(connection: sqlite3.Connection, _: _Found) -> None:
            for statement in self._tables.clear:
                connection.execute(statement)
            connection.execute(
                self._tables.raise_revision, {"revision": dump.revision, "mark": mark}
            )
            connection.executemany(
                self._tables.load_history,
                ({**history_row(entry), "mark": mark} for entry in dump.history),
            )
            connection.executemany(self._tables.write_setting, rows)

        with storable(self.path):
            self._change(replace, expected_revision, before_commit)

    def replaced(self) -> frozenset[str]:
        rows = self._reader.get().query(self._tables.replaced, {})
        if not rows:
            raise self._lost()
        return words_in(rows[0][0])

    def stand_in(
        self, epochs: Iterable[str], *, before_commit: Callable[[], None] | None = None
    ) -> None:
        def note(connection: sqlite3.Connection, _: _Found) -> None:
            (known,) = connection.execute(self._tables.replaced).fetchone()
            connection.execute(self._tables.stand_in, {"replaced": with_words(known, epochs)})

        self._change(note, None, before_commit)

    def enroll(self, app: str, record: str) -> None:
        def note(connection: sqlite3.Connection, _: _Found) -> None:
            (known,) = connection.execute(self._tables.apps).fetchone()
            connection.execute(self._tables.enroll, {"apps": with_app(known, app, record)})

        self._change(note, None, None)

    def apps(self) -> dict[str, str]:
        rows = self._reader.get().query(self._tables.apps, {})
        return apps_in(rows[0][0]) if rows else {}

    def report(self, report: WorkerReport) -> None:
        self._reports.put(report)

    def retract(self, report: WorkerReport) -> None:
        self._reports.remove(report)

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        return self._reports.list(self._reader.get(), max_age_s)

    def close(self) -> None:
        for kept in (self._reader.peek(), self._writer.peek()):
            if kept is not None:
                kept.close()

    def _change(
        self,
        run: Callable[[sqlite3.Connection, _Found], T],
        expected_revision: int | None,
        before_commit: Callable[[], None] | None,
    ) -> T:
        """Return what a function makes of a connection that has the write lock; commit then."""

        def changed(connection: sqlite3.Connection) -> T:
            found = connection.execute(self._tables.revision).fetchone()
            if found is None:
                raise self._lost()
            current = sound_revision(found[0], self)
            if expected_revision not in (None, current):
                raise RevisionConflict(expected_revision, current)
            return run(connection, found)

        return self._writer.get().commit(changed, before_commit)

    def _create_file(self) -> None:
        # SQLite gives the files that it makes beside it to its owner itself.
        try:
            make_shared_file(self.path)
        except OSError as exc:
            raise translation(self.path, exc) from exc

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        *schema, first_row = self._tables.schema
        for statement in [*schema, self._reports.table]:
            connection.execute(statement)
        connection.execute(first_row, {"epoch": uuid.uuid4().hex})

    def _has_schema(self, connection: sqlite3.Connection) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return (
            connection.execute(query, (self._tables.meta,)).fetchone() is not None
            and connection.execute(self._tables.is_prepared).fetchone() is not None
        )

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # Many first starts at once: each but one is refused.
        row = patiently(
            lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone(),
            self._write_timeout_s,
        )
        if row[0] != "wal":
            raise StoreError(
                f"{self.path} can't be kept in WAL mode (it stays {row[0]}): "
                "put it on a local disk, not on a network file system"
            )

    def _lost(self) -> StoreMissing:
        return StoreMissing(f"{self.path}: the revision is missing from {self._tables.meta}")


def _new_mark() -> str:
    return os.urandom(8).hex()
