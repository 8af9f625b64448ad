"""The reports of workers in the SQLAlchemy store."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from ..base import WorkerReport
from ..sql.databases import CLOCKS

_MOST_DEAD = 100


def drop_dead(connection: sa.Connection, table: sa.Table) -> None:
    """Drop some of the dead. Each statement may be its own transaction."""
    now = _now(connection)
    # Looked for first, because a deletion that finds nothing would lock rows all the same.
    dead = connection.execute(
        sa.select(table.c.app, table.c.host, table.c.pid)
        .where(sa.func.abs(now - table.c.at) > table.c.lifetime_s)
        .limit(_MOST_DEAD)
    ).all()
    for app, host, pid in dead:
        connection.execute(sa.delete(table).where(_is(table, app, host, pid)))


def report(connection: sa.Connection, table: sa.Table, told: WorkerReport) -> None:
    """Keep a report."""
    values: dict[str, Any] = told._asdict()
    del values["age_s"]
    values["at"] = _now(connection)
    name = connection.dialect.name
    if name in ("postgresql", "sqlite"):
        insert: Any = postgresql.insert if name == "postgresql" else sqlite.insert
        keys = [column.name for column in table.primary_key]
        connection.execute(
            insert(table).values(values).on_conflict_do_update(index_elements=keys, set_=values)
        )
    elif name in ("mysql", "mariadb"):
        connection.execute(mysql.insert(table).values(values).on_duplicate_key_update(values))
    else:
        retract(connection, table, told)
        connection.execute(sa.insert(table).values(values))


def retract(connection: sa.Connection, table: sa.Table, told: WorkerReport) -> None:
    """Drop the report of a process."""
    connection.execute(sa.delete(table).where(_is(table, told.app, told.host, told.pid)))


def workers(table: sa.Table, dialect: str, max_age_s: float) -> sa.Select[Any]:
    """Return the statement that reads the reports of the living."""
    c = table.c
    age_s = sa.func.abs(_now_of(dialect) - c.at)
    return (
        sa.select(*(c[field] for field in WorkerReport._fields if field != "age_s"), age_s)
        .where(age_s <= c.lifetime_s, age_s <= max_age_s)
        .order_by(c.app, c.host, c.worker_id, c.pid)
    )


def ensure(connection: sa.Connection, table: sa.Table) -> None:
    """Make the table, unless it is there: a database of an earlier release lacks it."""
    if has_table(connection, table):
        return
    try:
        table.create(connection)
    except SQLAlchemyError:
        # Of many that make a table at once, all but one may fail.
        connection.rollback()
        if not has_table(connection, table):
            raise


def has_table(connection: sa.Connection, table: sa.Table) -> bool:
    """Return whether the table is there."""
    return sa.inspect(connection).has_table(table.name)


def _now(connection: sa.Connection) -> sa.ColumnElement[float]:
    return _now_of(connection.dialect.name)


def _now_of(dialect: str) -> sa.ColumnElement[float]:
    text = CLOCKS.get(dialect)
    if text is None:
        return sa.literal(time.time(), sa.Double())
    return sa.literal_column(text, sa.Double())


def _is(table: sa.Table, app: str, host: str, pid: int) -> sa.ColumnElement[bool]:
    return (table.c.app == app) & (table.c.host == host) & (table.c.pid == pid)
