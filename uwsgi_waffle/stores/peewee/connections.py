"""Connections of our own that are made as a peewee database of the user's makes its."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import peewee

from ...errors import ConfigurationError, StoreError, StoreUnavailable
from ...forking import PerProcess
from ...masking import redact
from ..sql.databases import code_of, committing
from ..sql.deadline import cut_after
from .tables import MYSQL, POSTGRESQL, SQLITE, Dialect, Model, Statements

T = TypeVar("T")

_DIALECTS: tuple[tuple[type[Any], Dialect], ...] = (
    (peewee.SqliteDatabase, SQLITE),
    (peewee.PostgresqlDatabase, POSTGRESQL),
    (peewee.MySQLDatabase, MYSQL),
)


class UserModel(NamedTuple):
    """The user's model, as far as the store needs it.

    :ivar defaults: returns what the model fills its other columns with, by column.
    """

    table: Model
    defaults: Callable[[], dict[str, Any]]

    @property
    def key(self) -> str:
        """The column that holds the setting's name."""
        return self.table.key

    @property
    def value(self) -> str:
        """The column that holds the raw text."""
        return self.table.value


def model_of(model: Any) -> UserModel:
    """Return what the store needs of a peewee model.

    :raises ConfigurationError: it has no ``key`` or no ``value``.
    """
    meta = getattr(model, "_meta", None)
    fields = getattr(meta, "fields", None)
    if meta is None or fields is None:
        raise ConfigurationError(f"{model!r} is not a peewee model")
    missing = [name for name in ("key", "value") if name not in fields]
    if missing:
        raise ConfigurationError(
            f"the model {model!r} has no field {' and no field '.join(missing)}: it needs key, "
            "a unique text, and value, a text"
        )

    def defaults() -> dict[str, Any]:
        values = meta.get_default_dict()
        return {fields[name].column_name: fields[name].db_value(values[name]) for name in values}

    path = tuple(part for part in (meta.schema, meta.table_name) if part)
    table = Model(path, fields["key"].column_name, fields["value"].column_name)
    return UserModel(table, defaults)


class Connection:
    """One connection of a driver, in its autocommit mode.

    :ivar used: something was run on it with success.
    """

    def __init__(self, link: Link, raw: Any, sql: Statements) -> None:
        self._link = link
        self._raw = raw
        self.sql = sql
        self.used = False
        self.deadline = 0.0

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement; return its rows."""
        return self._bounded(lambda cursor: self._fetch(cursor, statement, parameters))

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of parameters; not at all if there is none."""
        if rows:
            self._bounded(lambda cursor: cursor.executemany(statement, rows))

    def in_transaction(
        self, run: Callable[[], T], before_commit: Callable[[], None] | None = None
    ) -> T:
        """Commit what a function does, or take it back when it raises.

        :param before_commit: called last before the commit.
        :raises OutcomeUnknown: the connection broke within the commit.
        """
        self.run(self.sql.dialect.begin)
        try:
            rest_s = max(self.deadline - time.monotonic(), 0.001)
            for bound in self.sql.dialect.bounds:
                # A worker that is stopped within its change must not hold all others up.
                self.run(bound.format(ms=math.ceil(rest_s * 1000), s=math.ceil(rest_s)))
            result = run()
            if before_commit is not None:
                before_commit()
            with committing(self._link.shown):
                self.run("COMMIT")
        except BaseException:
            # Closing it rolls back as well, should this fail.
            with contextlib.suppress(Exception):
                self.run("ROLLBACK")
            raise
        return result

    def drop(self) -> None:
        """Close it for good."""
        self._link.forget(self)
        with contextlib.suppress(Exception):
            self._raw.close()

    def is_driver_error(self, exc: BaseException) -> bool:
        """Tell whether the database, and not our own code, failed."""
        return _is_driver_error(exc)

    def _fetch(self, cursor: Any, statement: str, parameters: Sequence[Any]) -> list[Any]:
        cursor.execute(statement, tuple(parameters))
        return list(cursor.fetchall()) if cursor.description is not None else []

    def _bounded(self, call: Callable[[Any], T]) -> T:
        rest_s = self.deadline - time.monotonic()
        with cut_after(self._raw, rest_s), contextlib.closing(self._raw.cursor()) as cursor:
            result = call(cursor)
        self.used = True
        return result


class Link:
    """Opens connections as a peewee database does, without touching those it has.

    :param db: the user's database, a proxy of it, or a ``FlaskDB``.
    """

    def __init__(self, db: Any, prefix: str, model: UserModel | None) -> None:
        self._db = db
        self._prefix = prefix
        self._model = model
        self._readers: PerProcess[_Reader] = PerProcess(_Reader)

    @property
    def shown(self) -> str:
        """The name of the database, without any password."""
        db = _found(self._db)
        return "peewee" if db is None else f"{type(db).__name__} {redact(str(db.database))}"

    @contextlib.contextmanager
    def reading(self, timeout_s: float) -> Iterator[Connection]:
        """Give this process's reading connection; other threads wait for it.

        :raises StoreUnavailable: the database can't be reached.
        """
        deadline = time.monotonic() + timeout_s
        reader = self._readers.get()
        if not reader.lock.acquire(timeout=max(timeout_s, 0.0)):
            raise StoreUnavailable(f"{self.shown}: another thread's read takes too long")
        try:
            with self._translated():
                connection = reader.connection or self._open(timeout_s)
                reader.connection = connection
                connection.deadline = deadline
                yield connection
                # A file may be replaced by another of the same name.
                if connection.sql.dialect is SQLITE:
                    connection.drop()
        except BaseException:
            if reader.connection is not None:
                reader.connection.drop()
            raise
        finally:
            reader.lock.release()

    @contextlib.contextmanager
    def writing(self, timeout_s: float) -> Iterator[Connection]:
        """Give a connection of its own, closed at the end.

        :raises StoreUnavailable: the database can't be reached.
        """
        deadline = time.monotonic() + timeout_s
        with self._translated():
            connection = self._open(timeout_s)
            connection.deadline = deadline
            try:
                yield connection
            finally:
                connection.drop()

    def forget(self, connection: Connection) -> None:
        """Use a connection no more."""
        reader = self._readers.peek()
        if reader is not None and reader.connection is connection:
            reader.connection = None

    def close(self) -> None:
        """Close what this process keeps open."""
        reader = self._readers.peek()
        if reader is not None:
            with reader.lock:
                if reader.connection is not None:
                    reader.connection.drop()

    def _open(self, timeout_s: float) -> Connection:
        db = _found(self._db)
        if db is None or db.deferred:
            raise StoreUnavailable(
                "the peewee database is not initialised: call its init() before WaffleConf's "
                "init_app"
            )
        dialect = next((found for kind, found in _DIALECTS if isinstance(db, kind)), None)
        if dialect is None:
            raise StoreError(f"{type(db).__name__} is not SQLite, PostgreSQL or MySQL")
        if dialect is SQLITE and str(db.database) in ("", ":memory:"):
            raise StoreError(
                "an in-memory SQLite database belongs to one connection: let peewee use a file"
            )
        model = None if self._model is None else self._model.table
        sql = Statements(dialect, self._prefix, model)
        return Connection(self, _connect(db, dialect, timeout_s), sql)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            if not _is_driver_error(exc):
                raise
            text = f"{self.shown}: {redact(str(exc)).strip()}"
            if "readonly" in text or code_of(exc) in ("25006", 1290):
                raise StoreError(f"{text}; let this user write to the database") from exc
            names = {kind.__name__ for kind in type(exc).__mro__}
            if names & {"OperationalError", "InterfaceError", "TimeoutError"}:
                raise StoreUnavailable(
                    f"{text}; check that the database runs and lets us in"
                ) from exc
            raise StoreError(f"{text}; check that its tables are up to date") from exc


class _Reader:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None


def _is_driver_error(exc: BaseException) -> bool:
    # Every driver has classes of its own, but with the names of the DB-API.
    names = {kind.__name__ for kind in type(exc).__mro__}
    return isinstance(exc, TimeoutError) or bool(names & {"DatabaseError", "InterfaceError"})


def _found(db: Any) -> Any:
    """Return the database itself: the one behind a proxy or in a ``FlaskDB``."""
    if isinstance(db, peewee.Proxy):
        return _found(db.obj)
    if isinstance(db, peewee.Database) or db is None:
        return db
    return _found(getattr(db, "database", None))


def _connect(db: Any, dialect: Dialect, timeout_s: float) -> Any:
    """Open a connection of the driver as the database does, but within a bound of ours."""
    whole_s = max(1, math.ceil(timeout_s))
    # Only its parameters are used: the copy never has a connection itself.
    like = copy.copy(db)
    opener = _opener(type(db))
    bounds: dict[str, Any] = {}
    if dialect is SQLITE:
        like._timeout = timeout_s
        bounds = {"check_same_thread": False}
    elif dialect is POSTGRESQL:
        bounds = {"connect_timeout": whole_s}
    elif opener is peewee.MySQLDatabase:
        bounds = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), whole_s)
    like.connect_params = {**bounds, **db.connect_params}
    try:
        connection = opener._connect(like)
    except peewee.ImproperlyConfigured as exc:
        raise StoreError(f"{type(db).__name__}: {exc} Install it beside peewee") from exc
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
