"""The work of people with settings, on the command line and on a page: list, restore, move."""

from __future__ import annotations

from ..errors import UnknownRevisionError
from .backup import (
    FORMAT,
    Backup,
    BackupError,
    back_up,
    differences_of,
    plan_restore,
    read_backup,
)
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
from .by_hand import by_hand_notice, changed_by_hand
from .copy import copy
from .describe import describe, history, history_since, preview, read_history, undeclared
from .neighbours import kept_for_others, left_notice
from .recreate import Loss, dump_of, find_loss
from .rollback import Plan, plan_rollback, plan_undo, rollback
from .transfer import export, import_, parse_json, plan_import, prune, trim

__all__ = [
    "DEFAULT",
    "FORMAT",
    "Backup",
    "BackupError",
    "Difference",
    "HistoryItem",
    "Loss",
    "Origin",
    "Plan",
    "SettingInfo",
    "Settings",
    "UnknownRevisionError",
    "back_up",
    "by_hand_notice",
    "changed_by_hand",
    "copy",
    "describe",
    "differences_of",
    "dump_of",
    "export",
    "find_loss",
    "history",
    "history_since",
    "import_",
    "is_same",
    "kept_for_others",
    "left_notice",
    "parse_json",
    "plan_import",
    "plan_restore",
    "plan_rollback",
    "plan_undo",
    "preview",
    "prune",
    "read_backup",
    "read_history",
    "rollback",
    "show_raw",
    "trim",
    "undeclared",
]
