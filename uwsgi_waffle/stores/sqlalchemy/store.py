"""The store in any database that SQLAlchemy speaks to."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from ...backoff import Backoff
from ...errors import ConfigurationError, RevisionConflict, StoreError, StoreUnavailable
from ...forking import PerProcess
from ...snapshot import Delta
from ..base import Dump, HistoryEntry, Store, WorkerReport, history_row
from ..sql.databases import is_transient
from ..sql.rows import delta_of
from . import reports
from .connections import Connections, shown_url, translated
from .tables import Tables, define_tables, read_since

T = TypeVar("T")

# SQLite takes no more than 999 parameters before its version 3.32.
_CHUNK = 500
_ATTEMPTS = 10


class AlchemyWaffleStore(Store):
    """Keeps settings in a database through SQLAlchemy Core, in tables of its own.

    Each read is one statement outside of any transaction; each change is one short transaction
    on a connection of its own. Writers wait for each other at the row that holds the revision.

    :param db: a URL, an engine, or Flask-SQLAlchemy's ``db``. That may be bound to its app later.
    :param model: your own key/value model, which then holds the raw texts; mixes in
        :class:`~uwsgi_waffle.stores.mixin.WaffleMixin`.
    :param prefix: what the names of our tables begin with.
    :param bind_key: which of Flask-SQLAlchemy's engines, if not the model's.
    :param timeout_s: longest time that a read may block; 1 if neither this nor the app says.
        Connecting to PostgreSQL may take 2 s for each address of the host, its driver's minimum.
    :param write_timeout_s: longest time that a write may wait for other writers; else 5.
    """

    calls_before_commit = True

    def __init__(
        self,
        db: Any,
        model: Any = None,
        *,
        prefix: str = "waffle_",
        bind_key: str | None = None,
        timeout_s: float | None = None,
        write_timeout_s: float | None = None,
    ) -> None:
        self._db = db
        self._model = model
        self._prefix = prefix
        self._bind_key = bind_key or getattr(getattr(model, "metadata", None), "info", {}).get(
            "bind_key"
        )
        self._given = (timeout_s, write_timeout_s)
        self._timeout_s = timeout_s or 1.0
        self._write_timeout_s = write_timeout_s or 5.0
        self._app: Any = None
        self._engine: sa.Engine | None = None
        if isinstance(db, str | sa.URL):
            self._engine = _engine_of(db)
        elif isinstance(db, sa.Engine):
            self._engine = db
        elif not hasattr(type(db), "engines"):
            raise ConfigurationError(
                f"an AlchemyWaffleStore needs a URL, an engine or Flask-SQLAlchemy's db, "
                f"got {type(db).__name__}"
            )
        # One for each engine, because one db may serve several apps.
        self._connections: PerProcess[dict[sa.Engine, Connections]] = PerProcess(dict)
        self._tables = tables = define_tables(None, model, prefix=prefix)
        self._read_since = read_since(tables)
        # The pids that found the table of reports, or made it.
        self._reporting: set[int] = set()

    def __repr__(self) -> str:
        shown = repr(self._db) if self._engine is None else shown_url(self._engine)
        return f"<AlchemyWaffleStore {shown}>"

    @property
    def tables(self) -> Tables:
        """The tables that this store reads and writes."""
        return self._tables

    def for_app(self, app: Any, *, timeout_s: float, write_timeout_s: float) -> AlchemyWaffleStore:
        store = AlchemyWaffleStore(
            self._db,
            self._model,
            prefix=self._prefix,
            bind_key=self._bind_key,
            timeout_s=self._given[0] or timeout_s,
            write_timeout_s=self._given[1] or write_timeout_s,
        )
        store._app = app
        if self._engine is not None:
            store._engine = self._engine
        return store

    def prepare(self) -> None:
        """Make the tables and the row that holds the revision, unless they are there.

        :raises StoreUnavailable: the database can't be reached.
        :raises StoreError: the tables are missing, and can't be made.
        """
        with self._translated() as connections, connections.reading(self._timeout_s) as connection:
            if self._is_prepared(connection):
                return
        # Of many that make a table at once, all but one may fail.
        self._in_transaction(self._prepare, may_retry=lambda exc: True)

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        known = {"since": revision, "epoch": epoch, "mark": mark}
        rows = self._read(self._read_since, known)
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
        def change(connection: sa.Connection) -> int:
            mark = secrets.token_hex(8)
            revision = self._next_revision(connection, expected_revision, mark)
            old = self._stored(connection, raws)
            at = datetime.now(timezone.utc).isoformat()
            connection.execute(
                sa.insert(self._tables.history),
                [
                    {
                        "revision": revision,
                        "name": name,
                        "old_raw": old.get(name),
                        "new_raw": raw,
                        "author": author,
                        "reason": reason,
                        "at": at,
                        "mark": mark,
                    }
                    for name, raw in raws.items()
                ],
            )
            self._put(connection, raws, old, revision)
            return revision

        # A row that the user's own code put in meanwhile is there at the next attempt.
        return self._in_transaction(
            change,
            may_retry=lambda exc: isinstance(exc, IntegrityError),
            before_commit=before_commit,
        )

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        table = self._tables.history
        wanted = sa.select(*(table.c[field] for field in HistoryEntry._fields))
        if name is not None:
            wanted = wanted.where(table.c.name == name)
        wanted = wanted.order_by(table.c.revision.desc(), table.c.name).limit(limit)
        rows = self._read(wanted)
        return [HistoryEntry._make((*row[:6], datetime.fromisoformat(row[6]))) for row in rows]

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        def replace(connection: sa.Connection) -> None:
            tables = self._tables
            mark = secrets.token_hex(8)
            # Takes the lock on the row, like every change.
            self._next_revision(connection, expected_revision, mark)
            connection.execute(
                sa.update(tables.meta).values(revision=dump.revision, epoch=uuid.uuid4().hex)
            )
            connection.execute(sa.delete(tables.history))
            entries = [{**history_row(entry), "mark": mark} for entry in dump.history]
            _insert(connection, tables.history, entries)
            connection.execute(sa.delete(tables.marks))
            # Rows of revision 0 would be newer than nothing.
            revision = dump.revision or 1
            if tables.values is not tables.marks:
                self._replace_values(connection, dump.raws)
                rows: list[dict[str, Any]] = [
                    {"name": name, "revision": revision} for name in dump.raws
                ]
            else:
                rows = [
                    {"name": name, "raw": raw, "revision": revision}
                    for name, raw in dump.raws.items()
                ]
            _insert(connection, tables.marks, rows)

        self._in_transaction(
            replace,
            may_retry=lambda exc: isinstance(exc, IntegrityError),
            before_commit=before_commit,
        )

    def _replace_values(self, connection: sa.Connection, raws: Mapping[str, str]) -> None:
        """Make the user's own table hold these settings and no others."""
        column, key = self._tables.name, self._tables.raw.key
        known = set(connection.scalars(sa.select(column)))
        gone = [{"b_name": name} for name in known - raws.keys()]
        if gone:
            connection.execute(
                sa.delete(column.table).where(column == sa.bindparam("b_name")), gone
            )
        _upsert(connection, column, {name: {key: raw} for name, raw in raws.items()}, known)

    def report(self, report: WorkerReport) -> None:
        def tell(connection: sa.Connection, table: sa.Table) -> None:
            if os.getpid() not in self._reporting:
                reports.ensure(connection, table)
                self._reporting.add(os.getpid())
            reports.report(connection, table, report)

        self._tell(tell)

    def retract(self, report: WorkerReport) -> None:
        self._tell(lambda connection, table: reports.retract(connection, table, report))

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        table = self._tables.workers
        with self._translated() as connections, connections.reading(self._timeout_s) as connection:
            if not reports.has_table(connection, table):
                return []
            wanted = reports.workers(table, connection.dialect.name, max_age_s)
            return [WorkerReport._make(row) for row in connection.execute(wanted)]

    def _tell(self, tell: Callable[[sa.Connection, sa.Table], None]) -> None:
        # On the connection that reads keep, so that a report need not open one.
        try:
            with (
                self._translated() as connections,
                connections.reading(self._timeout_s) as connection,
            ):
                tell(connection, self._tables.workers)
                # Of a database in memory, whose connection is the user's.
                connection.commit()
        except StoreError:
            self._reporting.discard(os.getpid())
            raise

    def close(self) -> None:
        for connections in (self._connections.peek() or {}).values():
            connections.close()

    def _read(
        self, statement: sa.Executable, parameters: Mapping[str, object] | None = None
    ) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + self._timeout_s
        with self._translated() as connections:
            while True:
                try:
                    with connections.reading(deadline - time.monotonic()) as connection:
                        return [
                            tuple(row) for row in connection.execute(statement, parameters or {})
                        ]
                except DBAPIError as exc:
                    # A database that was restarted closed the connection we kept; SQLAlchemy
                    # drops it, so that the next attempt connects anew, or fails otherwise.
                    if not exc.connection_invalidated or time.monotonic() > deadline:
                        raise

    def _in_transaction(
        self,
        run: Callable[[sa.Connection], T],
        *,
        may_retry: Callable[[Exception], bool],
        before_commit: Callable[[], None] | None = None,
    ) -> T:
        deadline = time.monotonic() + self._write_timeout_s
        backoff = Backoff(0.02, 0.2)
        attempt = 0
        with self._translated() as connections:
            while True:
                attempt += 1
                try:
                    rest_s = deadline - time.monotonic()
                    return connections.change(run, rest_s, before_commit)
                except SQLAlchemyError as exc:
                    pause_s = backoff.next_s()
                    if (
                        time.monotonic() + pause_s > deadline
                        or not (is_transient(exc) or may_retry(exc))
                        or (attempt >= _ATTEMPTS and not is_transient(exc))
                    ):
                        raise
                    time.sleep(pause_s)

    def _is_prepared(self, connection: sa.Connection) -> bool:
        inspector = sa.inspect(connection)
        tables = self._tables
        return (
            all(inspector.has_table(table.name) for table in tables.own)
            and connection.scalar(sa.select(tables.meta.c.revision)) is not None
        )

    def _prepare(self, connection: sa.Connection) -> None:
        tables = self._tables
        tables.meta.metadata.create_all(connection, tables=tables.own)
        if connection.scalar(sa.select(tables.meta.c.revision)) is None:
            row = {"id": 1, "revision": 0, "epoch": uuid.uuid4().hex}
            connection.execute(sa.insert(tables.meta), row)

    def _next_revision(self, connection: sa.Connection, expected: int | None, mark: str) -> int:
        # The update comes first: whoever made it holds the row until the end of the transaction.
        meta = self._tables.meta
        connection.execute(sa.update(meta).values(revision=meta.c.revision + 1, mark=mark))
        revision = connection.scalar(sa.select(meta.c.revision))
        if revision is None:
            raise self._lost()
        if expected not in (None, revision - 1):
            raise RevisionConflict(expected, revision - 1)
        return int(revision)

    def _stored(self, connection: sa.Connection, names: Iterable[str]) -> dict[str, Any]:
        """Return the raws that are stored, by name."""
        tables = self._tables
        return dict(_select(connection, tables.name, tables.raw, names))

    def _put(
        self,
        connection: sa.Connection,
        raws: Mapping[str, str | None],
        old: Mapping[str, str | None],
        revision: int,
    ) -> None:
        marks, values = self._tables.marks, self._tables.values
        if values is marks:
            rows = {name: {"raw": raw, "revision": revision} for name, raw in raws.items()}
            _upsert(connection, marks.c.name, rows, old)
            return
        gone = [name for name, raw in raws.items() if raw is None and name in old]
        if gone:
            column = self._tables.name
            connection.execute(
                sa.delete(column.table).where(column == sa.bindparam("b_name")),
                [{"b_name": name} for name in gone],
            )
        key = self._tables.raw.key
        rows = {name: {key: raw} for name, raw in raws.items() if raw is not None}
        _upsert(connection, self._tables.name, rows, old)
        known = dict(_select(connection, marks.c.name, marks.c.revision, raws))
        rows = {name: {"revision": revision} for name in raws}
        _upsert(connection, marks.c.name, rows, known)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[Connections]:
        engine = self._engine or self._app_engine()
        mine = self._connections.get()
        connections = mine.get(engine) or mine.setdefault(engine, Connections(engine))
        with translated(connections.shown):
            yield connections

    def _app_engine(self) -> sa.Engine:
        try:
            with self._app.app_context() if self._app is not None else contextlib.nullcontext():
                engine: sa.Engine = self._db.engines[self._bind_key]
        except RuntimeError as exc:
            raise StoreUnavailable(
                f"Flask-SQLAlchemy's db has no app yet ({str(exc).splitlines()[0]}): call "
                "db.init_app(app) before WaffleConf's init_app"
            ) from exc
        except KeyError as exc:
            raise StoreUnavailable(
                f"Flask-SQLAlchemy's db has no bind {exc}: name it in SQLALCHEMY_BINDS"
            ) from exc
        return engine

    def _lost(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the revision is missing from {self._tables.meta.name}: reload the workers to begin "
            "anew, or bring the row back from a backup"
        )


def _select(
    connection: sa.Connection,
    name: sa.Column[Any],
    column: sa.Column[Any],
    names: Iterable[str],
) -> Iterator[tuple[str, Any]]:
    wanted = list(names)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        for row in connection.execute(sa.select(name, column).where(name.in_(chunk))):
            yield row[0], row[1]


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)


def _upsert(
    connection: sa.Connection,
    name: sa.Column[Any],
    rows: Mapping[str, Mapping[str, Any]],
    known: Container[str],
) -> None:
    """Update the rows whose names are known, insert the others.

    In two statements that every database has; the lock on the revision's row keeps others out.
    """
    new = [{name.key: key, **row} for key, row in rows.items() if key not in known]
    old = [{"b_name": key, **row} for key, row in rows.items() if key in known]
    if new:
        connection.execute(sa.insert(name.table), new)
    if old:
        connection.execute(sa.update(name.table).where(name == sa.bindparam("b_name")), old)


def _engine_of(url: str | sa.URL) -> sa.Engine:
    try:
        return sa.create_engine(url)
    except (ArgumentError, ValueError):
        # Without the cause, whose text may hold the password.
        raise ConfigurationError(
            "the URL of the database is none that SQLAlchemy understands: write "
            "dialect+driver://user:password@host/database, with special characters as %XX"
        ) from None
    except ImportError as exc:
        name = sa.make_url(url).drivername
        raise ConfigurationError(
            f"the driver of {name}:// is not installed ({exc}): pip install it beside "
            "'uwsgi-waffle[sqlalchemy]'"
        ) from exc
