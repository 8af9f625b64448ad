"""The store in a peewee database."""

from __future__ import annotations

from .store import PeeweeWaffleStore

__all__ = ["PeeweeWaffleStore"]
