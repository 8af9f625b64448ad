"""Queries of the peewee store about the reports of workers; the table is SQLAlchemy's."""

from __future__ import annotations

from typing import Any

import peewee

from ..base import WorkerReport
from ..sql.databases import CLOCKS
from .tables import column

_COLUMNS = [field for field in WorkerReport._fields if field != "age_s"]
_KEYS = ("app", "host", "pid")
_MOST_DEAD = 100


def dead(table: Any, dialect: str) -> Any:
    """Return the query for some reports that are older than their lifetime."""
    keys = (column(table, name) for name in _KEYS)
    return table.select(*keys).where(_age_s(table, dialect) > table.c.lifetime_s).limit(_MOST_DEAD)


def living(table: Any, dialect: str, max_age_s: float) -> Any:
    """Return the query for the reports of the living, their age last."""
    age_s = _age_s(table, dialect)
    return (
        table.select(*(column(table, name) for name in _COLUMNS), age_s)
        .where(age_s <= table.c.lifetime_s, age_s <= max_age_s)
        .order_by(*(column(table, name) for name in ("app", "host", "worker_id", "pid")))
    )


def put(table: Any, dialect: str, report: WorkerReport) -> Any:
    """Return the query that keeps a report instead of the process's earlier one."""
    values = {column(table, name): getattr(report, name) for name in _COLUMNS}
    values[table.c.at] = peewee.SQL(CLOCKS[dialect])
    # MySQL knows by itself which columns are the key.
    target = None if dialect == "mysql" else [column(table, name) for name in _KEYS]
    changed = [each for each in values if each.name not in _KEYS]
    return table.insert(values).on_conflict(conflict_target=target, preserve=changed)


def remove(table: Any, app: str, host: str, pid: int) -> Any:
    """Return the query that drops the report of a process."""
    return table.delete().where(table.c.app == app, table.c.host == host, table.c.pid == pid)


def _age_s(table: Any, dialect: str) -> Any:
    return peewee.fn.ABS(peewee.SQL(CLOCKS[dialect]) - table.c.at)
