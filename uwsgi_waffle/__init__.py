"""Runtime-changeable settings of a Flask app, consistent over every uWSGI worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    ChangeRefused,
    ConfigurationError,
    InvalidValueError,
    NotifierError,
    OutcomeUnknown,
    RevisionConflict,
    StoreError,
    StoreUnavailable,
    UnknownSettingError,
    WaffleError,
    WaffleWarning,
)
from .extension import WaffleConf
from .process.engine import Status
from .process.health import State
from .settings.classes import Setting
from .signals import setting_changed
from .snapshot import Snapshot
from .stores import HistoryEntry, Store, WorkerReport
from .stores.mixin import WaffleMixin
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .stores.peewee import PeeweeWaffleStore as PeeweeWaffleStore
    from .stores.redis import RedisStore as RedisStore
    from .stores.sqlalchemy import AlchemyWaffleStore as AlchemyWaffleStore

__all__ = [
    "ChangeRefused",
    "ConfigurationError",
    "HistoryEntry",
    "InvalidValueError",
    "NotifierError",
    "OutcomeUnknown",
    "RevisionConflict",
    "Setting",
    "Snapshot",
    "State",
    "Status",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "UnknownSettingError",
    "WaffleConf",
    "WaffleError",
    "WaffleMixin",
    "WaffleWarning",
    "WorkerReport",
    "setting_changed",
]

# Mapping of each store that needs an extra to its module, which has the extra's name.
_EXTRAS = {"AlchemyWaffleStore": "sqlalchemy", "PeeweeWaffleStore": "peewee", "RedisStore": "redis"}


def __getattr__(name: str) -> Any:
    # Imported only when they are used: a worker pays memory for every module.
    if name not in _EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    extra = _EXTRAS[name]
    from importlib import import_module

    try:
        module = import_module(f".stores.{extra}", __name__)
    except ImportError as exc:
        raise ImportError(
            f"{name} needs more ({exc}): pip install 'uwsgi-waffle[{extra}]'"
        ) from exc
    return getattr(module, name)
