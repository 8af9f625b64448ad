"""The store in a peewee database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import peewee

from ...errors import ConfigurationError
from ...snapshot import Delta
from ..base import HistoryEntry, WorkerReport
from ..soundness import entries_within, sound_reports
from ..sql.changes import SqlStore
from ..sql.databases import is_failure, is_named, lacks_table, loses_changes
from ..sql.rows import delta_of, entry_of
from . import reports
from .connections import Connection, Link
from .statements import PeeweeStatements
from .tables import Tables, column, model_of, schema


class PeeweeWaffleStore(SqlStore[Connection]):
    """Keeps settings in a peewee database, on connections of its own.

    They have the class and the parameters of the user's database, but never are its connections:
    no transaction of the user's is touched, and nothing that was opened before a fork is used.

    :param db: a peewee ``Database``, a proxy of one, or a ``FlaskDB``; the model's if left out.
        It may be initialised later, before WaffleConf's ``init_app``.
    :param model: your own key/value model, which then holds the raw texts; mixes in
        :class:`~uwsgi_waffle.stores.mixin.WaffleMixin`.
    :param prefix: what the tables' names begin with.
    :param timeout_s: longest time that a read may block, with connecting; 1 if neither this nor
        the app says.
    :param write_timeout_s: longest time that a write may block, likewise; else 5.
    :param history_limit: how many changes the history keeps, likewise; else 100,000.
    :raises ConfigurationError: there is no database, or the model has no ``key`` or no ``value``.
    """

    def __init__(
        self,
        db: Any = None,
        model: Any = None,
        *,
        prefix: str = "waffle_",
        timeout_s: float | None = None,
        write_timeout_s: float | None = None,
        history_limit: int | None = None,
    ) -> None:
        super().__init__(
            prefix=prefix,
            has_model=model is not None,
            timeout_s=timeout_s,
            write_timeout_s=write_timeout_s,
            history_limit=history_limit,
        )
        if db is None:
            db = getattr(getattr(model, "_meta", None), "database", None)
        if db is None:
            raise ConfigurationError(
                "a PeeweeWaffleStore needs a peewee database: give it db, or a model whose Meta "
                "names one"
            )
        self._arguments = {"db": db, "model": model, "prefix": prefix}
        self._tables = Tables(prefix, None if model is None else model_of(model))
        self._link = Link(db)

    def __repr__(self) -> str:
        return f"<PeeweeWaffleStore {self._link.shown}>"

    @property
    def identity(self) -> str:
        return f"{self._link.shown} {self.prefix}"

    def for_app(
        self, app: Any, *, timeout_s: float, write_timeout_s: float, history_limit: int | None
    ) -> PeeweeWaffleStore:
        return PeeweeWaffleStore(
            **self._arguments,
            timeout_s=self._given[0] or timeout_s,
            write_timeout_s=self._given[1] or write_timeout_s,
            history_limit=self._given[2] or history_limit,
        )

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        query = self._tables.read_since(revision, epoch, mark)
        rows = self._attempts.read(lambda connection: connection.run(query))
        if not rows:
            raise self._lost()
        return delta_of(rows)

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        table = self._tables.history
        query = table.select(*(column(table, field) for field in HistoryEntry._fields))
        if name is not None:
            query = query.where(table.c.name == name)
        query = query.order_by(table.c.revision.desc(), table.c.name)

        def read(most: int) -> Sequence[Any]:
            wanted = query.limit(most)
            return self._attempts.read(lambda connection: connection.run(wanted))

        return entries_within(read, entry_of, limit)

    def report(self, report: WorkerReport) -> None:
        table = self._tables.workers

        def tell(connection: Connection) -> None:
            # Looked for first, because a deletion that finds nothing would lock rows all the same.
            if self._looks_for_dead():
                for key in connection.run(reports.dead(table, connection.dialect)):
                    connection.run(reports.remove(table, *key))
            connection.run(reports.put(table, connection.dialect, report))

        self._tell(tell)

    def retract(self, report: WorkerReport) -> None:
        query = reports.remove(self._tables.workers, report.app, report.host, report.pid)
        self._tell(lambda connection: connection.run(query))

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        table = self._tables.workers

        def read(connection: Connection) -> list[Any]:
            try:
                return connection.run(reports.living(table, connection.dialect, max_age_s))
            except Exception as exc:
                # As long as nobody reports, there is no table.
                if is_failure(exc) and lacks_table(exc):
                    return []
                raise

        rows = self._reports_on_reader(read)
        return sound_reports(WorkerReport._make((*row[:-1], float(row[-1]))) for row in rows)

    def loses_changes(self) -> str | None:
        return self._attempts.read(
            lambda connection: loses_changes(
                connection.dialect, lambda query: connection.run(query)[0][0]
            )
        )

    def close(self) -> None:
        self._link.close()

    def _tell(self, tell: Callable[[Connection], object]) -> None:
        def run(connection: Connection) -> None:
            for is_last in (False, False, True):
                try:
                    tell(connection)
                    return
                except Exception as exc:
                    # Of many that make a table at once, all but one may fail.
                    known = lacks_table(exc) or is_named(exc, "IntegrityError")
                    if is_last or not is_failure(exc) or not known:
                        raise
                # Made only now, so that a database of an earlier release has it too.
                connection.run(schema(connection.db, self._tables, reports_only=True)[0])

        # On the connection that reads keep, so that a report need not open one.
        self._attempts.read(run)

    def _connections(self) -> Link:
        return self._link

    def _statements(self, connection: Connection) -> PeeweeStatements:
        return PeeweeStatements(connection, self._tables)

    def _is_prepared(self, connection: Connection) -> bool:
        tables = self._tables
        try:
            for table in (tables.history, tables.marks):
                connection.run(table.select(peewee.SQL("1")).where(peewee.SQL("1 = 0")))
            return bool(connection.run(tables.meta.select(tables.meta.c.revision)))
        except Exception as exc:
            if is_failure(exc) and lacks_table(exc):
                return False
            raise

    def _make_tables(self, connection: Connection, epoch: str) -> None:
        meta = self._tables.meta
        for statement in schema(connection.db, self._tables):
            connection.run(statement)
        if not connection.run(meta.select(meta.c.revision)):
            row = {meta.c.id: 1, meta.c.revision: 0, meta.c.epoch: epoch, meta.c.mark: ""}
            connection.run(meta.insert(row))
