"""Who may write the files of an app: no one but its owner and its group, or it is said."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import peewee
import pytest

from uwsgi_waffle import WaffleWarning
from uwsgi_waffle.doctor import examine
from uwsgi_waffle.stores import Store
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore

from .support.rig import Worker

MakeWorker = Callable[..., Worker]
STORES: dict[str, Callable[[Path], Store | None]] = {
    "built in": lambda path: None,
    "sqlalchemy": lambda path: AlchemyWaffleStore(f"sqlite:///{path}"),
    "peewee": lambda path: PeeweeWaffleStore(peewee.SqliteDatabase(str(path))),
}


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_have_their_modes_whatever_the_umask_is(
    tmp_path: Path, make_worker: MakeWorker, kind: str, mask: int
) -> None:
    # As uWSGI's daemonize leaves it, the umask is 0.
    folder = tmp_path / "new" / "instance"
    with umask(mask), warnings.catch_warnings():
        warnings.simplefilter("error")
        if kind != "built in":
            folder.mkdir(parents=True, mode=0o755)
            folder.parent.chmod(0o755)
            folder.chmod(0o755)
        worker = make_worker(where=folder, store=STORES[kind](folder / "waffle.db"))
        worker.waffle.start()
        worker.update(LIMIT=5)
        worker.waffle.stop()
    found = modes(folder)
    kept = [name for name in found if name.endswith((".last", ".lock"))]
    assert len(kept) == 2
    assert {found.pop(name) for name in kept} == {0o600}
    assert {"waffle.db", "waffle.watch"} < set(found)
    assert set(found.values()) == {0o660}
    if kind == "built in":
        for made in (folder, folder.parent):
            assert stat.S_IMODE(made.stat().st_mode) == 0o775 & ~mask


@pytest.mark.parametrize(
    "place",
    ["instance", "waffle.db", "waffle.watch", "waffle.watch.shop.last", "*.page"],
)
def test_what_others_may_write_is_warned_of_at_the_start_and_found(
    make_worker: MakeWorker, folder: Path, place: str
) -> None:
    worker = make_worker()
    worker.waffle.start()
    worker.waffle.stop()
    (path,) = [folder] if place == "instance" else folder.glob(place)
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.warns(WaffleWarning, match=rf"any user .*{re.escape(str(path))} \(.*chmod o-w"):
        Worker(folder).close()
    found = {found.id: found.detail for found in examine(worker.state).findings}
    assert str(path) in found["D011"]


@pytest.mark.parametrize("kind", STORES)
def test_database_of_each_library_is_looked_at(
    make_worker: MakeWorker, folder: Path, kind: str
) -> None:
    path = folder / "waffle.db"
    make_worker(store=STORES[kind](path))
    path.chmod(0o666)
    with pytest.warns(WaffleWarning, match=re.escape(str(path))):
        make_worker(store=STORES[kind](path))


def test_warning_names_the_line_of_the_app(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.warns(WaffleWarning, match="any user of this machine") as warned:
        Worker(folder).close()
    assert [Path(each.filename).name for each in warned] == ["rig.py"]
