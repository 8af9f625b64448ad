"""The WAFFLE_* keys of app.config."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from uwsgi_waffle import ConfigurationError, WaffleConf, WaffleWarning
from uwsgi_waffle.config import ConfigKeys, Options

FOLDER = Path("/srv/shop/instance")


def options(**config: Any) -> Options:
    return Options.from_config(config, FOLDER)


DEFAULTS: dict[str, Any] = {
    "multiproc": None,
    "watchtype": "file",
    "watcher_file": FOLDER / "waffle.watch",
    "redis_url": "redis://localhost:6379/0",
    "redis_channel": "waffleconf",
    "redis_timeout_s": 1.0,
    "postgresql_url": "",
    "postgresql_channel": "",
    "store_url": "sqlite:///waffle.db",
    "store_timeout_s": 1.0,
    "write_timeout_s": 5.0,
    "poll_interval_s": 0.2,
    "resync_interval_s": 10.0,
    "require_lazy_apps": False,
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_defaults(name: str, value: object) -> None:
    assert getattr(options(), name) == value


@pytest.mark.parametrize(
    ("key", "given", "name", "value"),
    [
        ("WAFFLE_MULTIPROC", False, "multiproc", False),
        ("WAFFLE_WATCHTYPE", "redis", "watchtype", "redis"),
        ("WAFFLE_WATCHER_FILE", "/run/x.watch", "watcher_file", Path("/run/x.watch")),
        ("WAFFLE_WATCHER_FILE", Path("x.watch"), "watcher_file", FOLDER / "x.watch"),
        ("WAFFLE_REDIS_HOST", "db1", "redis_url", "redis://db1:6379/0"),
        ("WAFFLE_REDIS_PORT", 7000, "redis_url", "redis://localhost:7000/0"),
        ("WAFFLE_REDIS_CHANNEL", "shop", "redis_channel", "shop"),
        ("WAFFLE_STORE_PREFIX", "shop_", "store_prefix", "shop_"),
        ("WAFFLE_REDIS_URL", "unix:///run/redis", "redis_url", "unix:///run/redis"),
        ("WAFFLE_REDIS_TIMEOUT", 2, "redis_timeout_s", 2.0),
        ("WAFFLE_WATCHTYPE", "postgresql", "watchtype", "postgresql"),
        ("WAFFLE_POSTGRESQL_URL", "postgresql://db1/x", "postgresql_url", "postgresql://db1/x"),
        ("WAFFLE_POSTGRESQL_CHANNEL", "shop", "postgresql_channel", "shop"),
        ("WAFFLE_STORE_URL", "sqlite:////srv/x.db", "store_url", "sqlite:////srv/x.db"),
        ("WAFFLE_STORE_TIMEOUT", 0.5, "store_timeout_s", 0.5),
        ("WAFFLE_WRITE_TIMEOUT", 7, "write_timeout_s", 7.0),
        ("WAFFLE_POLL_INTERVAL", 0.05, "poll_interval_s", 0.05),
        ("WAFFLE_RESYNC_INTERVAL", 60, "resync_interval_s", 60.0),
        ("WAFFLE_REQUIRE_LAZY_APPS", True, "require_lazy_apps", True),
    ],
)
def test_each_key_is_read(key: str, given: object, name: str, value: object) -> None:
    assert getattr(options(**{key: given}), name) == value


def test_redis_url_wins_over_host_and_port() -> None:
    given = options(WAFFLE_REDIS_URL="redis://a", WAFFLE_REDIS_HOST="b", WAFFLE_REDIS_PORT=1)
    assert given.redis_url == "redis://a"


@pytest.mark.parametrize("key", [key for key in ConfigKeys.all() if key != ConfigKeys.CONFS])
def test_value_of_no_fitting_type_is_an_error_for_every_key(key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        options(**{key: object()})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("db1", "redis://db1:7000/0"),
        ("::1", "redis://[::1]:7000/0"),
        ("a b@c", "redis://a%20b%40c:7000/0"),
    ],
)
def test_redis_url_is_made_of_host_and_port(host: str, url: str) -> None:
    assert options(WAFFLE_REDIS_HOST=host, WAFFLE_REDIS_PORT=7000).redis_url == url


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("WAFFLE_MULTIPROC", "yes", "True, False or None"),
        ("WAFFLE_MULTIPROC", 1, "True, False or None"),
        ("WAFFLE_WATCHTYPE", "uwsgi", "'file', 'redis' or 'postgresql'"),
        ("WAFFLE_WATCHTYPE", None, "'file', 'redis' or 'postgresql'"),
        ("WAFFLE_WATCHER_FILE", "", "a string"),
        ("WAFFLE_WATCHER_FILE", 3, "a string, got int"),
        ("WAFFLE_REDIS_HOST", "", "a string, got an empty one"),
        ("WAFFLE_REDIS_PORT", "6379", "a port number"),
        ("WAFFLE_REDIS_PORT", 0, "a port number"),
        ("WAFFLE_REDIS_PORT", 65_536, "a port number"),
        ("WAFFLE_REDIS_PORT", True, "a port number"),
        ("WAFFLE_REDIS_CHANNEL", None, "a string"),
        ("WAFFLE_REDIS_URL", 3, "a string"),
        ("WAFFLE_REDIS_TIMEOUT", 0, "more than 0"),
        ("WAFFLE_POSTGRESQL_URL", None, "a string"),
        ("WAFFLE_POSTGRESQL_CHANNEL", "ä" * 32, "at most 63 bytes"),
        ("WAFFLE_POSTGRESQL_CHANNEL", "a\0b", "without NUL"),
        ("WAFFLE_REDIS_CHANNEL", "a\udc80", "without NUL"),
        ("WAFFLE_STORE_PREFIX", "a\0b", "without NUL"),
        ("WAFFLE_STORE_URL", b"sqlite://", "a string"),
        ("WAFFLE_STORE_TIMEOUT", "1", "number of seconds"),
        ("WAFFLE_WRITE_TIMEOUT", -1, "more than 0"),
        ("WAFFLE_POLL_INTERVAL", float("nan"), "number of seconds"),
        ("WAFFLE_POLL_INTERVAL", None, "number of seconds"),
        ("WAFFLE_RESYNC_INTERVAL", float("inf"), "less than a day"),
        ("WAFFLE_RESYNC_INTERVAL", 86_400, "less than a day"),
        ("WAFFLE_REQUIRE_LAZY_APPS", "no", "True or False"),
    ],
)
def test_unusable_value_is_an_error_that_names_the_key_and_the_fix(
    key: str, value: object, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        options(**{key: value})
    assert key in str(caught.value)


def test_misspelt_key_is_warned_of_with_the_nearest_one() -> None:
    with pytest.warns(WaffleWarning, match=r"WAFFLE_WATCH_TYPE; did you mean WAFFLE_WATCHTYPE\?"):
        options(WAFFLE_WATCH_TYPE="redis")


def test_other_keys_of_the_app_are_left_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options(SECRET_KEY="x", SITENAME="y")


@pytest.mark.parametrize("key", ["WAFFLE_REDIS_URL", "WAFFLE_POSTGRESQL_URL", "WAFFLE_STORE_URL"])
def test_passwords_are_in_no_message_and_no_repr(key: str) -> None:
    url = "redis://ann:s3cr3t@db1/0"
    assert "s3cr3t" not in repr(options(**{key: url}))
    with pytest.raises(ConfigurationError) as caught:
        options(**{key: [url]})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("begin", [WaffleConf, lambda app: WaffleConf().init_app(app)])
def test_misspelt_key_is_named_with_the_line_of_the_app(
    tmp_path: Path, begin: Callable[[Flask], object]
) -> None:
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["WAFFLE_STORE_URl"] = "sqlite:///x.db"
    with pytest.warns(WaffleWarning, match="did you mean WAFFLE_STORE_URL") as warned:
        begin(app)
    assert [each.filename for each in warned] == [__file__]
