"""The admin page; imported only by apps that use it."""

from __future__ import annotations

from .access import Access
from .blueprint import make_blueprint

__all__ = ["Access", "make_blueprint"]
