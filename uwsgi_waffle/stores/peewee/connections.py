"""Connections of our own that are made as a peewee database of the user's makes its."""

from __future__ import annotations

import contextlib
import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import peewee

from ...errors import StoreError, StoreUnavailable
from ...forking import PerProcess, undivided
from ...masking import redact
from ..sql.databases import BEGIN, bounds, committing, is_failure, whole_s, with_all_characters
from ..sql.deadline import cut_after, within
from ..sql.rows import readable

T = TypeVar("T")

_DIALECTS: tuple[tuple[type[Any], str], ...] = (
    (peewee.SqliteDatabase, "sqlite"),
    (peewee.PostgresqlDatabase, "postgresql"),
    (peewee.MySQLDatabase, "mysql"),
)
#: so many connections are kept: one for a change, and one for a read that meets it
_KEPT = 2


class Connection:
    """One connection of a driver, in its autocommit mode.

    :ivar raw: the driver's own.
    :ivar db: the user's database, which knows how its queries are written; not its connections.
    :ivar dialect: ``"sqlite"``, ``"postgresql"`` or ``"mysql"``.
    """

    def __init__(self, raw: Any, db: Any, dialect: str) -> None:
        self.raw = raw
        self.db = db
        self.dialect = dialect
        self.deadline = 0.0

    def run(self, query: Any) -> list[Any]:
        """Run a query of peewee's, or a text without parameters; return its rows."""
        if isinstance(query, str):
            return self._bounded(lambda cursor: _fetch(cursor, query, None))
        statement, parameters = self._compiled(query)
        return self._bounded(lambda cursor: _fetch(cursor, statement, parameters))

    def run_many(self, query: Any, rows: Sequence[dict[str, Any]]) -> None:
        """Run a query once for each row.

        :param query: has as each of its parameters the key of the row's value that belongs there.
        """
        statement, keys = self._compiled(query)
        parameters = [tuple(row[key] for key in keys) for row in rows]
        self._bounded(lambda cursor: cursor.executemany(statement, parameters))

    def drop(self) -> None:
        """Close it for good."""
        with contextlib.suppress(Exception):
            self.raw.close()

    def _compiled(self, query: Any) -> tuple[str, tuple[Any, ...]]:
        statement, parameters = self.db.get_sql_context().sql(query).query()
        return statement, tuple(parameters)

    def _bounded(self, call: Callable[[Any], T]) -> T:
        rest_s = self.deadline - time.monotonic()
        with cut_after(self.raw, rest_s), contextlib.closing(self.raw.cursor()) as cursor:
            return call(cursor)


class Link:
    """Opens connections as a peewee database does, without touching those it has.

    :param db: the user's database, a proxy of it, or a ``FlaskDB``.
    """

    def __init__(self, db: Any) -> None:
        self._db = db
        self._idle: PerProcess[list[Connection]] = PerProcess(list)

    @property
    def shown(self) -> str:
        """The name of the database, without any password."""
        db = _found(self._db)
        return "peewee" if db is None else f"{type(db).__name__} {redact(str(db.database))}"

    @property
    def passwords(self) -> tuple[str, ...]:
        """The texts that may be shown in no error."""
        parameters = getattr(_found(self._db), "connect_params", None) or {}
        return tuple(str(parameters[name]) for name in ("password", "passwd") if name in parameters)

    @property
    def file(self) -> str | None:
        """The path of the file, if the database is one of SQLite's."""
        db = _found(self._db)
        path = str(db.database) if isinstance(db, peewee.SqliteDatabase) and db.database else ""
        return None if path in ("", ":memory:") or path.startswith("file:") else path

    @property
    def dialect(self) -> str:
        """``"sqlite"``, ``"postgresql"`` or ``"mysql"``; ``""`` if it is not known yet."""
        return _dialect_of(_found(self._db)) or ""

    def connect(self, timeout_s: float) -> Any:
        """Open a connection of the driver's, in its autocommit mode, that the caller closes."""
        return self._open(timeout_s).raw

    @contextlib.contextmanager
    def reading(self, timeout_s: float) -> Iterator[Connection]:
        """Give a connection for single statements, which see what is committed now."""
        with self._whole(), self._ready(timeout_s) as connection:
            yield connection

    def change(
        self,
        run: Callable[[Connection], T],
        timeout_s: float,
        before_commit: Callable[[], None] | None,
    ) -> T:
        """Commit what a function does, or take it back if it raises.

        :param before_commit: called last before the commit.
        :raises OutcomeUnknown: the connection broke within the commit.
        """
        deadline = time.monotonic() + timeout_s
        with self._whole(), self._ready(timeout_s) as connection:
            # A kept one whose peer has vanished must leave time for another.
            connection.deadline = (time.monotonic() + deadline) / 2
            connection.run(BEGIN[connection.dialect])
            for bound in bounds(connection.dialect, deadline - time.monotonic()):
                connection.run(bound)
            connection.deadline = deadline
            result = run(connection)
            if before_commit is not None:
                before_commit()
            with committing(self.shown, self.passwords):
                connection.run("COMMIT")
            return result

    def close(self) -> None:
        """Close what this process keeps open."""
        idle = self._idle.peek() or []
        while idle:
            idle.pop().drop()

    @contextlib.contextmanager
    def _ready(self, timeout_s: float) -> Iterator[Connection]:
        """Give a connection that nobody else uses; it is kept unless anything is raised."""
        deadline = time.monotonic() + timeout_s
        idle = self._idle.get()
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._open(timeout_s)
        connection.deadline = deadline
        try:
            yield connection
        except BaseException as exc:
            # Closing it ends any transaction on it.
            connection.drop()
            if is_failure(exc):
                # What else is kept may be lost like it, and would be met by the next attempt.
                self.close()
            raise
        # A file may be replaced by another of the same name.
        if connection.dialect == "sqlite" or len(idle) >= _KEPT:
            connection.drop()
        else:
            idle.append(connection)

    def _whole(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which no fork meets half of what SQLite does."""
        return undivided if self.dialect == "sqlite" else contextlib.nullcontext()

    def _open(self, timeout_s: float) -> Connection:
        db = _found(self._db)
        if db is None or db.deferred:
            raise StoreUnavailable(
                "the peewee database is not initialised: call its init() before WaffleConf's "
                "init_app"
            )
        dialect = _dialect_of(db)
        if dialect is None:
            raise StoreError(f"{type(db).__name__} is not SQLite, PostgreSQL or MySQL")
        if dialect == "sqlite" and str(db.database) in ("", ":memory:"):
            raise StoreError(
                "an in-memory SQLite database belongs to one connection: let peewee use a file"
            )
        return Connection(_connect(db, dialect, max(timeout_s, 0.001)), db, dialect)


def _dialect_of(db: Any) -> str | None:
    return next((found for kind, found in _DIALECTS if isinstance(db, kind)), None)


def _fetch(cursor: Any, statement: str, parameters: Sequence[Any] | None) -> list[Any]:
    cursor.execute(statement, *([] if parameters is None else [parameters]))
    return list(cursor.fetchall()) if cursor.description is not None else []


def _found(db: Any) -> Any:
    """Return the database itself: the one behind a proxy or in a ``FlaskDB``."""
    if isinstance(db, peewee.Proxy):
        return _found(db.obj)
    if isinstance(db, peewee.Database) or db is None:
        return db
    return _found(getattr(db, "database", None))


def _connect(db: Any, dialect: str, timeout_s: float) -> Any:
    """Open a connection of the driver as the database does, but within a bound of ours.

    :raises TimeoutError: the time was over.
    """
    # Only its parameters are used: the copy never has a connection itself.
    like = copy.copy(db)
    opener = _opener(type(db))
    limits: dict[str, Any] = {}
    if dialect == "sqlite":
        like._timeout = timeout_s
        limits = {"check_same_thread": False}
    elif dialect == "postgresql":
        limits = {"connect_timeout": whole_s(timeout_s)}
    elif opener is peewee.MySQLDatabase:
        names = ("connect_timeout", "read_timeout", "write_timeout")
        limits = dict.fromkeys(names, whole_s(timeout_s))
    like.connect_params = {**limits, **with_all_characters(db.connect_params)}
    # It would ask for a type's number that no statement of ours needs, and wait for the answer.
    like._register_hstore = False
    try:
        if dialect == "sqlite":
            connection = opener._connect(like)
        else:
            connection = within(timeout_s, lambda: opener._connect(like), lambda late: late.close())
    except peewee.ImproperlyConfigured as exc:
        raise StoreError(f"{type(db).__name__}: {exc} Install it beside peewee") from exc
    if dialect == "sqlite":
        connection.text_factory = readable
    if hasattr(connection, "prepare_threshold") and "prepare_threshold" not in db.connect_params:
        # Of psycopg 3: prepared by one client, a statement is met by another's behind a PgBouncer
        # that pools transactions.
        connection.prepare_threshold = None
    return connection


def _opener(kind: type[Any]) -> Any:
    """Return the class that opens connections: a pool would give those of the user's."""
    pool = sys.modules.get("playhouse.pool")
    for base in kind.__mro__:
        pooled = pool is not None and issubclass(base, pool.PooledDatabase)
        if "_connect" in vars(base) and not pooled:
            return base
    return kind
