"""Facts about SQLite, PostgreSQL, MySQL and MariaDB, and the meaning of their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...errors import OutcomeUnknown, WaffleError
from ...masking import redact

# Serialisation failures and deadlocks: of PostgreSQL, then of MySQL and MariaDB.
_TRANSIENT = {"40001", "40P01", 1213, 1020}

# What MySQL and MariaDB answer to a COMMIT that they took back: also the wait for a lock that was
# too long, a server that is read-only, and a group of servers that refused it.
_REFUSED = _TRANSIENT | {1205, 1290, 1792, 1836, 3101}
# Of PostgreSQL, a connection that broke, an operator's shutdown, a fault of the disk or of itself:
# it may have been committed before.
_UNSURE = ("08", "57", "58", "XX")


def driver_error(exc: BaseException) -> BaseException:
    """Return the driver's own error: SQLAlchemy keeps it in its ``orig``."""
    return getattr(exc, "orig", None) or exc


def code_of(exc: BaseException) -> Any:
    """Return PostgreSQL's SQLSTATE, MySQL's number, or whatever the error's first argument is."""
    exc = driver_error(exc)
    code = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
    return code or (exc.args[0] if exc.args else None)


def is_named(exc: BaseException, *names: str) -> bool:
    """Say whether a driver's error has one of these classes of the DB-API, or one below it.

    Every driver has classes of its own, but with these names.
    """
    return any(kind.__name__ in names for kind in type(driver_error(exc)).__mro__)


def is_transient(exc: BaseException) -> bool:
    """Say whether the database gave a transaction up in favour of another."""
    return code_of(exc) in _TRANSIENT


@contextlib.contextmanager
def committing(shown: str) -> Iterator[None]:
    """Run a COMMIT; say that its outcome is unknown, unless the database refused it.

    :param shown: the database's name, without any password.
    :raises OutcomeUnknown: the connection broke, or the database failed, before it answered.
    """
    try:
        yield
    except WaffleError:
        raise
    except Exception as exc:
        if _refused(exc):
            raise
        raise OutcomeUnknown(
            f"{shown}: the commit was not answered ({redact(str(driver_error(exc))).strip()}), so "
            "the change may have been made, or not: read the settings before you repeat it"
        ) from exc


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
