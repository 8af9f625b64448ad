"""Periodic tasks on the watcher's thread: reports, metrics, and the last known values."""

from __future__ import annotations
