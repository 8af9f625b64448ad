"""What root's command makes beside the workers' files belongs to the owner of their folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process.claims import Claims
from uwsgi_waffle.process.page_file import make
from uwsgi_waffle.process.slots import Slots
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.stores.sqlite import SqliteStore

from .support.descriptors import open_descriptors
from .support.rig import NOBODY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def _by_sqlalchemy(path: Path) -> None:
    with contextlib.closing(AlchemyWaffleStore(f"sqlite:///{path}")) as store:
        store.prepare()


MAKERS: dict[str, Callable[[Path], object]] = {
    "watch file": lambda path: FileNotifier(path).ensure(),
    "page": make,
    "slots": lambda path: Slots(path).take("shop", 1),
    "claims": lambda path: Claims(path).take("x"),
    "SQLite": lambda path: SqliteStore(path).prepare(),
    "SQLAlchemy": _by_sqlalchemy,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_file_that_root_makes_belongs_to_the_owner_of_its_folder(
    open_folder: Path, maker: str
) -> None:
    MAKERS[maker](open_folder / "waffle")
    made = list(open_folder.iterdir())
    assert made
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(NOBODY, NOBODY)}
    if maker != "slots":
        assert not open_descriptors(open_folder / "waffle")
