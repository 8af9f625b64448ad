"""Stores: where settings, their revision and their history are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigurationError
from ..forking import PerProcess
from ..redis_servers import SCHEMES
from ..snapshot import Delta, Row
from .base import URL_NAMED, Channel, Committed, Dump, HistoryEntry, Store, WorkerReport

__all__ = [
    "Channel",
    "Committed",
    "Delta",
    "Dump",
    "HistoryEntry",
    "PerProcess",
    "Row",
    "Store",
    "WorkerReport",
    "store_from_url",
]

_SQL = ("postgresql", "mysql", "mariadb")


def store_from_url(
    url: str,
    *,
    folder: Path,
    timeout_s: float,
    write_timeout_s: float,
    history_limit: int | None = None,
    prefix: str = "",
    makes_folder: bool = False,
    named: str = URL_NAMED,
) -> Store:
    """Return the store that a URL names; opens nothing.

    :param url: ``sqlite:///file.db`` (or four slashes and an absolute path) is the embedded
        store, which apps share by a ``?prefix=`` each; ``sqlite:///:memory:`` keeps settings in
        memory, for one process and its tests; ``redis://``, ``rediss://`` and ``unix://``, also
        with ``+sentinel`` or ``+cluster``, are Redis, and ``postgresql+psycopg://`` or any other
        URL of SQLAlchemy's is SQLAlchemy.
    :param prefix: what the names of the tables or keys begin with, unless the URL names one; empty
        for the store's own default.
    :param folder: what a relative file is relative to.
    :param makes_folder: it is made later, if it is not there.
    :param history_limit: how many changes the history keeps; the store's own default if ``None``.
    :param named: where the URL was given, such as a key of ``app.config``, for messages.
    :raises ConfigurationError: no store knows this URL, what it needs is not installed, or the
        file's folder does not exist.
    """
    given: Any = {"timeout_s": timeout_s, "write_timeout_s": write_timeout_s}
    if history_limit is not None:
        given["history_limit"] = history_limit
    # Before its parts are split: that refuses an IPv6 address among several hosts.
    if url.partition("://")[0] in SCHEMES:
        return _redis_store(url, prefix, named, given)
    parts = urlsplit(url)
    dialect, _, driver = parts.scheme.partition("+")
    # Each is imported only when it is used: a worker pays memory for every module.
    if dialect == "sqlite" and not parts.netloc and len(parts.path) > 1:
        if not driver and unquote(parts.path) == "/:memory:":
            from .sqlite.memory import MemorySqliteStore

            return MemorySqliteStore(
                prefix=_prefix(parts.query, prefix),
                **given,
            )
        path = folder / unquote(parts.path[1:])
        if not path.parent.is_dir() and not (makes_folder and path.parent == folder):
            raise ConfigurationError(
                f"the folder {path.parent} of the settings database does not exist: "
                f"create it, or name another file in {named}"
            )
        if not driver:
            from .sqlite import SqliteStore

            return SqliteStore(
                path,
                prefix=_prefix(parts.query, prefix),
                **given,
            )
        url = f"{parts.scheme}:///{path.absolute()}" + (f"?{parts.query}" if parts.query else "")
    if dialect in _SQL or (driver and url.partition("://")[2]):
        try:
            from .sqlalchemy import AlchemyWaffleStore
        except ImportError as exc:
            raise _missing("sqlalchemy", named, exc) from exc
        if prefix:
            given["prefix"] = prefix
        return AlchemyWaffleStore(url, **given)
    raise ConfigurationError(
        f"{named} names no store that is known ({parts.scheme or 'no scheme'}): write "
        "sqlite:///file.db, postgresql+psycopg://user:password@host/database, "
        "mysql+pymysql://…, redis://host:6379/0 or redis+sentinel://host:26379,host2/service/0"
    )


def _redis_store(url: str, prefix: str, named: str, given: Any) -> Store:
    try:
        from .redis import RedisStore
    except ImportError as exc:
        raise _missing("redis", named, exc) from exc
    query = url.partition("?")[2]
    if prefix and "prefix" not in dict(parse_qsl(query, keep_blank_values=True)):
        given["prefix"] = prefix
    return RedisStore(url, named=named, **given)


def _prefix(query: str, prefix: str) -> str:
    """Return the prefix that the URL of the built-in store names, or another, or the default."""
    from .sqlite import DEFAULT_PREFIX

    parameters = dict(parse_qsl(query, keep_blank_values=True))
    prefix = parameters.pop("prefix", prefix or DEFAULT_PREFIX)
    if parameters:
        raise ConfigurationError(
            f"the URL of the built-in store has no {', '.join(sorted(parameters))}: only "
            "?prefix=… may follow its file"
        )
    return prefix


def _missing(extra: str, named: str, exc: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"{named} needs a package that is not installed ({exc}): "
        f"pip install 'uwsgi-waffle[{extra}]'"
    )
