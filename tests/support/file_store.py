"""The contract of stores that keep their settings in a file of SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from uwsgi_waffle.stores.base import Store
from uwsgi_waffle.testing import StoreContract


class FileStoreContract(StoreContract):
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


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as from_file,
        contextlib.closing(sqlite3.connect(target)) as to_file,
    ):
        from_file.backup(to_file)
