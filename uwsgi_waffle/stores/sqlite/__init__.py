"""The built-in store: one SQLite file."""

from __future__ import annotations

from .store import SqliteStore
from .tables import DEFAULT_PREFIX

__all__ = ["DEFAULT_PREFIX", "SqliteStore"]
