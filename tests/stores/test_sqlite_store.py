"""The stdlib SQLite store keeps the contract."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from uwsgi_waffle import forking
from uwsgi_waffle.errors import ConfigurationError, StoreError
from uwsgi_waffle.stores import Committed
from uwsgi_waffle.stores.redis import RedisStore
from uwsgi_waffle.stores.sql.changes import SqlStore
from uwsgi_waffle.stores.sqlite import SqliteStore, connections
from uwsgi_waffle.stores.sqlite.connections import Reader, connect
from uwsgi_waffle.stores.sqlite.memory import MemorySqliteStore
from uwsgi_waffle.testing.assertions import read_after, stored
from uwsgi_waffle.testing.forked import children, in_processes, results

from ..support.descriptors import open_descriptors
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


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["python", "uwsgi"])
def test_child_that_outlives_its_parents_connection_reads_what_is_committed(
    tmp_path: Path, fork: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # uWSGI calls no handler of Python's.
    monkeypatch.setattr(os, "fork", fork)
    path = tmp_path / "waffle.db"
    store = SqliteStore(path)
    store.prepare()
    store.write({"A": "1"})
    store.read_since(0, "")
    ready, go = os.pipe(), os.pipe()

    def read(number: int) -> list[int]:
        before = store.read_since(0, "").revision
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        made = store.write({"A": "3"})
        return [before, made, store.read_since(0, "").revision]

    def write_and_end(number: int) -> int:
        made = store.write({"A": "2"})
        store.close()
        return made

    with children(1, read) as running:
        assert os.read(ready[0], 1) == b"x"
        # Others are the last ones who have it open, unless the child's locks say that it has.
        store.close()
        assert in_processes(1, write_and_end) == [2]
        os.write(go[1], b"x")
        assert results(running) == [[1, 3, 3]]
    for end in (*ready, *go):
        os.close(end)
    assert store.read_since(0, "").revision == 3


@pytest.mark.parametrize("has_ofd", [True, False])
@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["python", "uwsgi"])
def test_child_keeps_the_log_of_a_writer_that_was_killed_since_its_fork(
    tmp_path: Path, fork: Any, monkeypatch: pytest.MonkeyPatch, has_ofd: bool
) -> None:
    if has_ofd and not forking.HAS_OFD:
        pytest.skip("no lock belongs to an open file on this system")
    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(connections, "HAS_OFD", has_ofd)
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    store.write({"A": "1"})
    store.read_since(0, "")
    go = os.pipe()

    def read(number: int) -> int:
        os.read(go[0], 1)
        revision = store.read_since(0, "").revision
        store.close()
        return revision

    def write_and_be_killed(number: int) -> None:
        store.write({"A": "2"})
        os.kill(os.getpid(), signal.SIGKILL)

    with children(1, read) as running:
        # What only the log holds now, nobody has open.
        store.close()
        with pytest.raises(AssertionError, match="it died"):
            in_processes(1, write_and_be_killed)
        assert (tmp_path / "waffle.db-wal").stat().st_size > 0
        os.write(go[1], b"x")
        # Without such a lock it keeps what it has inherited, and may read what that knows.
        assert results(running) in ([[2]] if has_ofd else [[1], [2]])
    for end in go:
        os.close(end)
    assert store.read_since(0, "").revision == 2


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


def test_reader_that_is_dropped_unclosed_closes_its_connection_first(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "a.db").prepare()
    early: Any = connect(tmp_path / "a.db", 1.0)
    reader: Any = Reader(tmp_path / "a.db", 1.0)
    # Older than what keeps it, the collector would come to it first.
    reader._open = lambda wait_s, kept=[early]: kept.pop()
    assert reader.query("SELECT 1", {}) == [(1,)]
    reader.cycle = reader
    del reader, early
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    kept = [file.path for file in psutil.Process().open_files()]
    assert [path for path in kept if path.startswith(str(tmp_path))] == []


def test_history_keeps_exactly_as_many_changes_as_it_may(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db", history_limit=3)
    store.prepare()
    lengths = []
    for number in range(6):
        store.write({"A": str(number)})
        lengths.append(len(store.history()))
    assert lengths == [1, 2, 3, 3, 3, 3]
    store.close()


def test_file_is_kept_in_wal_mode_or_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    with contextlib.closing(connect(store.path, 1.0)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    # As on a network file system.
    refusing: Any = SimpleNamespace(
        execute=lambda statement: SimpleNamespace(fetchone=lambda: ("delete",))
    )
    with pytest.raises(StoreError, match=r"stays delete\): put it on a local disk"):
        store._switch_to_wal(refusing)
    assert not open_descriptors(store.path)


def test_reading_connection_writes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    reader = Reader(store.path, 1.0)
    with pytest.raises(StoreError, match="readonly"):
        reader.query("DELETE FROM waffle_meta", {})
    reader.close()
    store.write({"A": "1"})
    assert store.read_since(0, "").revision == 1
    assert open_descriptors(store.path)
    store.close()
    assert not open_descriptors(store.path)


def test_file_that_is_no_database_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "waffle.db"
    path.write_text("of somebody else, and long enough to be looked at" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database") as caught:
        connect(path, 1.0)
    # Though the error is kept, which keeps all that it has come by.
    assert caught.traceback
    assert not open_descriptors(path)


def test_child_that_ends_closes_no_connection_of_its_parent(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    store.read_since(0, "")
    reader = store._reader.peek()
    assert reader is not None
    assert reader._finalizer is not None
    assert reader._finalizer.atexit is False
    store.close()


def test_store_in_memory_lies_in_a_folder_of_its_own_and_goes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemorySqliteStore()
    store.prepare()
    folder = store.path.parent
    assert not store.outlives_process
    assert repr(store) == "<MemorySqliteStore>"
    if os.access("/dev/shm", os.W_OK | os.X_OK):
        assert folder.parent == Path("/dev/shm")

    def drop(_: int) -> bool:
        nonlocal store
        del store
        gc.collect()
        return folder.exists()

    # A forked child that ends takes nothing from its parent.
    assert in_processes(1, drop) == [True]
    store.write({"A": "1"})
    store.close()
    del store
    gc.collect()
    assert not folder.exists()
    # One whose folder someone has removed goes without a word.
    other = MemorySqliteStore()
    other.path.parent.rmdir()
    del other
    gc.collect()


def test_built_in_stores_call_before_the_commit_and_know_what_they_stand_in_for() -> None:
    for kind in (SqliteStore, RedisStore, SqlStore):
        assert (kind.calls_before_commit, kind.keeps_replaced) == (True, True)


def test_change_to_a_file_that_was_replaced_meanwhile_reports_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    found: list[Committed] = []
    store.write({"A": "1"}, committed=found.append)
    assert [each.delta.revision for each in found] == [1]
    store.write({"A": "2"}, before_commit=store.path.unlink, committed=found.append)
    assert len(found) == 1
    SqliteStore(store.path).prepare()
    store.write({"A": "3"}, committed=found.append)
    assert found[1].delta.epoch != found[0].delta.epoch


def test_text_that_was_broken_by_hand_keeps_no_change_from_being_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    store.write({"A": "1"})
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("UPDATE waffle_meta SET mark = CAST(x'ff' AS TEXT)")
    assert store.write({"A": "2"}) == 2
    assert store.read_since(0, "").rows == (("A", "2"),)
