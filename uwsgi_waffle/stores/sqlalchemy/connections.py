"""Short-lived, bounded connections that are made from an SQLAlchemy engine of the user's."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from ...errors import StoreError, StoreUnavailable
from ...masking import redact
from ..sql.databases import code_of, committing
from ..sql.deadline import cut_after

T = TypeVar("T")

_connecting = threading.local()


class Connections:
    """The connections of one process to one database.

    They come from the user's engine, so that its certificates, tokens and event listeners hold,
    but never from its pool: a session of the user's is not touched, and neither is a connection
    that was opened before a fork. Reads keep one connection; each write opens its own.

    :param base: the user's engine, or one made from a URL; is not connected itself.
    """

    def __init__(self, base: sa.Engine) -> None:
        self._base = base
        self.shown = shown_url(base)
        self._is_sqlite = base.dialect.name == "sqlite"
        # Such a pool is the whole database when that is in memory: it can only be shared.
        self._shared = isinstance(base.pool, StaticPool | SingletonThreadPool)
        if self._shared:
            self._reader = self._writer = base
            return
        if not event.contains(base, "do_connect", _connect_bounded):
            event.listen(base, "do_connect", _connect_bounded)
        self._reader = self._derive()
        # Once for each connection: as an execution option it would be set for each read, and what
        # the driver raises when that meets a lost connection is not translated by SQLAlchemy.
        event.listen(self._reader, "connect", self._commit_by_itself)
        if base.dialect.name == "postgresql":
            # A change begins with the row that serialises writers: waiting for it must not fail.
            self._writer = self._derive(isolation_level="READ COMMITTED")
        else:
            self._writer = self._derive()
        if self._is_sqlite:
            event.listen(self._writer, "connect", _leave_transactions_alone)
            event.listen(self._writer, "begin", _begin_immediate)

    @contextlib.contextmanager
    def reading(self, timeout_s: float) -> Iterator[sa.Connection]:
        """Give a connection for one statement, which sees what is committed now."""
        with self._open(self._reader, timeout_s) as connection:
            # A file may be replaced by another of the same name.
            if self._is_sqlite and not self._shared:
                connection.detach()
            with cut_after(connection.connection.driver_connection, timeout_s):
                yield connection

    def change(
        self,
        run: Callable[[sa.Connection], T],
        timeout_s: float,
        before_commit: Callable[[], None] | None,
    ) -> T:
        """Commit what a function does on a connection of its own, or take it back if it raises.

        :param before_commit: called last before the commit.
        :raises OutcomeUnknown: the connection broke within the commit.
        """
        deadline = time.monotonic() + timeout_s
        with self._open(self._writer, timeout_s) as connection:
            # A detached connection does not tell its driver's any more.
            driver = connection.connection.driver_connection
            if not self._shared:
                connection.detach()
            rest_s = deadline - time.monotonic()
            with cut_after(driver, rest_s), connection.begin() as transaction:
                for statement in _BOUNDS.get(connection.dialect.name, ()):
                    # A worker that is stopped within its change must not hold all others up.
                    connection.exec_driver_sql(statement.format(ms=_ms(timeout_s), s=_s(timeout_s)))
                result = run(connection)
                if before_commit is not None:
                    before_commit()
                with committing(self.shown):
                    transaction.commit()
                return result

    def close(self) -> None:
        """Close what reads keep open."""
        if not self._shared:
            self._reader.dispose()

    def _commit_by_itself(self, connection: Any, record: Any) -> None:
        self._base.dialect.set_isolation_level(connection, "AUTOCOMMIT")

    def _derive(self, **execution_options: Any) -> sa.Engine:
        return sa.Engine(
            self._base.pool.recreate(),
            self._base.dialect,
            self._base.url,
            execution_options=execution_options,
            # Raw texts may be secret, and errors are logged.
            hide_parameters=True,
        )

    @contextlib.contextmanager
    def _open(self, engine: sa.Engine, timeout_s: float) -> Iterator[sa.Connection]:
        _connecting.timeout_s = timeout_s
        try:
            connection = engine.connect()
        finally:
            _connecting.timeout_s = None
        with connection:
            yield connection


def shown_url(engine: sa.Engine) -> str:
    """Return an engine's URL without any password."""
    return redact(engine.url.render_as_string(hide_password=True))


@contextlib.contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turn the errors of SQLAlchemy and of its drivers into ours.

    :param shown: the database's URL without its password.
    """
    try:
        yield
    except (SQLAlchemyError, TimeoutError) as exc:
        reason = exc.orig if isinstance(exc, StatementError) and exc.orig is not None else exc
        text = f"{shown}: {redact(str(reason)).strip()}"
        if _is_readonly(exc):
            raise StoreError(f"{text}; let this user write to the database") from exc
        if isinstance(exc, TimeoutError | PoolTimeout | OperationalError) or (
            isinstance(exc, DBAPIError) and exc.connection_invalidated
        ):
            raise StoreUnavailable(f"{text}; check that the database runs and lets us in") from exc
        raise StoreError(f"{text}; check that its tables are up to date") from exc


# Of PostgreSQL for this transaction only, so that it leaves nothing behind in a pgbouncer.
_BOUNDS = {
    "postgresql": (
        "SET LOCAL statement_timeout = {ms}",
        "SET LOCAL idle_in_transaction_session_timeout = {ms}",
    ),
    "mysql": ("SET innodb_lock_wait_timeout = {s}",),
    "mariadb": ("SET innodb_lock_wait_timeout = {s}",),
}


def _connect_bounded(
    dialect: Dialect, record: Any, args: list[Any], parameters: dict[str, Any]
) -> Any:
    """Connect within a bound; only for connections of ours, which the thread says."""
    timeout_s = getattr(_connecting, "timeout_s", None)
    if timeout_s is None:
        return None
    bounds: dict[str, Any] = {}
    if dialect.driver in ("psycopg", "psycopg2"):
        bounds = {"connect_timeout": _s(timeout_s)}
        if dialect.driver == "psycopg":
            # Prepared by one client, it is met by another's statements behind a PgBouncer that
            # pools transactions: 'prepared statement "_pg3_0" already exists'.
            bounds["prepare_threshold"] = None
    elif dialect.driver in ("pymysql", "mysqldb"):
        names = ("connect_timeout", "read_timeout", "write_timeout")
        bounds = dict.fromkeys(names, _s(timeout_s))
    elif dialect.name == "sqlite":
        bounds = {"timeout": timeout_s}
    return dialect.connect(*args, **{**bounds, **parameters})


def _leave_transactions_alone(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_readonly(exc: Exception) -> bool:
    return isinstance(exc, DBAPIError) and (
        "readonly" in str(exc.orig) or code_of(exc) in ("25006", 1290)
    )


def _ms(timeout_s: float) -> int:
    return max(1, math.ceil(timeout_s * 1000))


def _s(timeout_s: float) -> int:
    return max(1, math.ceil(timeout_s))
