"""The statements of a change in the peewee store."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import peewee

from ..sql.databases import NOTICE
from ..sql.statements import Statements, by_name, renamed
from .connections import Connection
from .tables import Tables, column


class PeeweeStatements(Statements):
    """The statements of one change, in the transaction of a connection."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables

    def raise_revision(self, mark: str) -> int | None:
        meta = self._tables.meta
        raised = meta.update({meta.c.revision: meta.c.revision + 1, meta.c.mark: mark})
        if self._connection.dialect == "postgresql":
            rows = self._connection.run(raised.returning(meta.c.revision))
        else:
            self._connection.run(raised)
            rows = self._connection.run(meta.select(meta.c.revision))
        row = next(iter(rows), None)
        return None if row is None else int(row[0])

    def restart(self, revision: int) -> None:
        meta = self._tables.meta
        self._connection.run(meta.update({meta.c.revision: revision}))

    def lock(self) -> bool:
        row = self._tables.meta.select(self._tables.meta.c.revision)
        # A transaction of SQLite has the lock already.
        is_sqlite = self._connection.dialect == "sqlite"
        return bool(self._connection.run(row if is_sqlite else row.for_update()))

    def note(self, name: str) -> list[str | None]:
        meta = self._tables.meta
        return [row[0] for row in self._connection.run(meta.select(column(meta, name)))]

    def set_note(self, name: str, text: str) -> None:
        meta = self._tables.meta
        self._connection.run(meta.update({column(meta, name): text}))

    def notify(self, channel: str, message: str | None = None) -> None:
        text = peewee.SQL(NOTICE) if message is None else message
        self._connection.run(self._tables.meta.select(peewee.fn.pg_notify(channel, text)))

    def stored(self, names: Iterable[str] | None) -> dict[str, Any]:
        values = self._tables.values
        return self._select(values, self._tables.raw_of(values), names)

    def marked(self, names: Iterable[str]) -> Container[str]:
        marks = self._tables.marks
        return self._select(marks, marks.c.revision, names)

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        model = self._tables.model
        if table == "values" and model is not None:
            # What the model fills its other columns with may differ from row to row.
            for row in self._named(table, rows):
                self._connection.run(self._inserting(table, {**model.defaults(), **row}))
            return
        # Compiled once, with the name of each column in its own place.
        names = {name: name for name in rows[0]}
        self._connection.run_many(self._inserting(table, names), rows)

    def update(self, table: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        source = self._source(table)
        columns = self._named(table, [{name: name for name in rows[0] if name != "name"}])[0]
        changed = {column(source, name): value for name, value in columns.items()}
        query = source.update(changed).where(self._tables.name_of(source) == "name")
        self._connection.run_many(query, rows)

    def delete(self, table: str, names: list[str] | None = None) -> None:
        source = self._source(table)
        if names is None:
            self._connection.run(source.delete())
            return
        query = source.delete().where(self._tables.name_of(source) == "name")
        self._connection.run_many(query, [{"name": name} for name in names])

    def oldest(self) -> int | None:
        history = self._tables.history
        oldest = history.select(peewee.fn.MIN(history.c.revision))
        revision: int | None = self._connection.run(oldest)[0][0]
        return revision

    def forget(self, last: int) -> None:
        history = self._tables.history
        self._connection.run(history.delete().where(history.c.revision <= last))

    def _source(self, table: str) -> Any:
        return getattr(self._tables, table)

    def _inserting(self, table: str, row: dict[str, Any]) -> Any:
        source = self._source(table)
        return source.insert({column(source, name): value for name, value in row.items()})

    def _named(self, table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        model = self._tables.model
        if table != "values" or model is None:
            return rows
        return renamed(rows, model.key, model.value)

    def _select(self, source: Any, wanted: Any, names: Iterable[str] | None) -> dict[str, Any]:
        name = self._tables.name_of(source)
        query = source.select(name, wanted)

        def rows_of(some: list[str] | None) -> list[Any]:
            return self._connection.run(query if some is None else query.where(name.in_(some)))

        return by_name(names, rows_of)
