"""The store in any database of SQLAlchemy's."""

from __future__ import annotations

from .store import AlchemyWaffleStore
from .tables import Tables, define_tables

__all__ = ["AlchemyWaffleStore", "Tables", "define_tables"]
