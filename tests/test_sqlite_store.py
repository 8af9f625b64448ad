"""The stdlib SQLite store keeps the contract."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        self.path = tmp_path / "waffle.db"
        store = SqliteStore(self.path, timeout_s=1.0, write_timeout_s=20.0)
        yield store
        store.close()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        # A file system that went away: the folder has another name meanwhile.
        hidden = self.path.parent.with_name("hidden")
        os.rename(self.path.parent, hidden)
        try:
            yield
        finally:
            os.rename(hidden, self.path.parent)

    def test_one_refresh_is_one_statement(self, store: SqliteStore) -> None:
        store.prepare()
        store.write({"A": "1", "B": "2"})
        epoch = store.read_since(0, "").epoch
        reader = store._reader.peek()
        assert reader is not None
        statements: list[str] = []
        connection = reader._connection
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(statements.append)
        store.read_since(0, "")
        store.read_since(1, epoch)
        store.read_since(1, "another")
        assert [statement.split()[0] for statement in statements] == ["SELECT"] * 3
