"""Backup, restore and copy: nothing is lost on the way, and every worker serves what arrived."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import peewee
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from uwsgi_waffle import RevisionConflict, StoreError
from uwsgi_waffle.masking import MASK
from uwsgi_waffle.operations import BackupError, back_up, copy, plan_restore, read_backup
from uwsgi_waffle.stores import Dump, HistoryEntry, Store
from uwsgi_waffle.stores.mixin import WaffleMixin
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.testing import LoadContract

from ..support.copying import check_copy, fill
from ..support.rig import MemoryStore, Worker

MakeWorker = Callable[..., Worker]


def alchemy_model(path: Path) -> Store:
    class Base(DeclarativeBase):
        pass

    class ConfModel(Base, WaffleMixin):
        __tablename__ = "confs"
        id: Mapped[int] = mapped_column(primary_key=True)
        key: Mapped[str] = mapped_column(sa.String(255), unique=True)
        value: Mapped[str] = mapped_column(sa.Text)

    engine = sa.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    return AlchemyWaffleStore(engine, ConfModel)


def peewee_model(path: Path) -> Store:
    db = peewee.SqliteDatabase(str(path))

    class ConfModel(WaffleMixin, peewee.Model):
        key = peewee.CharField(unique=True)
        value = peewee.TextField()
        origin = peewee.CharField(default="model")

        class Meta:
            database = db

    with db.connection_context():
        db.create_tables([ConfModel])
    return PeeweeWaffleStore(db, ConfModel)


STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": SqliteStore,
    "sqlalchemy": lambda path: AlchemyWaffleStore(f"sqlite:///{path}"),
    "sqlalchemy-model": alchemy_model,
    "peewee": lambda path: PeeweeWaffleStore(peewee.SqliteDatabase(str(path))),
    "peewee-model": peewee_model,
}


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    made: list[Store] = []
    numbers = itertools.count()

    def make(kind: str) -> Store:
        made.append(STORES[kind](tmp_path / f"{next(numbers)}.db"))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.mark.parametrize("target", STORES)
@pytest.mark.parametrize("source", STORES)
def test_any_store_is_copied_to_any_other_with_its_history(
    make_store: Callable[[str], Store], source: str, target: str
) -> None:
    check_copy(make_store(source), make_store(target))


def test_target_that_holds_something_is_not_replaced_unasked(
    make_store: Callable[[str], Store],
) -> None:
    source, target = make_store("sqlite"), make_store("sqlite")
    fill(source)
    target.prepare()
    target.write({"A": "1"})
    with pytest.raises(StoreError, match="has settings already, at revision 1"):
        copy(source, target)
    with pytest.raises(StoreError, match="are the same store"):
        copy(source, source, overwrite=True)
    empty = make_store("sqlite")
    assert copy(source, empty).revision == 5


def test_target_that_is_changed_at_the_same_time_is_not_replaced(
    make_store: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_store("sqlite"), make_store("sqlite")
    fill(source)
    target.prepare()
    load = target.load

    def late(dump: Dump, **options: Any) -> None:
        target.write({"A": "theirs"})
        load(dump, **options)

    monkeypatch.setattr(target, "load", late)
    with pytest.raises(RevisionConflict):
        copy(source, target)
    assert target.dump().raws == {"A": "theirs"}


class TestLoad(LoadContract):
    @pytest.fixture(params=STORES)
    def store(self, request: pytest.FixtureRequest, make_store: Callable[[str], Store]) -> Store:
        return make_store(request.param)


def test_store_of_a_user_that_can_not_be_loaded_says_so() -> None:
    store = MemoryStore()
    with pytest.raises(StoreError, match="MemoryStore has no load"):
        store.load(store.dump())


def test_backup_comes_back_as_it_was(make_worker: MakeWorker) -> None:
    worker = make_worker()
    fill(worker.state.store)
    worker.waffle.update({"TOKEN": "first", "LIMIT": 20}, author="ann")
    worker.state.store.write({"LIMIT": "no JSON"})
    worker.waffle.refresh()
    held = back_up(worker.state, "shop", secrets=True)
    again = read_backup(msgspec_json(held))
    assert again == held
    assert (again.app, again.revision, again.secrets) == ("shop", 7, True)
    assert abs((datetime.now(timezone.utc) - again.at).total_seconds()) < 60
    dump = plan_restore(worker.state, again)
    assert dump[2:] == worker.state.store.dump()[2:]


def test_backup_without_secrets_holds_none_and_its_restore_keeps_them(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    worker.waffle.update({"TOKEN": "first", "LIMIT": 20})
    worker.state.store.write({"OLD": '"undeclared"'})
    worker.waffle.refresh()
    held = back_up(worker.state, "shop")
    text = msgspec_json(held)
    assert b"first" not in text
    assert b"undeclared" not in text
    assert held.settings == {"LIMIT": "20", "OLD": MASK, "TOKEN": MASK}
    worker.waffle.update({"TOKEN": "newer", "LIMIT": 30})
    worker.state.replace(plan_restore(worker.state, held), expected_revision=3)
    assert dict(worker.waffle.conf) == {"SITENAME": "Shop", "LIMIT": 20, "TOKEN": "newer"}
    assert worker.waffle.revision == 2
    assert {item.new for item in worker.waffle.history(name="TOKEN", show_secrets=True)} == {MASK}


def msgspec_json(value: Any) -> bytes:
    from uwsgi_waffle.cli.tables import json_text

    return json_text(value).encode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "it is not a backup, or it is damaged"),
        (b"[]", "it is not a backup: `flask waffle import` reads exports"),
        (b'{"LIMIT": 5}', "`flask waffle import` reads exports"),
        (b'{"format": "uwsgi_waffle backup", "version": 2}', "has version 2; this release reads 1"),
        (b'{"format": "uwsgi_waffle backup", "version": 1}', "or it is damaged"),
    ],
)
def test_other_document_is_no_backup(text: bytes, reason: str) -> None:
    with pytest.raises(BackupError, match=reason):
        read_backup(text)


def test_backup_whose_history_is_newer_than_its_revision_is_refused(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    document = json.loads(msgspec_json(back_up(worker.state, "shop")))
    with pytest.raises(BackupError, match="goes on after its revision"):
        read_backup(json.dumps({**document, "revision": 0}).encode())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"revision": 2**53}, "no store counts to its revision"),
        ({"revision": -1, "history": []}, "no store counts to its revision"),
        ({"revision": "1"}, r"\.revision: it must be an int, got a string"),
        ({"settings": {"LIMIT": 5}}, "it must be a string, got an int"),
    ],
)
def test_damaged_backup_is_refused_before_a_store_sees_it(
    make_worker: MakeWorker, change: dict[str, Any], reason: str
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    document = json.loads(msgspec_json(back_up(worker.state, "shop")))
    with pytest.raises(BackupError, match=reason):
        read_backup(json.dumps({**document, **change}).encode())
    document["history"] *= 2
    with pytest.raises(BackupError, match="has a change twice"):
        read_backup(json.dumps(document).encode())


def test_restored_settings_are_served_by_every_worker_of_the_host(make_worker: MakeWorker) -> None:
    one, two = make_worker(), make_worker()
    one.waffle.update({"LIMIT": 20}, author="ann")
    held = back_up(one.state, "shop", secrets=True)
    for limit in (30, 40):
        one.waffle.update({"LIMIT": limit})
    assert (one.get("LIMIT"), two.get("LIMIT")) == (40, 40)
    one.state.replace(plan_restore(one.state, held), expected_revision=3)
    assert (one.get("LIMIT"), two.get("LIMIT")) == (20, 20)
    assert two.waffle.revision == 1
    (item,) = two.waffle.history()
    assert (item.author, item.new) == ("ann", "20")
    # The same revision, with other content than the first time.
    two.waffle.update({"LIMIT": 50})
    assert (one.get("LIMIT"), two.get("LIMIT")) == (50, 50)
    one.state.replace(plan_restore(one.state, held), expected_revision=2)
    one.waffle.update({"SITENAME": "New"})
    assert (one.get("LIMIT"), two.get("LIMIT"), two.get("SITENAME")) == (20, 20, "New")


def test_restore_is_refused_if_someone_changed_something_first(make_worker: MakeWorker) -> None:
    one, two = make_worker(), make_worker()
    one.waffle.update({"LIMIT": 20})
    held = back_up(one.state, "shop")
    two.waffle.update({"LIMIT": 30})
    with pytest.raises(RevisionConflict):
        one.state.replace(plan_restore(one.state, held), expected_revision=1)
    assert two.get("LIMIT") == 30


def test_dump_is_of_one_revision_while_others_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db")
    store.prepare()
    store.write({"A": "1"})
    history = store.history

    def late(**options: Any) -> list[HistoryEntry]:
        store.write({"A": "2"})
        return history(**options)

    store.history = late  # type: ignore[method-assign]
    dump = store.dump()
    assert (dump.revision, dump.raws, len(dump.history)) == (1, {"A": "1"}, 1)
    store.close()
