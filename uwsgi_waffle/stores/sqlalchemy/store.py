"""The store in any database that SQLAlchemy speaks to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from ...errors import ConfigurationError, StoreError, StoreUnavailable
from ...forking import PerProcess
from ...snapshot import Delta
from ..base import HistoryEntry, WorkerReport
from ..soundness import entries_within, sound_reports
from ..sql.changes import SqlStore
from ..sql.databases import loses_changes
from ..sql.rows import delta_of, entry_of
from . import reports
from .connections import EngineConnections, shown_url
from .migrations import leave_alone
from .statements import AlchemyStatements
from .tables import Tables, define_tables, read_since


class AlchemyWaffleStore(SqlStore[sa.Connection]):
    """Keeps settings in a database through SQLAlchemy Core, in tables of its own.

    Each read is one statement outside of any transaction; each change is one short transaction.
    Writers wait for each other at the row that holds the revision.

    :param db: a URL, an engine, or Flask-SQLAlchemy's ``db``. That may be bound to its app later.
    :param model: your own key/value model, which then holds the raw texts; mixes in
        :class:`~uwsgi_waffle.stores.mixin.WaffleMixin`.
    :param prefix: what the tables' names begin with.
    :param bind_key: which of Flask-SQLAlchemy's engines, if not the model's.
    :param timeout_s: longest time that a read may block, with connecting; 1 if neither this nor
        the app says.
    :param write_timeout_s: longest time that a write may block, likewise; else 5.
    :param history_limit: how many changes the history keeps, likewise; else 100,000.
    """

    def __init__(
        self,
        db: Any,
        model: Any = None,
        *,
        prefix: str = "waffle_",
        bind_key: str | None = None,
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
        self._db = db
        self._model = model
        self._bind_key = bind_key or getattr(getattr(model, "metadata", None), "info", {}).get(
            "bind_key"
        )
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
        self._by_engine: PerProcess[dict[sa.Engine, EngineConnections]] = PerProcess(dict)
        self._tables = tables = define_tables(None, model, prefix=prefix)
        self._read_since = read_since(tables)
        # The pids that found the table of reports, or made it.
        self._reporting: set[int] = set()

    def __repr__(self) -> str:
        shown = repr(self._db) if self._engine is None else shown_url(self._engine)
        return f"<AlchemyWaffleStore {shown}>"

    @property
    def identity(self) -> str:
        return f"{self._shown_name()} {self.prefix}"

    @property
    def outlives_process(self) -> bool:
        with contextlib.suppress(StoreUnavailable):
            connections = self._connections()
            return not connections.is_sqlite or connections.file is not None
        return True

    @property
    def tables(self) -> Tables:
        """The tables that this store reads and writes."""
        return self._tables

    def for_app(
        self, app: Any, *, timeout_s: float, write_timeout_s: float, history_limit: int | None
    ) -> AlchemyWaffleStore:
        store = AlchemyWaffleStore(
            self._db,
            self._model,
            prefix=self.prefix,
            bind_key=self._bind_key,
            timeout_s=self._given[0] or timeout_s,
            write_timeout_s=self._given[1] or write_timeout_s,
            history_limit=self._given[2] or history_limit,
        )
        store._app = app
        leave_alone(self.prefix)
        if self._engine is not None:
            store._engine = self._engine
        return store

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        known = {"since": revision, "epoch": epoch, "mark": mark}
        rows = self._attempts.read(
            lambda connection: connection.execute(self._read_since, known).fetchall()
        )
        if not rows:
            raise self._lost()
        return delta_of(rows)

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        table = self._tables.history
        wanted = sa.select(*(table.c[field] for field in HistoryEntry._fields))
        if name is not None:
            wanted = wanted.where(table.c.name == name)
        wanted = wanted.order_by(table.c.revision.desc(), table.c.name)

        def read(most: int) -> Sequence[Any]:
            query = wanted.limit(most)
            return self._attempts.read(lambda connection: connection.execute(query).fetchall())

        return entries_within(read, entry_of, limit)

    def report(self, report: WorkerReport) -> None:
        def tell(connection: sa.Connection, table: sa.Table) -> None:
            if os.getpid() not in self._reporting:
                reports.ensure(connection, table)
                self._reporting.add(os.getpid())
            if self._looks_for_dead():
                reports.drop_dead(connection, table)
            reports.report(connection, table, report)

        self._tell(tell)

    def retract(self, report: WorkerReport) -> None:
        self._tell(lambda connection, table: reports.retract(connection, table, report))

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        table = self._tables.workers

        def read(connection: sa.Connection) -> list[WorkerReport]:
            if not reports.has_table(connection, table):
                return []
            wanted = reports.workers(table, connection.dialect.name, max_age_s)
            return sound_reports(WorkerReport._make(row) for row in connection.execute(wanted))

        return self._reports_on_reader(read)

    def loses_changes(self) -> str | None:
        return self._attempts.read(
            lambda connection: loses_changes(
                connection.dialect.name, lambda query: connection.execute(sa.text(query)).scalar()
            )
        )

    def close(self) -> None:
        for connections in (self._by_engine.peek() or {}).values():
            connections.close()

    def _tell(self, tell: Callable[[sa.Connection, sa.Table], None]) -> None:
        def run(connection: sa.Connection) -> None:
            tell(connection, self._tables.workers)
            # Of a database in memory, whose connection is the user's.
            connection.commit()

        # On the connection that reads keep, so that a report need not open one.
        try:
            self._attempts.read(run)
        except StoreError:
            self._reporting.discard(os.getpid())
            raise

    def _connections(self) -> EngineConnections:
        engine = self._engine or self._app_engine()
        mine = self._by_engine.get()
        return mine.get(engine) or mine.setdefault(engine, EngineConnections(engine))

    def _statements(self, connection: sa.Connection) -> AlchemyStatements:
        return AlchemyStatements(connection, self._tables)

    def _is_prepared(self, connection: sa.Connection) -> bool:
        inspector = sa.inspect(connection)
        tables = self._tables
        return (
            all(inspector.has_table(table.name) for table in tables.own)
            and connection.scalar(sa.select(tables.meta.c.revision)) is not None
        )

    def _make_tables(self, connection: sa.Connection, epoch: str) -> None:
        tables = self._tables
        tables.meta.metadata.create_all(connection, tables=[*tables.own, tables.workers])
        if connection.scalar(sa.select(tables.meta.c.revision)) is None:
            connection.execute(
                sa.insert(tables.meta), {"id": 1, "revision": 0, "epoch": epoch, "mark": ""}
            )

    def _shown_name(self) -> str:
        with contextlib.suppress(StoreUnavailable):
            return self._connections().shown
        return repr(self)

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


def _engine_of(url: str | sa.URL) -> sa.Engine:
    try:
        engine = sa.create_engine(url)
    except (ArgumentError, ValueError):
        several = "" if "," not in str(url) else ", and several hosts as ?host=h1:5432&host=h2:5432"
        # Without the cause, whose text may hold the password.
        raise ConfigurationError(
            "the URL of the database is none that SQLAlchemy understands: write "
            f"dialect+driver://user:password@host/database, with special characters as %XX{several}"
        ) from None
    except ImportError as exc:
        name = sa.make_url(url).drivername
        raise ConfigurationError(
            f"the driver of {name}:// is not installed ({exc}): pip install it beside "
            "'uwsgi-waffle[sqlalchemy]'"
        ) from exc
    if engine.dialect.is_async:
        raise ConfigurationError(
            f"the driver of {engine.url.drivername}:// is for asyncio only: name another, such as "
            "postgresql+psycopg:// or mysql+pymysql://"
        )
    return engine
