"""The contract of stores that keep their settings in a file of SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.testing import StoreContract
from uwsgi_waffle.testing.store_contract import read_after


class FileStoreContract(StoreContract):
    """Subclasses give the fixture ``store``, which also sets the path of its file."""

    path: Path

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        # A file system that went away: the folder has another name meanwhile.
        hidden = self.path.parent.with_name("hidden")
        os.rename(self.path.parent, hidden)
        try:
            yield
        finally:
            os.rename(hidden, self.path.parent)

    def test_file_that_was_put_back_is_read_whole(self, store: Store) -> None:
        """The revision is one that the reader had, of the same epoch, with other content."""
        store.prepare()
        store.write({"A": "1"})
        saved = self.path.with_name("saved.db")
        _copy(self.path, saved)
        store.write({"A": "500"})
        known = store.read_since(0, "")
        if not known.mark:
            pytest.skip("it keeps no marks")
        store.close()
        _copy(saved, self.path)
        assert read_after(store, known) == store.read_since(0, "")
        assert store.write({"B": "6"}) == known.revision
        delta = read_after(store, known)
        assert (delta.complete, dict(delta.rows)) == (True, {"A": "1", "B": "6"})
        # Overtaken before the reader looked: the history has another mark.
        store.write({"B": "7"})
        delta = read_after(store, known)
        assert (delta.complete, dict(delta.rows)) == (True, {"A": "1", "B": "7"})


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as from_file,
        contextlib.closing(sqlite3.connect(target)) as to_file,
    ):
        from_file.backup(to_file)
