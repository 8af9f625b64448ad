"""SQL of the peewee store about the reports of workers; the table is that of SQLAlchemy's."""

from __future__ import annotations

from ..base import WorkerReport
from .tables import MYSQL, SQLITE, Dialect

# The server's clock, in seconds: those of the hosts need not agree.
_NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "UNIX_TIMESTAMP(NOW(6))",
}
_COLUMNS = [field for field in WorkerReport._fields if field != "age_s"]
_KEYS = ("app", "host", "pid")
_MOST_DEAD = 100


class WorkerStatements:
    """Every statement about reports.

    :param table: the quoted name of the table.
    """

    def __init__(self, dialect: Dialect, table: str) -> None:
        name = "sqlite" if dialect is SQLITE else "mysql" if dialect is MYSQL else "postgresql"
        now, mark = _NOW[name], dialect.param
        if mark == "%s":
            table = table.replace("%", "%%")
        columns = ", ".join([*_COLUMNS, "at"])
        marks = ", ".join([mark] * len(_COLUMNS))
        changed = [column for column in [*_COLUMNS, "at"] if column not in _KEYS]
        if name == "mysql":
            update = "ON DUPLICATE KEY UPDATE " + ", ".join(f"{c} = VALUES({c})" for c in changed)
        else:
            sets = ", ".join(f"{column} = excluded.{column}" for column in changed)
            update = f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET {sets}"
        double = "REAL" if name == "sqlite" else "DOUBLE PRECISION"
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {table} (app {dialect.name} NOT NULL, "
            f"host {dialect.name} NOT NULL, pid INTEGER NOT NULL, worker_id INTEGER NOT NULL, "
            f"revision BIGINT NOT NULL, staleness_s {double}, state VARCHAR(32) NOT NULL, "
            f"last_error {dialect.text}, lifetime_s {double} NOT NULL, at {double} NOT NULL, "
            f"PRIMARY KEY (app, host, pid)){dialect.table_end}"
        )
        self.probe = f"SELECT 1 FROM {table} WHERE 1 = 0"
        self.report = f"INSERT INTO {table} ({columns}) VALUES ({marks}, {now}) {update}"
        self.retract = f"DELETE FROM {table} WHERE app = {mark} AND host = {mark} AND pid = {mark}"
        age_s = f"ABS({now} - at)"
        self.dead = (
            f"SELECT app, host, pid FROM {table} WHERE {age_s} > lifetime_s LIMIT {_MOST_DEAD}"
        )
        self.living = (
            f"SELECT {', '.join(_COLUMNS)}, {age_s} FROM {table} "
            f"WHERE {age_s} <= lifetime_s AND {age_s} <= {mark} "
            "ORDER BY app, host, worker_id, pid"
        )
