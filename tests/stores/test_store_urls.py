"""What ``WAFFLE_STORE_URL`` may say."""

from __future__ import annotations

import gc
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import uwsgi_waffle
from uwsgi_waffle.errors import ConfigurationError
from uwsgi_waffle.masking import redact
from uwsgi_waffle.stores import Store, store_from_url
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing import in_processes


def _store(url: str, folder: Path = Path("/tmp")) -> Store:
    return store_from_url(url, folder=folder, timeout_s=1.0, write_timeout_s=5.0)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:///waffle.db", SqliteStore),
        ("sqlite:////tmp/waffle.db", SqliteStore),
        ("sqlite:///waffle.db?prefix=shop_", SqliteStore),
        ("sqlite+pysqlite:///waffle.db", AlchemyWaffleStore),
        ("postgresql+psycopg://ann:s3cret@host/x", AlchemyWaffleStore),
        ("redis://:s3cret@localhost:6379/0", RedisStore),
        ("rediss://localhost/1?prefix=site:", RedisStore),
        ("unix:///run/redis.sock?db=2&prefix=site:", RedisStore),
        ("redis+sentinel://:s3cret@s1,[::1]:26380/site/0?sentinel_password=s3cret", RedisStore),
        ("rediss+cluster://:s3cret@n1:7000,n2:7001", RedisStore),
    ],
)
def test_url_names_its_store(url: str, kind: type[Store]) -> None:
    store = _store(url)
    assert type(store) is kind
    assert "s3cret" not in repr(store)


def test_relative_files_lie_in_the_folder(tmp_path: Path) -> None:
    for url in ("sqlite:///a.db", "sqlite+pysqlite:///b.db?timeout=3"):
        store = _store(url, tmp_path)
        store.prepare()
        store.write({"A": "1"})
        store.close()
    assert {path.name for path in tmp_path.glob("*.db")} == {"a.db", "b.db"}
    for url in ("sqlite:///nowhere/a.db", "sqlite+pysqlite:///nowhere/a.db"):
        with pytest.raises(ConfigurationError, match="does not exist"):
            _store(url, tmp_path)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://host/x", "sqlalchemy", "sqlalchemy"),
        ("redis://host", "redis", "redis"),
    ],
)
def test_missing_extra_is_named(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lack(module, monkeypatch)
    with pytest.raises(ConfigurationError, match=rf"pip install 'uwsgi-waffle\[{extra}\]'"):
        _store(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nosuch://host",
        "sqlite:///a.db?timeout=3",
        "sqlite:///a.db?prefix=",
        "waffle.db",
        "sqlite://",
        "redis://:s3@h:x",
    ],
)
def test_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _store(url)
    assert "s3@" not in "".join(traceback.format_exception(caught.value)).replace(repr(url), "")


def test_passwords_are_masked() -> None:
    for secret in ("s3cret", "s3/cret", "s3@cret", "s3:cret"):
        text = redact(f"no redis://ann:{secret}@host:6379/0 there")
        assert text == "no redis://ann:***@host:6379/0 there"
    assert redact("x://h/y?user=a&password=s3cret&z=1") == "x://h/y?user=a&password=***&z=1"
    assert redact("redis://localhost:6379/0 asks a@b") == "redis://localhost:6379/0 asks a@b"


def test_stores_are_imported_from_the_package_only_when_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert uwsgi_waffle.AlchemyWaffleStore is AlchemyWaffleStore
    assert uwsgi_waffle.RedisStore is RedisStore
    assert uwsgi_waffle.PeeweeWaffleStore.__name__ == "PeeweeWaffleStore"
    code = "import sys, uwsgi_waffle; print({'sqlalchemy', 'peewee', 'redis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "set()\n"
    _lack("sqlalchemy", monkeypatch)
    with pytest.raises(ImportError, match=r"pip install 'uwsgi-waffle\[sqlalchemy\]'"):
        uwsgi_waffle.AlchemyWaffleStore  # noqa: B018
    with pytest.raises(AttributeError, match="NoSuchStore"):
        uwsgi_waffle.NoSuchStore  # noqa: B018


def _lack(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    room = f"uwsgi_waffle.stores.{module}"
    for name in [name for name in sys.modules if name == room or name.startswith(f"{room}.")]:
        monkeypatch.delitem(sys.modules, name)


def test_memory_is_no_file_of_the_folder_and_goes_with_its_store(tmp_path: Path) -> None:
    stores = [_store("sqlite:///:memory:", tmp_path) for _ in range(2)]
    assert isinstance(stores[0], SqliteStore)
    file = stores[0].path
    for number, store in enumerate(stores):
        store.prepare()
        store.write({"A": str(number)})
    assert [store.dump().raws for store in stores] == [{"A": "0"}, {"A": "1"}]
    assert in_processes(1, lambda _: stores[0].write({"A": "5"})) == [2]
    assert stores[0].dump().raws == {"A": "5"}
    assert list(tmp_path.iterdir()) == []
    assert file.exists()
    stores[0].close()
    stores.clear()
    del store
    gc.collect()
    assert not file.parent.exists()


def test_memory_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from uwsgi_waffle.stores import store_from_url; "
        "store = store_from_url('sqlite:///:memory:', folder=Path('.'), timeout_s=1, "
        "write_timeout_s=1); store.prepare(); print(store.path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not Path(done.stdout.strip()).parent.exists()


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite+pysqlite:///a.db", "redis://localhost", "redis://h?db=1"]
)
def test_prefix_by_key_is_used_unless_the_url_names_one(url: str, tmp_path: Path) -> None:
    def prefix(url: str) -> object:
        store = store_from_url(
            url, folder=tmp_path, timeout_s=1.0, write_timeout_s=1.0, prefix="shop_"
        )
        if isinstance(store, RedisStore):
            return store._keys[0]
        return getattr(store, "prefix", None) or vars(store)["_prefix"]

    assert prefix(url) in ("shop_", "{shop_}meta")
    if "+" not in url:
        separator = "&" if "?" in url else "?"
        assert prefix(f"{url}{separator}prefix=other_") in ("other_", "{other_}meta")
