"""Stores: where settings, their revision and their history are kept."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError
from .base import HistoryEntry, Store

__all__ = ["HistoryEntry", "Store", "store_from_url"]


def store_from_url(url: str, *, folder: Path, timeout_s: float, write_timeout_s: float) -> Store:
    """Return the store that a URL names; opens nothing.

    :param url: ``sqlite:///relative/file.db`` or ``sqlite:////absolute/file.db``.
    :param folder: what a relative file is relative to.
    :raises ConfigurationError: no store knows this URL, or the file's folder does not exist.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        # Imported only when used: a worker pays memory for every module.
        from .sqlite import SqliteStore

        path = folder / unquote(parts.path[1:])
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"the folder {path.parent} of the settings database does not exist: "
                "create it, or name another file in WAFFLE_STORE_URL"
            )
        return SqliteStore(path, timeout_s=timeout_s, write_timeout_s=write_timeout_s)
    raise ConfigurationError(
        f"WAFFLE_STORE_URL names no store that is known ({parts.scheme or 'no scheme'}): "
        "write sqlite:///file.db, or sqlite:////absolute/file.db"
    )
