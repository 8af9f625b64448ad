"""The admin page; imported only by apps that use it."""

from __future__ import annotations

from .blueprint import make_blueprint

__all__ = ["make_blueprint"]
