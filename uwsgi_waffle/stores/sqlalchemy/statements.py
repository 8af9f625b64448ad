"""The statements of a change in the SQLAlchemy store."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import sqlalchemy as sa

from ..sql.databases import NOTICE
from ..sql.statements import Statements, by_name, renamed
from .tables import Tables


class AlchemyStatements(Statements):
    """The statements of one change, in the transaction of a connection."""

    def __init__(self, connection: sa.Connection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables

    def raise_revision(self, mark: str) -> int | None:
        meta = self._tables.meta
        raised = sa.update(meta).values(revision=meta.c.revision + 1, mark=mark)
        if self._connection.dialect.update_returning:
            revision = self._connection.scalar(raised.returning(meta.c.revision))
        else:
            self._connection.execute(raised)
            revision = self._connection.scalar(sa.select(meta.c.revision))
        return None if revision is None else int(revision)

    def restart(self, revision: int) -> None:
        self._connection.execute(sa.update(self._tables.meta).values(revision=revision))

    def lock(self) -> bool:
        # SQLite, whose transaction has the lock already, is not asked for one.
        row = sa.select(self._tables.meta.c.revision).with_for_update()
        return self._connection.scalar(row) is not None

    def note(self, name: str) -> list[str | None]:
        return [row[0] for row in self._connection.execute(sa.select(self._tables.meta.c[name]))]

    def set_note(self, name: str, text: str) -> None:
        self._connection.execute(sa.update(self._tables.meta).values({name: text}))

    def notify(self, channel: str, message: str | None = None) -> None:
        text: Any = sa.literal_column(NOTICE) if message is None else sa.literal(message, sa.Text)
        notice = sa.func.pg_notify(sa.literal(channel, sa.Text), text)
        self._connection.execute(sa.select(notice).select_from(self._tables.meta))

    def stored(self, names: Iterable[str] | None) -> dict[str, Any]:
        return self._select(self._tables.name, self._tables.raw, names)

    def marked(self, names: Iterable[str]) -> Container[str]:
        marks = self._tables.marks
        return self._select(marks.c.name, marks.c.revision, names)

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._connection.execute(sa.insert(self._name(table).table), self._named(table, rows))

    def update(self, table: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            name = self._name(table)
            known = self._named(table, [{**row, "b_name": row["name"]} for row in rows])
            for row in known:
                del row[name.key]
            self._connection.execute(
                sa.update(name.table).where(name == sa.bindparam("b_name")), known
            )

    def delete(self, table: str, names: list[str] | None = None) -> None:
        name = self._name(table)
        if names is None:
            self._connection.execute(sa.delete(name.table))
            return
        self._connection.execute(
            sa.delete(name.table).where(name == sa.bindparam("b_name")),
            [{"b_name": each} for each in names],
        )

    def oldest(self) -> int | None:
        history = self._tables.history
        oldest: int | None = self._connection.scalar(sa.select(sa.func.min(history.c.revision)))
        return oldest

    def forget(self, last: int) -> None:
        history = self._tables.history
        self._connection.execute(sa.delete(history).where(history.c.revision <= last))

    def _name(self, table: str) -> sa.Column[Any]:
        """Return the column of a table that holds the setting's name."""
        column: sa.Column[Any]
        if table == "values":
            column = self._tables.name
        elif table == "marks":
            column = self._tables.marks.c.name
        else:
            column = self._tables.history.c.name
        return column

    def _named(self, table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if table != "values":
            return rows
        return renamed(rows, self._tables.name.key, self._tables.raw.key)

    def _select(
        self, name: sa.Column[Any], column: sa.Column[Any], names: Iterable[str] | None
    ) -> dict[str, Any]:
        query = sa.select(name, column)

        def rows_of(some: list[str] | None) -> Iterable[Any]:
            chosen = query if some is None else query.where(name.in_(some))
            return self._connection.execute(chosen)

        return by_name(names, rows_of)
