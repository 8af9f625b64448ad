"""The rows of a table of Flask-WaffleConf, read from any database."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ..errors import ConfigurationError, StoreError
from ..masking import redact

_TIMEOUT_S = 5.0


def read_rows(
    url: str, *, table: str, key_column: str = "key", value_column: str = "value"
) -> list[tuple[Any, Any]]:
    """Return the names and texts of a table, ordered by name; writes nothing.

    :param url: ``sqlite:///file.db`` (relative to the working directory, or with four slashes),
        or any URL that SQLAlchemy understands, if that is installed.
    :param table: its name, or schema.name.
    :raises ConfigurationError: the URL is none, or what it needs is not installed.
    :raises StoreError: the database can't be reached, or has no such table.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        path = Path(unquote(parts.path[1:]))
        return _read_sqlite(path, table, key_column, value_column)
    return _read_sqlalchemy(url, table, key_column, value_column)


def _read_sqlite(path: Path, table: str, key: str, value: str) -> list[tuple[Any, Any]]:
    # Opened read-only: a misspelt file must not come into being.
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    name = ".".join(map(_quoted, table.split(".")))
    query = f"SELECT {_quoted(key)}, {_quoted(value)} FROM {name} ORDER BY 1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S)) as connection:
            return list(connection.execute(query))
    except sqlite3.Error as exc:
        raise StoreError(f"the rows can't be read from {path}: {exc}") from exc


def _quoted(name: str) -> str:
    # SQLite takes a name in double quotes for a text if there is no such column.
    return "`" + name.replace("`", "``") + "`"


def _read_sqlalchemy(url: str, table: str, key: str, value: str) -> list[tuple[Any, Any]]:
    try:
        import sqlalchemy as sa
    except ImportError as exc:
        raise ConfigurationError(
            "reading this database needs SQLAlchemy: pip install 'uwsgi-waffle[sqlalchemy]'"
        ) from exc
    schema, _, name = table.rpartition(".")
    columns: tuple[sa.ColumnClause[Any], sa.ColumnClause[Any]] = sa.column(key), sa.column(value)
    source = sa.table(name, *columns, schema=schema or None)
    query = sa.select(*columns).select_from(source).order_by(columns[0])
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (sa.exc.ArgumentError, ValueError):
        # Without the cause, whose text may hold the password.
        raise ConfigurationError(
            "the URL is none that SQLAlchemy understands: write sqlite:///file.db or "
            "dialect+driver://user:password@host/database"
        ) from None
    except ImportError as exc:
        raise ConfigurationError(f"the driver of this URL is not installed ({exc})") from exc
    try:
        with engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]
    except sa.exc.SQLAlchemyError as exc:
        cause = getattr(exc, "orig", None) or exc
        raise StoreError(redact(f"the rows can't be read: {cause}")) from exc
