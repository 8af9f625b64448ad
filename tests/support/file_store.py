"""The contract of stores that keep their settings in a file of SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.errors import StoreMissing
from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.testing import StoreContract, stored

from .pruning import PruningContract


class FileStoreContract(PruningContract, StoreContract):
    """Subclasses give the fixture ``store``, which also sets the path of its file."""

    path: Path
    # An outage is an error at once, however long a loaded machine takes for it.
    bound_s = 20.0

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        # A file system that went away: the folder has another name meanwhile.
        hidden = self.path.parent.with_name("hidden")
        os.rename(self.path.parent, hidden)
        try:
            yield
        finally:
            os.rename(hidden, self.path.parent)

    @contextlib.contextmanager
    def going_back(self, store: Store) -> Iterator[None]:
        saved = self.path.with_name("saved.db")
        _copy(self.path, saved)
        yield
        store.close()
        _copy(saved, self.path)

    def lose(self, store: Store) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
            if "waffle_revisions" in tables:
                # The others are the user's own.
                for name in ("meta", "revisions", "history", "workers"):
                    connection.execute(f"DROP TABLE IF EXISTS waffle_{name}")
                return
        for part in self.path.parent.glob(f"{self.path.name}*"):
            part.unlink()

    def test_file_is_made_for_its_owner_and_group_alone(self, store: Store) -> None:
        if self.path.exists():
            pytest.skip("the user made it, with a table of the user's")
        before = os.umask(0)
        try:
            store.prepare()
            store.write({"A": "1"})
        finally:
            os.umask(before)
        assert self.path.exists()
        for made in self.path.parent.glob(self.path.name + "*"):
            assert made.stat().st_mode & 0o777 == 0o660, made

    def test_nobody_reports_where_there_is_no_store(self, store: Store) -> None:
        assert store.workers(60.0) == []
        store.prepare()
        assert store.workers(60.0) == []
        self.lose(store)
        assert store.workers(60.0) == []

    def test_store_without_its_revision_is_missing(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1"})
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DELETE FROM waffle_meta")
            connection.commit()
        calls: list[Callable[[], object]] = [
            lambda: store.read_since(0, ""),
            lambda: store.write({"A": "2"}),
            store.replaced,
            lambda: store.stand_in(["0" * 16]),
        ]
        for call in calls:
            with pytest.raises(StoreMissing, match="revision is missing"):
                call()

    def test_value_or_name_that_is_no_utf8_costs_its_setting_only(self, store: Store) -> None:
        store.prepare()
        store.write({"A": "1", "B": "2", "C": "3"})
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute(
                "SELECT name FROM sqlite_master WHERE name IN ('waffle_settings', 'confs', "
                "'confmodel') ORDER BY name = 'waffle_settings'"
            ).fetchone()
            table = found[0]
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            name = next(each for each in columns if each in ("name", "key", "the key"))
            raw = "raw" if "raw" in columns else "value"
            for change, key in (
                (f"{raw} = CAST(x'22FF22' AS TEXT)", "B"),
                (f"{raw} = x'22FE22'", "C"),
            ):
                connection.execute(f'UPDATE {table} SET {change} WHERE "{name}" = ?', (key,))
            connection.commit()
        assert stored(store) == {"A": "1", "B": '"\\xff"', "C": '"\\xfe"'}
        # What is broken can be replaced.
        store.write({"B": "4", "C": None})
        assert stored(store) == {"A": "1", "B": "4"}
        assert [entry.old_raw for entry in store.history(limit=2)] == ['"\\xff"', '"\\xfe"']


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as from_file,
        contextlib.closing(sqlite3.connect(target)) as to_file,
    ):
        from_file.backup(to_file)
