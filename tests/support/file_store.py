"""The contract of stores that keep their settings in a file of SQLite."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from uwsgi_waffle.testing import StoreContract


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
