"""The work of people with settings, on the command line and on a page: list, restore, move."""

from __future__ import annotations

from ..errors import UnknownRevisionError
from .base import (
    DEFAULT,
    Difference,
    HistoryItem,
    Origin,
    SettingInfo,
    Settings,
    is_same,
    show_raw,
)
from .describe import describe, history, history_since, preview, undeclared
from .rollback import Plan, plan_rollback, rollback
from .transfer import export, import_, parse_json, plan_import, prune, trim

__all__ = [
    "DEFAULT",
    "Difference",
    "HistoryItem",
    "Origin",
    "Plan",
    "SettingInfo",
    "Settings",
    "UnknownRevisionError",
    "describe",
    "export",
    "history",
    "history_since",
    "import_",
    "is_same",
    "parse_json",
    "plan_import",
    "plan_rollback",
    "preview",
    "prune",
    "rollback",
    "show_raw",
    "trim",
    "undeclared",
]
