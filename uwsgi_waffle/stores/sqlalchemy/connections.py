"""Short-lived, bounded connections that are made from an SQLAlchemy engine of the user's."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from ...forking import undivided
from ...masking import redact
from ..sql.databases import BEGIN, bounds, committing, is_failure, whole_s, with_all_characters
from ..sql.deadline import Cut, cut_after, within
from ..sql.rows import readable

T = TypeVar("T")


class EngineConnections:
    """The connections of one process to one database.

    They come from the user's engine, so that its certificates, tokens and event listeners hold,
    but never from its pool: a session of the user's is not touched, and neither is a connection
    that was opened before a fork. A connection to a server is kept for the next read or change.

    :param base: the user's engine, or one made from a URL; is not connected itself.
    """

    def __init__(self, base: sa.Engine) -> None:
        self._base = base
        self.shown = shown_url(base)
        self.passwords = _passwords(base.url)
        self.dialect = base.dialect.name
        self.is_sqlite = self.dialect == "sqlite"
        self._whole: contextlib.AbstractContextManager[None] = (
            undivided if self.is_sqlite else contextlib.nullcontext()
        )
        self.file = _file_of(base.url) if self.is_sqlite else None
        # Such a pool is the whole database when that is in memory: it can only be shared.
        self._shared = isinstance(base.pool, StaticPool | SingletonThreadPool)
        self._begin = None if self._shared else BEGIN.get(self.dialect)
        # Whether changes use what reads keep: a file may be replaced by another of its name.
        self._keeps = self._begin is not None and not self.is_sqlite
        if self._shared:
            self._reader = self._writer = base
            return
        if not event.contains(base, "do_connect", _connect_limited):
            event.listen(base, "do_connect", _connect_limited)
        self._reader = self._derive()
        # Once for each connection: as an execution option it would be set for each read, and what
        # the driver raises when that meets a lost connection is not translated by SQLAlchemy.
        event.listen(self._reader, "connect", self._commit_by_itself)
        if self.is_sqlite:
            event.listen(self._reader, "connect", _read_anything)
        # Of a database that is not known here, the transactions are SQLAlchemy's.
        self._writer = self._derive() if self._begin is None else self._reader

    @contextlib.contextmanager
    def reading(self, timeout_s: float) -> Iterator[sa.Connection]:
        """Give a connection for single statements, which see what is committed now."""
        deadline = time.monotonic() + timeout_s
        with self._whole, self._open(self._reader, timeout_s) as connection:
            is_detached = self.is_sqlite and not self._shared
            if is_detached:
                connection.detach()
            rest_s = deadline - time.monotonic()
            try:
                with cut_after(connection.connection.driver_connection, rest_s):
                    yield connection
            except Exception as exc:
                # What is detached is closed below; invalidated, it would be let go of without that.
                if not self._shared and not is_detached and is_failure(exc):
                    self._drop(connection, exc)
                raise

    def change(
        self,
        run: Callable[[sa.Connection], T],
        timeout_s: float,
        before_commit: Callable[[], None] | None,
    ) -> T:
        """Commit what a function does, or take it back if it raises.

        :param before_commit: called last before the commit.
        :raises OutcomeUnknown: the connection broke within the commit.
        """
        deadline = time.monotonic() + timeout_s
        with self._whole, self._open(self._writer, timeout_s) as connection:
            # A detached connection does not tell its driver's any more.
            driver = connection.connection.driver_connection
            if not (self._keeps or self._shared):
                connection.detach()
            try:
                # A kept one whose peer has vanished must leave time for another.
                with cut_after(driver, (deadline - time.monotonic()) / 2):
                    commit = self._begun(connection, deadline - time.monotonic())
                with cut_after(driver, deadline - time.monotonic()):
                    result = run(connection)
                    if before_commit is not None:
                        before_commit()
                    with committing(self.shown, self.passwords):
                        commit()
                    return result
            except BaseException as exc:
                if self._keeps:
                    self._drop(connection, exc)
                raise

    def connect(self, timeout_s: float) -> Any:
        """Open a connection of the driver's, in its autocommit mode, that the caller closes."""
        with _bounded_connecting(timeout_s):
            # A new pool holds no connection that may be lost.
            pooled = self._derive().raw_connection()
            driver: Any = pooled.driver_connection
            pooled.detach()
            self._commit_by_itself(driver)
        return driver

    def close(self) -> None:
        """Close what is kept open."""
        if not self._shared:
            self._reader.dispose()

    def _begun(self, connection: sa.Connection, timeout_s: float) -> Callable[[], object]:
        """Begin a transaction, and return what commits it."""
        commit: Callable[[], object]
        if self._begin is None:
            commit = connection.begin().commit
        else:
            connection.exec_driver_sql(self._begin)
            commit = functools.partial(connection.exec_driver_sql, "COMMIT")
        for statement in bounds(self.dialect, max(timeout_s, 0.001)):
            connection.exec_driver_sql(statement)
        return commit

    def _drop(self, connection: sa.Connection, exc: BaseException) -> None:
        """Close a kept connection, which ends any transaction on it."""
        # Also after what SQLAlchemy does not know for a lost connection, as a KILL.
        if not connection.invalidated:
            connection.invalidate()
        if is_failure(exc):
            # What else is kept may be lost like it, and would be met by the next attempt.
            self._reader.dispose()

    def _commit_by_itself(self, connection: Any, record: Any = None) -> None:
        # A listener of the user's may have left a transaction open: psycopg refuses the mode then,
        # and psycopg2 takes back what was set.
        self._base.dialect.do_commit(connection)
        self._base.dialect.set_isolation_level(connection, "AUTOCOMMIT")

    def _derive(self) -> sa.Engine:
        pool: Any = self._base.pool.recreate()
        # It would ask before each read, on a connection that may stand still. A read that fails
        # replaces its connection anyway.
        pool._pre_ping = False
        # It would wait for other threads' reads, by a timeout of its own.
        pool._max_overflow = -1
        pool._creator = _bounded(pool._invoke_creator, may_hang=not self.is_sqlite)
        return sa.Engine(
            pool,
            self._base.dialect,
            self._base.url,
            # Raw texts may be secret, and errors are logged.
            hide_parameters=True,
        )

    @contextlib.contextmanager
    def _open(self, engine: sa.Engine, timeout_s: float) -> Iterator[sa.Connection]:
        with _bounded_connecting(timeout_s):
            connection = engine.connect()
        with connection:
            yield connection


def shown_url(engine: sa.Engine) -> str:
    """Return an engine's URL without any password."""
    return redact(engine.url.render_as_string(hide_password=True))


def _file_of(url: sa.URL) -> str | None:
    """Return the path of a file of SQLite, unless it is in memory, or named by a URI."""
    path = url.database
    return None if not path or path == ":memory:" or path.startswith("file:") else path


def _passwords(url: sa.URL) -> tuple[str, ...]:
    """Return what stands for a password in a URL, as it was written and as it is meant."""
    found = [url.password or ""]
    for name, value in url.query.items():
        if "pass" in name.lower() or name.lower() == "pwd":
            found += [value] if isinstance(value, str) else value
    return tuple(found)


class _Connecting(threading.local):
    """How long this thread may connect, if it does so for us.

    :ivar deadline: for everything until the connection can be used.
    :ivar driver_s: how long the driver may take, in a thread that does nothing else.
    :ivar cut: bounds what is asked of the new connection.
    """

    deadline: float | None = None
    driver_s: float | None = None
    cut: Cut | None = None


_connecting = _Connecting()


@contextlib.contextmanager
def _bounded_connecting(timeout_s: float) -> Iterator[None]:
    """Bound connecting, and what SQLAlchemy and listeners ask of a new connection.

    :raises TimeoutError: the time was over.
    """
    _connecting.deadline = time.monotonic() + timeout_s
    try:
        yield
    except Exception as exc:
        if _connecting.cut is not None and _connecting.cut.happened:
            raise TimeoutError("it took the login, but did not answer in time") from exc
        raise
    finally:
        if _connecting.cut is not None:
            _connecting.cut.cancel()
        _connecting.deadline = _connecting.cut = None


def _bounded(create: Callable[[Any], Any], *, may_hang: bool) -> Callable[[Any], Any]:
    """Return a pool's function that connects, the user's own too, within the bound of its thread.

    Source: SQLAlchemy, ``Pool._should_wrap_creator``: it is called with the pool's record because
    it has one parameter.
    """

    def connect(connection_record: Any) -> Any:
        deadline = _connecting.deadline
        assert deadline is not None, "pools of the store connect for the store only"
        timeout_s = max(deadline - time.monotonic(), 0.001)

        def limited() -> Any:
            _connecting.driver_s = timeout_s
            try:
                return create(connection_record)
            finally:
                _connecting.driver_s = None

        if not may_hang:
            return limited()
        connection = within(timeout_s, limited, lambda late: late.close())
        # What is asked of it next may wait without an end: by SQLAlchemy, its version.
        _connecting.cut = Cut(connection, max(deadline - time.monotonic(), 0.1))
        return connection

    return connect


def _connect_limited(
    dialect: Dialect, record: Any, args: list[Any], parameters: dict[str, Any]
) -> Any:
    """Connect by the driver's own bounds, so that a thread that is left alone ends, too.

    Only for connections of ours, which the thread says. What the user says of a bound stays.
    """
    timeout_s = _connecting.driver_s
    if timeout_s is None:
        return None
    limits: dict[str, Any] = {}
    if dialect.driver in ("psycopg", "psycopg2"):
        limits = {"connect_timeout": whole_s(timeout_s)}
        if dialect.driver == "psycopg":
            # Prepared by one client, it is met by another's statements behind a PgBouncer that
            # pools transactions: 'prepared statement "_pg3_0" already exists'.
            limits["prepare_threshold"] = None
    elif dialect.driver in ("pymysql", "mysqldb"):
        names = ("connect_timeout", "read_timeout", "write_timeout")
        limits = dict.fromkeys(names, whole_s(timeout_s))
    elif dialect.name == "sqlite":
        limits = {"timeout": timeout_s}
    return dialect.connect(*args, **{**limits, **with_all_characters(parameters)})


def _read_anything(connection: Any, record: Any) -> None:
    connection.text_factory = readable
