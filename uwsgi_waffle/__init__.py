"""Runtime-changeable settings of a Flask app, consistent over every uWSGI worker."""

from __future__ import annotations

from .classes import Setting
from .engine import Status
from .errors import (
    ChangeRefused,
    ConfigurationError,
    InvalidValueError,
    NotifierError,
    RevisionConflict,
    StoreError,
    StoreUnavailable,
    UnknownSettingError,
    WaffleError,
    WaffleWarning,
)
from .extension import WaffleConf
from .health import State
from .signals import setting_changed
from .snapshot import Snapshot
from .stores import WorkerReport

__version__ = "0.1.0"

__all__ = [
    "ChangeRefused",
    "ConfigurationError",
    "InvalidValueError",
    "NotifierError",
    "RevisionConflict",
    "Setting",
    "Snapshot",
    "State",
    "Status",
    "StoreError",
    "StoreUnavailable",
    "UnknownSettingError",
    "WaffleConf",
    "WaffleError",
    "WaffleWarning",
    "WorkerReport",
    "setting_changed",
]
