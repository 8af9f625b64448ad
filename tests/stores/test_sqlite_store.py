"""The stdlib SQLite store keeps the contract."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.errors import ConfigurationError, StoreError
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing.store_contract import read_after, stored

from ..support.file_store import FileStoreContract
from ..support.rig import ordinary_user


class TestSqliteStore(FileStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        self.path = tmp_path / "waffle.db"
        store = SqliteStore(self.path, timeout_s=15.0, write_timeout_s=30.0)
        yield store
        store.close()

    def test_one_refresh_is_one_statement(self, store: SqliteStore) -> None:
        store.prepare()
        store.write({"A": "1", "B": "2"})
        known = store.read_since(0, "")
        reader = store._reader.peek()
        assert reader is not None
        statements: list[str] = []
        connection = reader._connection
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(statements.append)
        store.read_since(0, "")
        read_after(store, known)
        store.read_since(1, "another")
        assert [statement.split()[0] for statement in statements] == ["WITH"] * 3

    @pytest.mark.parametrize(
        "broken", ["CAST(x'22ff22' AS TEXT)", "x'22ff22'"], ids=["text", "blob"]
    )
    def test_value_that_is_no_utf_8_keeps_no_other_from_being_read(
        self, store: SqliteStore, broken: str
    ) -> None:
        store.prepare()
        store.write({"A": "1", "B": '"b"'})
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute(f"UPDATE waffle_settings SET raw = {broken} WHERE name = 'B'")
        # A text which no declaration takes for JSON, so that the default is served.
        assert {row.name: row.raw for row in store.read_since(0, "").rows} == {
            "A": "1",
            "B": '"\\xff"',
        }
        store.write({"B": '"c"'})
        assert store.history(name="B", limit=1)[0].old_raw == '"\\xff"'
        assert {row.name: row.raw for row in store.read_since(0, "").rows}["B"] == '"c"'


def test_store_that_is_dropped_leaves_no_connection_open(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    store.read_since(0, "")
    reader = store._reader.peek()
    assert reader is not None
    connection = reader._connection
    assert connection is not None
    del store, reader
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_history_leaves_out_what_has_no_time(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    for number in range(1, 9):
        store.write({"A": str(number)})
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("UPDATE waffle_history SET at = 'x' WHERE revision IN (8, 7, 5)")
        connection.execute("UPDATE waffle_history SET at = x'ff' WHERE revision = 4")
        connection.execute("UPDATE waffle_history SET at = '2026-01-31' WHERE revision = 2")
    assert [entry.revision for entry in store.history(limit=2)] == [6, 3]
    entries = store.history()
    assert [entry.revision for entry in entries] == [6, 3, 2, 1]
    assert all(entry.at.tzinfo is not None for entry in entries)
    assert len(store.dump().history) == 4
    store.close()


def test_apps_share_a_file_by_a_prefix(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "waffle.db")
    second = SqliteStore(tmp_path / "waffle.db", prefix="shop_")
    for store, value in ((first, "1"), (second, "2")):
        store.prepare()
        store.write({"A": value})
    assert [store.dump().raws for store in (first, second)] == [{"A": "1"}, {"A": "2"}]
    assert repr(first) != repr(second)
    for prefix in ("", "Shop_", "sqlite_", "a-b", "1_", "x" * 40, 'a"; DROP TABLE x; --'):
        with pytest.raises(ConfigurationError, match="prefix"):
            SqliteStore(tmp_path / "waffle.db", prefix=prefix)
    first.close()
    second.close()


def test_who_may_only_read_needs_a_writer_that_has_the_file_open(open_folder: Path) -> None:
    writer = SqliteStore(open_folder / "waffle.db")
    writer.prepare()
    writer.write({"A": "1"})
    writer.close()
    # As a volume that is mounted to be read only.
    if os.geteuid() == 0:
        os.chown(open_folder, 0, 0)
    writer.path.chmod(0o444)
    open_folder.chmod(0o555)
    reader = SqliteStore(writer.path)
    with ordinary_user(), pytest.raises(StoreError, match="must have the database open"):
        reader.read_since(0, "")
    open_folder.chmod(0o755)
    writer.path.chmod(0o644)
    writer.write({"A": "2"})
    with ordinary_user():
        assert stored(reader) == {"A": "2"}
        reader.close()
    writer.close()
