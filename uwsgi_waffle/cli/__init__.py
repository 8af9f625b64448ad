"""The command line of an app: ``flask waffle …``.

Flask finds :data:`group` by its entry point, so that a worker never imports this package. A
module adds commands by ``@group.command()``, and is imported here.
"""

from __future__ import annotations

from . import (
    backup,
    changes,
    create,
    diff,
    doctor,
    edit,
    legacy,
    queries,
    recreate,
    transfer,
    watch,
    workers,
)
from .base import group

__all__ = [
    "backup",
    "changes",
    "create",
    "diff",
    "doctor",
    "edit",
    "group",
    "legacy",
    "queries",
    "recreate",
    "transfer",
    "watch",
    "workers",
]
