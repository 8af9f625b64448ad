"""Runtime-changeable settings of a Flask app, consistent over every uWSGI worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .app_state import WaffleState
from .errors import (
    ChangeRefused,
    ConfigurationError,
    InvalidValueError,
    Laggard,
    Laggards,
    NotifierError,
    OutcomeUnknown,
    PinnedSettingError,
    RevisionConflict,
    StoreError,
    StoreLost,
    StoreMissing,
    StoreUnavailable,
    UnknownRevisionError,
    UnknownSettingError,
    WaffleError,
    WaffleWarning,
)
from .extension import WaffleConf
from .process.health import Failure, State, Status
from .signals import SettingsUpdate, setting_changed, settings_updated
from .snapshot import Delta, Row, Snapshot
from .stores import Channel, Committed, Dump, HistoryEntry, Store, WorkerReport
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .operations import HistoryItem as HistoryItem
    from .settings.classes import Setting as Setting
    from .stores.mixin import WaffleMixin as WaffleMixin
    from .stores.peewee import PeeweeWaffleStore as PeeweeWaffleStore
    from .stores.redis import RedisStore as RedisStore
    from .stores.sqlalchemy import AlchemyWaffleStore as AlchemyWaffleStore
    from .stores.sqlite import SqliteStore as SqliteStore

__all__ = [
    "ChangeRefused",
    "Channel",
    "Committed",
    "ConfigurationError",
    "Delta",
    "Dump",
    "Failure",
    "HistoryEntry",
    "InvalidValueError",
    "Laggard",
    "Laggards",
    "NotifierError",
    "OutcomeUnknown",
    "PinnedSettingError",
    "RevisionConflict",
    "Row",
    "SettingsUpdate",
    "Snapshot",
    "State",
    "Status",
    "Store",
    "StoreError",
    "StoreLost",
    "StoreMissing",
    "StoreUnavailable",
    "UnknownRevisionError",
    "UnknownSettingError",
    "WaffleConf",
    "WaffleError",
    "WaffleState",
    "WaffleWarning",
    "WorkerReport",
    "setting_changed",
    "settings_updated",
]

# Mapping of each name that is imported only when it is used to its module: a worker pays memory
# for every module. They are not in __all__, so that a star does not import them all.
_LAZY = {
    "AlchemyWaffleStore": "stores.sqlalchemy",
    "HistoryItem": "operations",
    "PeeweeWaffleStore": "stores.peewee",
    "RedisStore": "stores.redis",
    "Setting": "settings.classes",
    "SqliteStore": "stores.sqlite",
    "WaffleMixin": "stores.mixin",
}
# The stores that need an extra, which has their module's name.
_EXTRAS = ("AlchemyWaffleStore", "PeeweeWaffleStore", "RedisStore")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        module = import_module(f".{_LAZY[name]}", __name__)
    except ImportError as exc:
        if name not in _EXTRAS:
            raise
        extra = _LAZY[name].rpartition(".")[2]
        raise ImportError(
            f"{name} needs more ({exc}): pip install 'uwsgi-waffle[{extra}]'"
        ) from exc
    return getattr(module, name)
