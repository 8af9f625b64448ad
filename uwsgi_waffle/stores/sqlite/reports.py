"""The workers' reports in the SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from ...errors import StoreMissing
from ..base import WorkerReport
from ..soundness import sound_reports
from .connections import Reader, commit, connect, translated

_TABLE = """CREATE TABLE IF NOT EXISTS {p}workers (
    app TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    worker_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    staleness_s REAL,
    state TEXT NOT NULL,
    last_error TEXT,
    lifetime_s REAL NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (app, host, pid)
) WITHOUT ROWID"""

# A clock that was set back makes a report of the future, which must not stay until it comes.
_DROP_DEAD = "DELETE FROM {p}workers WHERE abs(:now - at) > lifetime_s"

_REPORT = """
    INSERT OR REPLACE INTO {p}workers VALUES
        (:app, :host, :pid, :worker_id, :revision, :staleness_s, :state, :last_error,
        :lifetime_s, :now)
"""

_RETRACT = "DELETE FROM {p}workers WHERE app = :app AND host = :host AND pid = :pid"

_LIST = """
    SELECT app, host, pid, worker_id, revision, staleness_s, state, last_error, lifetime_s,
        max(0.0, :now - at)
    FROM {p}workers WHERE abs(:now - at) <= min(lifetime_s, :max_age_s)
    ORDER BY app, host, worker_id, pid
"""

# A report is not worth waiting for: the next one comes in seconds.
_TIMEOUT_S = 0.1


class Reports:
    """Keeps the reports in a table that the first of them makes.

    :param prefix: what the table's name begins with; checked already.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._missing = f"no such table: {prefix}workers"

    def put(self, report: WorkerReport) -> None:
        """Keep a report instead of the process's earlier one, and drop those that ended.

        :raises StoreError: it could not be kept.
        """
        self._run(report, _DROP_DEAD, _REPORT)

    def remove(self, report: WorkerReport) -> None:
        """Forget the report of a process.

        :raises StoreError: it could not be forgotten.
        """
        self._run(report, _RETRACT)

    @property
    def table(self) -> str:
        """The statement that makes the table unless it is there."""
        return self._named(_TABLE)

    def list(self, reader: Reader, max_age_s: float) -> list[WorkerReport]:
        """Return the living processes' reports, ordered by app, host, worker and pid.

        :raises StoreUnavailable: the file can't be read within the reader's bound.
        """
        query = {"now": time.time(), "max_age_s": max_age_s}
        try:
            rows = reader.query(self._named(_LIST), query)
        except StoreMissing:
            # As long as nobody reports, there may be no table, and no file.
            return []
        return sound_reports(map(WorkerReport._make, rows))

    def _run(self, report: WorkerReport, *statements: str) -> None:
        values = {**report._asdict(), "now": time.time()}

        def run(connection: sqlite3.Connection) -> None:
            for statement in statements:
                connection.execute(self._named(statement), values)

        def run_with_table(connection: sqlite3.Connection) -> None:
            # Made only now, so that a database of an earlier release has it too.
            connection.execute(self.table)
            run(connection)

        with (
            translated(self._path),
            contextlib.closing(connect(self._path, _TIMEOUT_S)) as connection,
        ):
            # Lost with the power it may be, so it need not be flushed.
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                commit(connection, run, wait_s=_TIMEOUT_S)
            except sqlite3.OperationalError as exc:
                if not self._is_missing(exc):
                    raise
                commit(connection, run_with_table, wait_s=_TIMEOUT_S)

    def _is_missing(self, exc: BaseException | None) -> bool:
        return isinstance(exc, sqlite3.OperationalError) and self._missing in str(exc)

    def _named(self, statement: str) -> str:
        return statement.format(p=self._prefix)
