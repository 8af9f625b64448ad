"""The ``WAFFLE_*`` keys of ``app.config``, read once and checked."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from .errors import ConfigurationError, warn_app
from .masking import OwnRepr

DEFAULT_STORE_URL = "sqlite:///waffle.db"
#: of a name of PostgreSQL's; what is longer is cut off where it listens
MOST_CHANNEL_BYTES = 63


class ConfigKeys:
    """Every key that is read from ``app.config``."""

    CONFS = "WAFFLE_CONFS"
    MULTIPROC = "WAFFLE_MULTIPROC"
    WATCHTYPE = "WAFFLE_WATCHTYPE"
    WATCHER_FILE = "WAFFLE_WATCHER_FILE"
    PAGE_FILE = "WAFFLE_PAGE_FILE"
    REDIS_HOST = "WAFFLE_REDIS_HOST"
    REDIS_PORT = "WAFFLE_REDIS_PORT"
    REDIS_CHANNEL = "WAFFLE_REDIS_CHANNEL"
    REDIS_URL = "WAFFLE_REDIS_URL"
    REDIS_TIMEOUT = "WAFFLE_REDIS_TIMEOUT"
    POSTGRESQL_URL = "WAFFLE_POSTGRESQL_URL"
    POSTGRESQL_CHANNEL = "WAFFLE_POSTGRESQL_CHANNEL"
    STORE_URL = "WAFFLE_STORE_URL"
    STORE_PREFIX = "WAFFLE_STORE_PREFIX"
    STORE_TIMEOUT = "WAFFLE_STORE_TIMEOUT"
    WRITE_TIMEOUT = "WAFFLE_WRITE_TIMEOUT"
    POLL_INTERVAL = "WAFFLE_POLL_INTERVAL"
    RESYNC_INTERVAL = "WAFFLE_RESYNC_INTERVAL"
    REPORT_INTERVAL = "WAFFLE_REPORT_INTERVAL"
    HISTORY_LIMIT = "WAFFLE_HISTORY_LIMIT"
    SNAPSHOT_SECRETS = "WAFFLE_SNAPSHOT_SECRETS"
    REQUIRE_LAZY_APPS = "WAFFLE_REQUIRE_LAZY_APPS"
    PINNED = "WAFFLE_PINNED"

    @classmethod
    def all(cls) -> list[str]:
        """Return every key, in the order of this class."""
        return [value for name, value in vars(cls).items() if name.isupper()]


class Options(OwnRepr, frozen=True, kw_only=True):
    """The values of the keys; times in seconds."""

    multiproc: bool | None
    watchtype: Literal["file", "redis", "postgresql"]
    watcher_file: Path
    page_file: Path | None
    redis_url: str
    redis_channel: str
    redis_timeout_s: float
    postgresql_url: str
    postgresql_channel: str
    store_url: str
    store_prefix: str
    store_timeout_s: float
    write_timeout_s: float
    poll_interval_s: float
    resync_interval_s: float
    report_interval_s: float
    history_limit: int | None
    snapshot_secrets: bool
    require_lazy_apps: bool
    pinned: frozenset[str]

    def __repr__(self) -> str:
        # URLs may hold passwords.
        return f"<Options watchtype={self.watchtype!r}>"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], folder: Path) -> Options:
        """Return the options of an app; warns about keys that look misspelt.

        :param folder: the app's instance folder, which relative paths are relative to.
        :raises ConfigurationError: a key has an unusable value; names it and the fix.
        """
        _warn_unknown_keys(config)
        read = _Reader(config)
        return cls(
            multiproc=read.typed(ConfigKeys.MULTIPROC, bool | None, None, "True, False or None"),
            watchtype=read.typed(
                ConfigKeys.WATCHTYPE,
                Literal["file", "redis", "postgresql"],
                "file",
                "'file', 'redis' or 'postgresql'",
            ),
            watcher_file=folder / read.text(ConfigKeys.WATCHER_FILE, "waffle.watch"),
            page_file=read.file(ConfigKeys.PAGE_FILE, folder),
            redis_url=read.redis_url(),
            redis_channel=read.name(ConfigKeys.REDIS_CHANNEL, "waffleconf"),
            redis_timeout_s=read.seconds(ConfigKeys.REDIS_TIMEOUT, 1.0),
            postgresql_url=read.text(ConfigKeys.POSTGRESQL_URL, ""),
            postgresql_channel=read.name(
                ConfigKeys.POSTGRESQL_CHANNEL, most_bytes=MOST_CHANNEL_BYTES
            ),
            store_url=read.text(ConfigKeys.STORE_URL, DEFAULT_STORE_URL),
            store_prefix=read.name(ConfigKeys.STORE_PREFIX),
            store_timeout_s=read.seconds(ConfigKeys.STORE_TIMEOUT, 1.0),
            write_timeout_s=read.seconds(ConfigKeys.WRITE_TIMEOUT, 5.0),
            poll_interval_s=read.seconds(ConfigKeys.POLL_INTERVAL, 0.2),
            resync_interval_s=read.seconds(ConfigKeys.RESYNC_INTERVAL, 10.0),
            report_interval_s=read.seconds(ConfigKeys.REPORT_INTERVAL, 10.0, may_be_zero=True),
            history_limit=read.count(ConfigKeys.HISTORY_LIMIT),
            snapshot_secrets=read.typed(ConfigKeys.SNAPSHOT_SECRETS, bool, False, "True or False"),
            require_lazy_apps=read.typed(
                ConfigKeys.REQUIRE_LAZY_APPS, bool, False, "True or False"
            ),
            pinned=read.names(ConfigKeys.PINNED),
        )


class _Reader:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def typed(self, key: str, type_: Any, default: Any, wanted: str) -> Any:
        if key not in self._config:
            return default
        value = self._config[key]
        try:
            return msgspec.convert(value, type_)
        except msgspec.ValidationError:
            raise ConfigurationError(f"{key} must be {wanted}, got {value!r}") from None

    def text(self, key: str, default: str) -> str:
        if key not in self._config:
            return default
        value = self._config[key]
        if isinstance(value, Path):
            value = str(value)
        # The value is not shown: a store's URL holds a password.
        if not isinstance(value, str) or not value:
            got = "an empty one" if value == "" else type(value).__name__
            raise ConfigurationError(f"{key} must be a string, got {got}")
        return value

    def name(self, key: str, default: str = "", *, most_bytes: int | None = None) -> str:
        """Return what a server is to be given as a name."""
        value = self.text(key, default)
        try:
            encoded = value.encode()
        except UnicodeEncodeError:
            encoded = b"\0"
        if b"\0" in encoded:
            raise ConfigurationError(f"{key} must be plain text without NUL, got {value!r}")
        if most_bytes is not None and len(encoded) > most_bytes:
            raise ConfigurationError(f"{key} must have at most {most_bytes} bytes, got {value!r}")
        return value

    def file(self, key: str, folder: Path) -> Path | None:
        return folder / self.text(key, "") if key in self._config else None

    def seconds(self, key: str, default: float, *, may_be_zero: bool = False) -> float:
        value: float = self.typed(key, float, default, "a number of seconds")
        if not 0 < value < 86_400 and not (may_be_zero and value == 0):
            least = "0 for never, or" if may_be_zero else "more than 0 and"
            raise ConfigurationError(
                f"{key} must be a number of seconds, {least} less than a day, got {value!r}"
            )
        return value

    def names(self, key: str) -> frozenset[str]:
        value = self._config.get(key, ())
        if isinstance(value, str):
            # As a variable of the environment has it.
            value = [name.strip() for name in value.split(",") if name.strip()]
        if not isinstance(value, Collection) or not all(isinstance(name, str) for name in value):
            raise ConfigurationError(
                f"{key} must be a list of setting names, or a string such as 'NAME,OTHER'"
            )
        return frozenset(value)

    def count(self, key: str) -> int | None:
        value: int | None = self.typed(key, int | None, None, "a whole number above 0")
        if value is not None and value < 1:
            raise ConfigurationError(f"{key} must be a whole number above 0, got {value!r}")
        return value

    def redis_url(self) -> str:
        if ConfigKeys.REDIS_URL in self._config:
            return self.text(ConfigKeys.REDIS_URL, "")
        host = self.text(ConfigKeys.REDIS_HOST, "localhost")
        port: int = self.typed(ConfigKeys.REDIS_PORT, int, 6379, "a port number")
        if not 0 < port < 65_536:
            raise ConfigurationError(f"{ConfigKeys.REDIS_PORT} must be a port number, got {port}")
        return f"redis://{f'[{host}]' if ':' in host else quote(host)}:{port}/0"


def _warn_unknown_keys(config: Mapping[str, Any]) -> None:
    known = ConfigKeys.all()
    for key in config:
        if key.startswith("WAFFLE_") and key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warn_app(f"unknown configuration key {key}{hint}")
