"""The store of one's own that the documentation shows keeps the contract."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.own_store import JsonFileStore
from uwsgi_waffle import Store
from uwsgi_waffle.testing import LoadContract, StoreContract


class TestJsonFileStore(StoreContract, LoadContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        self.folder = tmp_path / "store"
        self.folder.mkdir()
        return JsonFileStore(self.folder / "settings.json", write_timeout_s=20.0)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        hidden = self.folder.rename(self.folder.with_name("hidden"))
        try:
            yield
        finally:
            hidden.rename(self.folder)


def test_contract_can_be_imported_without_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import uwsgi_waffle.testing"
    subprocess.run([sys.executable, "-c", code], check=True)
