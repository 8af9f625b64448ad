"""Notifiers: how one process lets the others know that the store has a newer revision."""

from __future__ import annotations

from .base import Notice, Notifier

__all__ = ["Notice", "Notifier"]
