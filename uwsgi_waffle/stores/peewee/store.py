"""The store in a peewee database."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

from ...backoff import Backoff
from ...errors import ConfigurationError, RevisionConflict, StoreUnavailable
from ...snapshot import Delta
from ..base import Dump, HistoryEntry, Store, WorkerReport, history_row
from ..sql.databases import is_transient
from ..sql.rows import delta_of
from .connections import Connection, Link, model_of
from .reports import WorkerStatements

T = TypeVar("T")

# SQLite takes no more than 999 parameters before its version 3.32.
_CHUNK = 500
_ATTEMPTS = 10


class PeeweeWaffleStore(Store):
    """Keeps settings in a peewee database, on connections of its own.

    They have the class and the parameters of the user's database, but never are its connections:
    no transaction of the user's is touched, and nothing that was opened before a fork is used.

    :param db: a peewee ``Database``, a proxy of one, or a ``FlaskDB``; the model's if left out.
        It may be initialised later, before WaffleConf's ``init_app``.
    :param model: your own key/value model, which then holds the raw texts; mixes in
        :class:`~uwsgi_waffle.stores.mixin.WaffleMixin`.
    :param prefix: what the names of our tables begin with.
    :param timeout_s: longest time that a read may block; 1 if neither this nor the app says.
        Connecting to PostgreSQL may take 2 s for each address of the host, its driver's minimum.
    :param write_timeout_s: longest time that a write may wait for other writers; else 5.
    :raises ConfigurationError: there is no database, or the model has no ``key`` or no ``value``.
    """

    calls_before_commit = True

    def __init__(
        self,
        db: Any = None,
        model: Any = None,
        *,
        prefix: str = "waffle_",
        timeout_s: float | None = None,
        write_timeout_s: float | None = None,
    ) -> None:
        if db is None:
            db = getattr(getattr(model, "_meta", None), "database", None)
        if db is None:
            raise ConfigurationError(
                "a PeeweeWaffleStore needs a peewee database: give it db, or a model whose Meta "
                "names one"
            )
        self._arguments = {"db": db, "model": model, "prefix": prefix}
        self._given = (timeout_s, write_timeout_s)
        self._timeout_s = timeout_s or 1.0
        self._write_timeout_s = write_timeout_s or 5.0
        self._model = None if model is None else model_of(model)
        self._link = Link(db, prefix, self._model)

    def __repr__(self) -> str:
        return f"<PeeweeWaffleStore {self._link.shown}>"

    def for_app(self, app: Any, *, timeout_s: float, write_timeout_s: float) -> PeeweeWaffleStore:
        return PeeweeWaffleStore(
            **self._arguments,
            timeout_s=self._given[0] or timeout_s,
            write_timeout_s=self._given[1] or write_timeout_s,
        )

    def prepare(self) -> None:
        """Make the tables and the row that holds the revision, unless they are there.

        :raises StoreUnavailable: the database can't be reached.
        :raises StoreError: the tables are missing, and can't be made.
        """
        with self._link.reading(self._timeout_s) as connection:
            if self._is_prepared(connection):
                return
        # Of many that make a table at once, all but one may fail.
        self._in_transaction(self._prepare, may_retry=lambda exc: True)

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        parameters = [epoch, mark, revision, mark, revision, revision, mark, revision]
        if self._model is not None:
            parameters *= 2
        rows = self._read(lambda sql: sql.read_since, parameters)
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
    ) -> int:
        def change(connection: Connection) -> int:
            sql = connection.sql
            mark = secrets.token_hex(8)
            revision = self._next_revision(connection, expected_revision, mark)
            old = dict(_select(connection, sql.select_values, raws))
            at = datetime.now(timezone.utc).isoformat()
            connection.run_many(
                sql.add_history,
                [
                    (revision, name, old.get(name), raw, author, reason, at, mark)
                    for name, raw in raws.items()
                ],
            )
            self._put(connection, raws, old, revision)
            return revision

        # A row that the user's own code put in meanwhile is there at the next attempt.
        return self._in_transaction(
            change,
            may_retry=lambda exc: _named(exc, "IntegrityError"),
            before_commit=before_commit,
        )

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        named = name is not None
        parameters = [name, limit] if named else [limit]
        rows = self._read(lambda sql: sql.history(named=named), parameters)
        return [HistoryEntry._make((*row[:6], datetime.fromisoformat(row[6]))) for row in rows]

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        def replace(connection: Connection) -> None:
            sql, raws = connection.sql, dump.raws
            mark = secrets.token_hex(8)
            self._next_revision(connection, expected_revision, mark)
            connection.run(sql.replace_meta, [dump.revision, uuid.uuid4().hex])
            for statement in sql.clear:
                connection.run(statement)
            entries = [(*history_row(entry).values(), mark) for entry in dump.history]
            connection.run_many(sql.add_history, entries)
            # Rows of revision 0 would be newer than nothing.
            revision = dump.revision or 1
            if self._model is None:
                rows = [(name, raw, revision) for name, raw in raws.items()]
                connection.run_many(sql.insert("marks", ["name", "raw", "revision"]), rows)
            else:
                known = dict(connection.run(sql.all_values))
                gone = dict.fromkeys(known.keys() - raws.keys())
                self._put(connection, {**raws, **gone}, known, revision)

        self._in_transaction(
            replace,
            may_retry=lambda exc: _named(exc, "IntegrityError"),
            before_commit=before_commit,
        )

    def report(self, report: WorkerReport) -> None:
        def tell(connection: Connection, sql: WorkerStatements) -> None:
            # Looked for first, because a deletion that finds nothing would lock rows all the same.
            connection.run_many(sql.retract, connection.run(sql.dead))
            connection.run(sql.report, report[:-1])

        self._tell(tell)

    def retract(self, report: WorkerReport) -> None:
        key = (report.app, report.host, report.pid)
        self._tell(lambda connection, sql: connection.run(sql.retract, key))

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        with self._link.reading(self._timeout_s) as connection:
            sql = WorkerStatements(connection.sql.dialect, connection.sql.workers)
            try:
                rows = connection.run(sql.living, [max_age_s])
            except Exception as exc:
                connection.drop()
                # As long as nobody reports, there is no table.
                if _lacks_table(exc):
                    return []
                raise
        return [WorkerReport._make((*row[:-1], float(row[-1]))) for row in rows]

    def _tell(self, tell: Callable[[Connection, WorkerStatements], object]) -> None:
        # On the connection that reads keep, so that a report need not open one.
        for attempt in range(3):
            with self._link.reading(self._timeout_s) as connection:
                sql = WorkerStatements(connection.sql.dialect, connection.sql.workers)
                try:
                    if attempt:
                        # Made only now, so that a database of an earlier release has it too.
                        connection.run(sql.create)
                    tell(connection, sql)
                    return
                except Exception as exc:
                    connection.drop()
                    # Of many that make a table at once, all but one may fail.
                    known = _lacks_table(exc) or _named(exc, "IntegrityError")
                    if attempt == 2 or not known:
                        raise

    def close(self) -> None:
        self._link.close()

    def _read(self, statement: Callable[[Any], str], parameters: list[Any]) -> list[Any]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            with self._link.reading(deadline - time.monotonic()) as connection:
                try:
                    return connection.run(statement(connection.sql), parameters)
                except Exception as exc:
                    # A database that was restarted closed the connection we kept.
                    kept = connection.used and _named(exc, "OperationalError", "InterfaceError")
                    connection.drop()
                    if not kept or time.monotonic() > deadline:
                        raise

    def _in_transaction(
        self,
        run: Callable[[Connection], T],
        *,
        may_retry: Callable[[Exception], bool],
        before_commit: Callable[[], None] | None = None,
    ) -> T:
        deadline = time.monotonic() + self._write_timeout_s
        backoff = Backoff(0.02, 0.2)
        attempt = 0
        while True:
            attempt += 1
            with self._link.writing(deadline - time.monotonic()) as connection:
                try:
                    return connection.in_transaction(lambda: run(connection), before_commit)
                except Exception as exc:
                    pause_s = backoff.next_s()
                    if (
                        time.monotonic() + pause_s > deadline
                        or not connection.is_driver_error(exc)
                        or not (is_transient(exc) or may_retry(exc))
                        or (attempt >= _ATTEMPTS and not is_transient(exc))
                    ):
                        raise
            time.sleep(pause_s)

    def _is_prepared(self, connection: Connection) -> bool:
        try:
            for probe in connection.sql.probes():
                connection.run(probe)
            return bool(connection.run(connection.sql.revision))
        except Exception as exc:
            connection.drop()
            if _lacks_table(exc):
                return False
            raise

    def _prepare(self, connection: Connection) -> None:
        for statement in connection.sql.schema():
            connection.run(statement)
        if not connection.run(connection.sql.revision):
            connection.run(connection.sql.make_meta, [uuid.uuid4().hex])

    def _next_revision(self, connection: Connection, expected: int | None, mark: str) -> int:
        # The update comes first: whoever made it holds the row until the transaction ends.
        connection.run(connection.sql.raise_revision, [mark])
        row = next(iter(connection.run(connection.sql.revision)), None)
        if row is None:
            raise self._lost()
        revision = int(row[0])
        if expected not in (None, revision - 1):
            raise RevisionConflict(expected, revision - 1)
        return revision

    def _put(
        self,
        connection: Connection,
        raws: Mapping[str, str | None],
        old: Mapping[str, str | None],
        revision: int,
    ) -> None:
        sql, model = connection.sql, self._model
        if model is None:
            new = [(name, raw, revision) for name, raw in raws.items() if name not in old]
            known = [(raw, revision, name) for name, raw in raws.items() if name in old]
            connection.run_many(sql.insert("marks", ["name", "raw", "revision"]), new)
            connection.run_many(sql.update("marks", ["raw", "revision"]), known)
            return
        connection.run_many(
            sql.delete_value, [(name,) for name, raw in raws.items() if raw is None and name in old]
        )
        kept = {name: raw for name, raw in raws.items() if raw is not None}
        changed = [(raw, name) for name, raw in kept.items() if name in old]
        connection.run_many(sql.update("values", [model.value]), changed)
        for name, raw in kept.items():
            if name not in old:
                row = {**model.defaults(), model.key: name, model.value: raw}
                connection.run(sql.insert("values", list(row)), list(row.values()))
        marked = dict(_select(connection, sql.select_marks, raws))
        new_marks = [(name, revision) for name in raws if name not in marked]
        connection.run_many(sql.insert("marks", ["name", "revision"]), new_marks)
        connection.run_many(
            sql.update("marks", ["revision"]), [(revision, name) for name in raws if name in marked]
        )

    def _lost(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._link.shown}: the row that holds the revision is missing: reload the workers "
            "to begin anew, or bring it back from a backup"
        )


def _select(
    connection: Connection, statement: Callable[[int], str], names: Iterable[str]
) -> Iterator[tuple[str, Any]]:
    wanted = list(names)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        for row in connection.run(statement(len(chunk)), chunk):
            yield row[0], row[1]


def _lacks_table(exc: BaseException) -> bool:
    # SQLite tells of a missing table by the error it has for everything.
    return _named(exc, "ProgrammingError") or "no such table" in str(exc)


def _named(exc: BaseException, *names: str) -> bool:
    # Every driver has classes of its own, but with the names of the DB-API.
    return any(kind.__name__ in names for kind in type(exc).__mro__)
