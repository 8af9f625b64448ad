"""What the errors of SQL databases become, and what they may not show."""

from __future__ import annotations

import sqlite3
import traceback

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from uwsgi_waffle.errors import OutcomeUnknown, StoreError, StoreUnavailable
from uwsgi_waffle.stores.sql.databases import committing, translated

# In no line of source that a traceback shows.
PASSWORD = "hunter2"
ROW = (
    'null value in column "x" violates not-null constraint\n'
    "DETAIL:  Failing row contains (A, hunter2, null).\n"
    "CONTEXT:  unnamed portal with parameters: $1 = 'hunter2'"
)


def _sent(code: str, text: str) -> psycopg.Error:
    kind: type[psycopg.Error] = psycopg.errors.lookup(code)
    return kind(text)


def _answered(code: int, text: str, sqlstate: str) -> pymysql.err.OperationalError:
    """As a server answered it, to a PyMySQL 1.2."""
    exc = pymysql.err.OperationalError(code, text)
    vars(exc)["sqlstate"] = sqlstate
    return exc


def _within_sqlalchemy(orig: Exception) -> Exception:
    return sa.exc.DBAPIError("INSERT …", {}, orig, hide_parameters=True)


@pytest.mark.parametrize(
    "exc",
    [
        _sent("23502", ROW),
        pymysql.err.DataError(
            1366, "Incorrect string value: 'hunter2 \\xF0' for column 'raw' at row 1"
        ),
        pymysql.err.IntegrityError(1062, "Duplicate entry 'hunter2' for key 'key'"),
        psycopg.OperationalError("connection failed: host=db user=ann password=hunter2 dbname=x"),
        psycopg.OperationalError("invalid dsn: PWD=hunter2"),
    ],
)
@pytest.mark.parametrize("within_sqlalchemy", [False, True])
def test_error_quotes_no_row_and_no_password(exc: Exception, within_sqlalchemy: bool) -> None:
    if within_sqlalchemy:
        exc = _within_sqlalchemy(exc)
    for context in (translated, committing):
        try:
            with translated("db", [PASSWORD]), context("db", [PASSWORD]):
                raise exc
        except StoreError as caught:
            # A log shows the traceback, with its causes.
            shown = str(caught) + "".join(traceback.format_exception(caught))
        assert PASSWORD not in shown


def test_error_of_several_lines_is_shown_on_one() -> None:
    text = 'connection to server at "db" failed: Connection refused\n\tIs the server running?\n'
    with pytest.raises(StoreError) as caught, translated("db"):
        raise psycopg.OperationalError(text)
    assert "Connection refused Is the server running?; check that" in str(caught.value)
    # Nothing was left out of it.
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "exc",
    [
        _sent("25006", "cannot execute UPDATE in a read-only transaction"),
        _sent("57P03", "the database system is starting up"),
        _sent("57P01", "terminating connection due to administrator command"),
        psycopg.OperationalError("server closed the connection unexpectedly"),
        pymysql.err.OperationalError(1290, "running with the --read-only option"),
        pymysql.err.OperationalError(1927, "Connection was killed"),
        pymysql.err.InterfaceError(0, ""),
        pymysql.err.InternalError("Packet sequence number wrong"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("it did not answer in time"),
        sqlite3.OperationalError("database is locked"),
    ],
)
def test_what_may_heal_is_unavailable(exc: Exception) -> None:
    with pytest.raises(StoreUnavailable), translated("db"):
        raise exc


@pytest.mark.parametrize(
    ("exc", "fix"),
    [
        (_sent("42501", "permission denied for schema public"), "create-tables"),
        (_sent("42703", 'column "mark" does not exist'), "up to date"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "let this user write"),
    ],
)
def test_what_does_not_heal_names_the_fix(exc: Exception, fix: str) -> None:
    with pytest.raises(StoreError, match=fix) as caught, translated("db"):
        raise exc
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize(
    ("exc", "is_unknown"),
    [
        (_sent("40001", "could not serialize access"), False),
        (_sent("23505", "duplicate key"), False),
        (_sent("57P01", "terminating connection due to administrator command"), True),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (pymysql.err.OperationalError(1213, "Deadlock found"), False),
        (_answered(1205, "Lock wait timeout exceeded", "HY000"), False),
        (_answered(1180, "Got error 5 during COMMIT", "HY000"), True),
        (pymysql.err.OperationalError(2013, "Lost connection to server during query"), True),
        (pymysql.err.InterfaceError(0, ""), True),
        (TimeoutError("it did not answer in time"), True),
        (sqlite3.OperationalError("database is locked"), False),
        (sqlite3.OperationalError("database or disk is full"), False),
        (sqlite3.OperationalError("disk I/O error"), True),
    ],
)
def test_commit_is_unknown_unless_the_database_refused_it(exc: Exception, is_unknown: bool) -> None:
    with pytest.raises(OutcomeUnknown if is_unknown else type(exc)), committing("db"):
        raise exc


def test_number_of_mysql_counts_more_than_its_sqlstate() -> None:
    with pytest.raises(StoreUnavailable, match="when it is the primary"), translated("db"):
        raise _answered(1290, "running with the --read-only option", "HY000")
    with pytest.raises(StoreError, match="create-tables"), translated("db"):
        raise _answered(1142, "CREATE command denied", "42000")
