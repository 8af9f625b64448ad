"""Facts about SQLite, PostgreSQL, MySQL and MariaDB, and the meaning of their errors."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...errors import OutcomeUnknown, StoreError, StoreMissing, StoreUnavailable, WaffleError
from ...masking import MASK, mask, redact

#: the server's clock, in seconds: those of the hosts need not agree
CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "UNIX_TIMESTAMP(NOW(6))",
}

#: begins a change on a connection that is in its autocommit mode
BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    # A change begins by waiting for the row that serialises writers. With a stricter level, which
    # may be the user's default, that wait would fail.
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    "mysql": "BEGIN",
    "mariadb": "BEGIN",
}

# A session that is not strict cuts off, in silence, what a column can't hold: the default before
# MySQL 5.7 and MariaDB 10.2, and of each connection of peewee before 4.5.
# Source: MySQL 8.0 manual, "Server SQL Modes".
_MYSQL_BOUND = (
    "SET innodb_lock_wait_timeout = {s}, "
    "sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')"
)

# Of PostgreSQL for this transaction only, so that it leaves nothing behind in a PgBouncer.
_BOUNDS = {
    "postgresql": (
        "SELECT set_config('statement_timeout', '{ms}', true), "
        "set_config('idle_in_transaction_session_timeout', '{ms}', true)",
    ),
    "mysql": (_MYSQL_BOUND,),
    "mariadb": (_MYSQL_BOUND,),
}

#: what PostgreSQL makes of the row of the meta table, as a message on the channel between hosts
NOTICE = "CAST(json_build_object('revision', revision, 'epoch', epoch, 'mark', mark) AS text)"

# Serialisation failures and deadlocks: of PostgreSQL, then of MySQL and MariaDB.
_TRANSIENT = {"40001", "40P01", 1213, 1020}
# A server that may only be read: a standby, or one in the middle of a failover.
_READ_ONLY_SERVER = {"25006", 1290, 1792, 1836}
# What MySQL and MariaDB answer to a COMMIT that they took back: also a wait for a lock that was
# too long, and a group of servers that refused it.
_REFUSED = _TRANSIENT | _READ_ONLY_SERVER | {1205, 3101}
# Of PostgreSQL, a connection that broke, an operator's shutdown, a fault of the disk or of itself:
# it may have been committed before.
_UNSURE = ("08", "57", "58", "XX")
# Rights: of PostgreSQL, then of MySQL and MariaDB.
_FORBIDDEN = {"42501", 1142, 1044}
# No such table: of PostgreSQL, then of MySQL and MariaDB.
_NO_TABLE = {"42P01", 1146}

_OUTAGES = ("OperationalError", "InterfaceError", "InternalError", "TimeoutError", "OSError")
# The DB-API's, their libraries', and the network's. Drivers raise others too: on an answer that is
# none of their server's, or when they lack a package that a login needs.
_KNOWN = ("DatabaseError", "InterfaceError", "SQLAlchemyError", "PeeweeException", "OSError")
# What PostgreSQL and MySQL quote of a row in their errors.
_QUOTED = re.compile(r"\n(?:DETAIL|CONTEXT|QUERY|STATEMENT):.*", re.DOTALL)
_VALUE = re.compile(r"((?:Incorrect \w+ value|Duplicate entry):? ')(?:.*)(' for )", re.DOTALL)


def bounds(dialect: str, timeout_s: float) -> Iterator[str]:
    """Yield what bounds a transaction on the server's side.

    A worker that is stopped within its change must not hold all others up, and a value that a
    column can't hold must be refused, not cut off.
    """
    for statement in _BOUNDS.get(dialect, ()):
        yield statement.format(ms=max(1, math.ceil(timeout_s * 1000)), s=whole_s(timeout_s))


def whole_s(timeout_s: float) -> int:
    """Return a bound for what knows whole seconds only, and takes 0 for no bound."""
    return max(1, math.ceil(timeout_s))


def with_all_characters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a driver's parameters, with MySQL's ``utf8mb4`` in the place of its ``utf8``.

    The latter has no emoji, for one, and keeps and reads ``????`` instead of it.
    """
    if parameters.get("charset") not in ("utf8", "utf8mb3"):
        return dict(parameters)
    # A collation belongs to its charset.
    kept = {name: value for name, value in parameters.items() if name != "collation"}
    return {**kept, "charset": "utf8mb4"}


# What a database may be set to that loses confirmed changes at a crash: the query, and the words.
_WEAK = {
    "postgresql": ("SHOW synchronous_commit", {"off": "synchronous_commit = off"}),
    "mysql": (
        "SELECT @@innodb_flush_log_at_trx_commit",
        {str(n): f"innodb_flush_log_at_trx_commit = {n}" for n in (0, 2)},
    ),
}
_WEAK["mariadb"] = _WEAK["mysql"]


def loses_changes(dialect: str, ask: Callable[[str], object]) -> str | None:
    """Return the setting by which a database may lose what it has confirmed, or ``None``.

    :param ask: runs a query and returns the one value of its answer.

    Source: PostgreSQL 15 manual, 20.5 "Write Ahead Log"; MySQL 8.0 manual, "InnoDB Startup
    Options".
    """
    if dialect not in _WEAK:
        return None
    query, weak = _WEAK[dialect]
    return weak.get(str(ask(query)).lower())


def driver_error(exc: BaseException) -> BaseException:
    """Return the driver's own error: SQLAlchemy keeps it in its ``orig``."""
    return getattr(exc, "orig", None) or exc


def code_of(exc: BaseException) -> Any:
    """Return PostgreSQL's SQLSTATE, MySQL's number, or whatever the error's first argument is."""
    exc = driver_error(exc)
    first = exc.args[0] if exc.args else None
    # Since PyMySQL 1.2 its errors have a SQLSTATE too, which says less: HY000 for nearly all.
    if isinstance(first, int):
        return first
    return getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None) or first


def is_named(exc: BaseException, *names: str) -> bool:
    """Say whether a driver's error has one of these classes of the DB-API, or one below it.

    Every driver has classes of its own, but with these names.
    """
    return any(kind.__name__ in names for kind in type(driver_error(exc)).__mro__)


def is_failure(exc: BaseException) -> bool:
    """Say whether the database, its driver, its library or the network failed.

    Everything that is raised beside the package's own errors: no driver's error leaves a store.
    """
    return isinstance(exc, Exception) and not isinstance(exc, WaffleError)


def is_transient(exc: BaseException) -> bool:
    """Say whether the database gave a transaction up in favour of another."""
    return code_of(exc) in _TRANSIENT


def is_read_only(exc: BaseException) -> bool:
    """Say whether the server at the other end takes no changes; another may be the primary now."""
    return code_of(exc) in _READ_ONLY_SERVER


def is_outage(exc: BaseException) -> bool:
    """Say whether trying again may help, on another connection or later."""
    if is_named(exc, *_OUTAGES) or bool(getattr(exc, "connection_invalidated", False)):
        return True
    return not is_named(exc, *_KNOWN, "ValueError", "TypeError")


def lacks_table(exc: BaseException) -> bool:
    """Say whether a statement failed because a table, or a column, is not there."""
    # SQLite reports a missing table by the error that it has for everything.
    return is_named(exc, "ProgrammingError") or "no such table" in str(exc)


def _lacks_store(exc: BaseException) -> bool:
    """Say whether a table is not there; a column that is missing is another matter."""
    return code_of(exc) in _NO_TABLE or "no such table" in str(driver_error(exc))


def translation(exc: BaseException, shown: str, passwords: Iterable[str] = ()) -> StoreError:
    """Return the error of the store for one of the driver's.

    :param shown: the database's name, without any password.
    :param passwords: what must not be shown, however the driver writes it.
    """
    text = f"{shown}: {_shown(exc, passwords)}"
    if not is_named(exc, *_KNOWN):
        text = f"{shown}: {type(driver_error(exc)).__name__}: {_shown(exc, passwords)}"
    if _lacks_store(exc):
        return StoreMissing(f"{shown} holds no settings: {_shown(exc, passwords)}")
    if is_read_only(exc):
        return StoreUnavailable(
            f"{text}; a standby, or a server in a failover, takes no changes: they work again when "
            "it is the primary. If it is, let this user write"
        )
    if is_named(exc, "OperationalError") and "readonly" in str(driver_error(exc)):
        return StoreError(f"{text}; let this user write to the file and its folder")
    if code_of(exc) in _FORBIDDEN:
        return StoreError(
            f"{text}; let a user who may create tables make them once (`flask waffle "
            "create-tables --url URL`, or your migrations), and let this user read and write them"
        )
    if is_outage(exc):
        return StoreUnavailable(
            f"{text}; check that the database is running and accepts connections"
        )
    if is_named(exc, "ValueError", "TypeError"):
        return StoreError(f"{text}; the database's driver refuses it")
    return StoreError(f"{text}; check that its tables are up to date")


@contextlib.contextmanager
def translated(shown: str, passwords: Iterable[str] = ()) -> Iterator[None]:
    """Raise what the database, its driver or its library raises as an error of the store."""
    try:
        yield
    except Exception as exc:
        if not is_failure(exc):
            raise
        raise translation(exc, shown, passwords) from _shown_cause(exc, passwords)


@contextlib.contextmanager
def committing(shown: str, passwords: Iterable[str] = ()) -> Iterator[None]:
    """Run a COMMIT; say that its outcome is unknown, unless the database refused it.

    :raises OutcomeUnknown: the connection broke, or the database failed, before it answered.
    """
    try:
        yield
    except Exception as exc:
        if not is_failure(exc) or _refused(exc):
            raise
        raise OutcomeUnknown(
            f"{shown}: the commit was not answered ({_shown(exc, passwords)}), so the change may "
            "have been made, or not: read the settings before you repeat it"
        ) from _shown_cause(exc, passwords)


def _refused(exc: BaseException) -> bool:
    code = code_of(exc)
    if isinstance(code, int):
        return code in _REFUSED
    if is_named(exc, "IntegrityError"):
        return True
    exc = driver_error(exc)
    if getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None):
        return not str(code).startswith(_UNSURE)
    # SQLite, whose commit is not on the disk if it could not lock the file or write it whole.
    # Source: SQLite 3.40, os_unix.c: only a write returns SQLITE_FULL, never a flush.
    return type(exc).__module__ == "sqlite3" and any(
        word in str(exc) for word in ("locked", "full", "readonly")
    )


def _shown_cause(exc: Exception, passwords: Iterable[str]) -> Exception | None:
    """Return what a traceback may show: it would also show what was left out of the text."""
    is_whole = _shown(exc, passwords) == _on_one_line(str(driver_error(exc)))
    return exc if is_whole else None


def _shown(exc: BaseException, passwords: Iterable[str]) -> str:
    """Return an error's text on one line, without passwords and what it quotes of a row."""
    text = _QUOTED.sub("", str(driver_error(exc)))
    return _on_one_line(redact(mask(_VALUE.sub(rf"\1{MASK}\2", text), passwords)))


def _on_one_line(text: str) -> str:
    # libpq writes "…: Connection refused", and a hint on the next line, behind a tab.
    return " ".join(text.split())
