"""All faults; importing this registers them."""

from __future__ import annotations

from . import clock, database, ear, files, lifecycle, notify, process, redis

__all__ = ["clock", "database", "ear", "files", "lifecycle", "notify", "process", "redis"]
