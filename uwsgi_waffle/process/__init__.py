"""One app in one process: reading, serving and announcing its settings, and the watcher."""

from __future__ import annotations
