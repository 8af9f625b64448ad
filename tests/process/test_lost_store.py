"""A store whose data is lost: who makes it again, who keeps what, and who takes over which one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from uwsgi_waffle import OutcomeUnknown, State, StoreLost, StoreMissing, StoreUnavailable
from uwsgi_waffle.operations import dump_of, find_loss
from uwsgi_waffle.stores import Dump
from uwsgi_waffle.stores.epochs import word_of
from uwsgi_waffle.stores.sqlite import SqliteStore

from ..support.rig import MemoryStore, Worker, wait_until

MakeWorker = Callable[..., Worker]
EMPTY = Dump(0, "", {}, ())


def lose(folder: Path) -> None:
    for part in folder.glob("waffle.db*"):
        part.unlink()


def drop_tables(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "waffle.db")) as connection:
        for name in ("meta", "settings", "history", "workers"):
            connection.execute(f"DROP TABLE IF EXISTS waffle_{name}")


def interrupted(worker: Worker) -> None:
    """Wait until a worker has noticed it: requests share a look for some milliseconds."""
    wait_until(lambda: worker.get("LIMIT") and worker.waffle.status().state is State.INTERRUPTED)


def made_by_a_host_that_knew_nothing(folder: Path) -> SqliteStore:
    store = SqliteStore(folder / "waffle.db")
    store.prepare()
    return store


STORES = {
    "sqlite": {},
    "sqlalchemy": {"WAFFLE_STORE_URL": "sqlite+pysqlite:///waffle.db"},
}


@pytest.fixture(params=STORES.values(), ids=list(STORES))
def make(request: pytest.FixtureRequest, make_worker: MakeWorker) -> MakeWorker:
    def make(**config: object) -> Worker:
        return make_worker(**request.param, **config)

    return make


@pytest.mark.parametrize("lose", [lose, drop_tables])
def test_no_worker_that_runs_or_starts_makes_a_store_again(
    make: MakeWorker, folder: Path, lose: Callable[[Path], None]
) -> None:
    worker = make()
    worker.update(LIMIT=7, TOKEN="secret")
    lose(folder)
    (folder / "waffle.watch").touch()
    interrupted(worker)
    started = make()
    started.waffle.start()
    # Secrets are not kept on the disk unless that is asked for.
    assert (started.get("LIMIT"), started.get("TOKEN")) == (7, "hush")
    for each in (worker, started):
        status = each.waffle.status()
        assert status.state is State.INTERRUPTED
        assert "flask waffle recreate" in status.failing["store"]
        with pytest.raises(StoreLost, match="flask waffle recreate"):
            each.waffle.refresh()
        with pytest.raises(StoreLost, match="flask waffle recreate"):
            each.waffle.update({"LIMIT": 8})
    assert (worker.get("LIMIT"), started.get("LIMIT")) == (7, 7)
    with pytest.raises(StoreMissing):
        worker.state.store.read_since(0, "")


def test_store_that_another_host_made_is_not_taken_for_the_one_that_is_lost(
    make: MakeWorker, folder: Path
) -> None:
    worker = make()
    worker.update(LIMIT=7)
    lose(folder)
    made = made_by_a_host_that_knew_nothing(folder)
    made.write({"LIMIT": "5"})
    (folder / "waffle.watch").touch()
    for each in (worker, make()):
        interrupted(each)
        assert each.get("LIMIT") == 7
        status = each.waffle.status()
        assert "not the one that this host knows" in status.failing["store"]
        with pytest.raises(StoreLost):
            each.waffle.update({"LIMIT": 8})
    assert dict(made.read_since(0, "").rows) == {"LIMIT": "5"}
    made.close()


@pytest.mark.parametrize("present", [False, True])
def test_store_is_made_again_for_all_by_the_one_command(
    make: MakeWorker, folder: Path, present: bool
) -> None:
    worker, other = make(), make()
    worker.update(LIMIT=7)
    assert other.get("LIMIT") == 7
    lose(folder)
    if present:
        made_by_a_host_that_knew_nothing(folder).close()
    (folder / "waffle.watch").touch()
    interrupted(other)
    assert other.get("LIMIT") == 7
    operator = make()
    loss = find_loss(operator.state)
    assert loss is not None
    known = operator.state.last_known()
    assert known is not None
    operator.state.recreate(dump_of(known), loss.epochs, revision=loss.revision)
    for each in (worker, other, operator, make()):
        assert each.get("LIMIT") == 7
        assert each.waffle.status().state is State.VALID
        assert find_loss(each.state) is None
    assert worker.waffle.update({"LIMIT": 8}) == 2
    assert other.get("LIMIT") == 8


def test_store_may_be_made_again_empty(make: MakeWorker, folder: Path) -> None:
    worker = make()
    worker.update(LIMIT=7)
    lose(folder)
    operator = make()
    loss = find_loss(operator.state)
    assert loss is not None
    assert loss.revision is None
    operator.state.recreate(EMPTY, loss.epochs, revision=loss.revision)
    assert worker.get("LIMIT") == 10
    assert worker.waffle.status().state is State.VALID


def test_no_worker_serves_a_store_that_is_not_filled_yet(
    make: MakeWorker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make()
    worker.update(LIMIT=7)
    lose(folder)
    operator = make()
    loss = find_loss(operator.state)
    assert loss is not None
    store = operator.state.store
    load = store.load

    def looking(*arguments: object, **more: object) -> None:
        (folder / "waffle.watch").touch()
        assert worker.get("LIMIT") == 7
        load(*arguments, **more)  # type: ignore[arg-type]  # as they came
        (folder / "waffle.watch").touch()
        assert worker.get("LIMIT") == 7

    monkeypatch.setattr(store, "load", looking)
    operator.state.recreate(Dump(4, "", {"LIMIT": "9"}, ()), loss.epochs, revision=loss.revision)
    assert (worker.get("LIMIT"), worker.waffle.revision) == (9, 4)


def test_one_who_slept_through_several_stores_takes_the_last(
    make: MakeWorker, folder: Path
) -> None:
    worker = make()
    worker.update(LIMIT=7)
    for limit in (8, 9):
        lose(folder)
        operator = make()
        loss = find_loss(operator.state)
        assert loss is not None
        operator.state.recreate(
            Dump(1, "", {"LIMIT": str(limit)}, ()), loss.epochs, revision=loss.revision
        )
        # One that a whole fleet forgot stands in for what came before it, too.
        epochs = operator.state.store.replaced()
        assert epochs >= loss.epochs
    assert worker.get("LIMIT") == 9


def test_lost_database_that_comes_back_is_served_though_it_is_older(
    make: MakeWorker, folder: Path
) -> None:
    worker = make()
    worker.update(LIMIT=7)
    with (
        contextlib.closing(sqlite3.connect(folder / "waffle.db")) as source,
        contextlib.closing(sqlite3.connect(folder / "saved")) as saved,
    ):
        source.backup(saved)
    worker.update(LIMIT=8)
    worker.state.store.close()
    lose(folder)
    (folder / "waffle.watch").touch()
    interrupted(worker)
    assert worker.get("LIMIT") == 8
    (folder / "saved").rename(folder / "waffle.db")
    worker.waffle.refresh()
    assert worker.get("LIMIT") == 7
    assert worker.waffle.status().state is State.VALID


def test_restored_backup_of_before_a_restore_is_served(make: MakeWorker, folder: Path) -> None:
    # A restore does not begin another store, so that one which is older than it is still the same.
    worker = make()
    worker.update(LIMIT=7)
    saved = worker.state.store.dump()
    epoch = worker.waffle.snapshot.epoch
    worker.state.replace(Dump(9, "", {"LIMIT": "8"}, ()), expected_revision=None)
    assert worker.waffle.snapshot.epoch == epoch
    worker.state.replace(saved, expected_revision=None)
    assert (worker.get("LIMIT"), worker.waffle.revision) == (7, 1)


@pytest.mark.parametrize("kept", ["page", "last"])
def test_either_file_of_a_host_is_enough_to_know_its_store(
    make: MakeWorker, folder: Path, kept: str
) -> None:
    worker = make()
    worker.update(LIMIT=7)
    (gone,) = folder.glob("waffle.watch.*.page" if kept == "last" else "waffle.watch.*.last")
    gone.unlink()
    lose(folder)
    started = make()
    assert started.get("LIMIT") == (10 if kept == "page" else 7)
    assert started.waffle.status().state is State.INTERRUPTED
    assert not (folder / "waffle.db").exists()


def test_host_that_knows_no_store_makes_one(make: MakeWorker, folder: Path) -> None:
    make().update(LIMIT=7)
    for path in folder.iterdir():
        path.unlink()
    started = make()
    assert started.get("LIMIT") == 10
    assert started.waffle.status().state is State.VALID
    assert started.waffle.update({"LIMIT": 8}) == 1


def test_copy_to_another_database_is_taken_over_for_the_one_it_was_made_of(
    make_worker: MakeWorker, folder: Path
) -> None:
    from uwsgi_waffle.operations import copy

    page = str(folder / "one.page")
    worker = make_worker(WAFFLE_PAGE_FILE=page)
    worker.update(LIMIT=7)
    target = SqliteStore(folder / "new.db")
    copy(worker.state.store, target)
    moved = make_worker(WAFFLE_PAGE_FILE=page, WAFFLE_STORE_URL="sqlite:///new.db")
    assert moved.get("LIMIT") == 7
    assert moved.waffle.status().state is State.VALID
    target.close()


def test_change_that_meets_another_store_in_its_commit_has_an_unknown_outcome(
    make: MakeWorker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make()
    worker.update(LIMIT=7)
    write = worker.state.store.write

    def late(*arguments: object, **more: object) -> int:
        lose(folder)
        made_by_a_host_that_knew_nothing(folder).close()
        return write(*arguments, **more)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(worker.state.store, "write", late)
    with pytest.raises(OutcomeUnknown, match="where no process reads it"):
        worker.waffle.update({"LIMIT": 8})
    assert worker.get("LIMIT") == 7


def test_watcher_follows_to_the_store_that_was_made_again(make: MakeWorker, folder: Path) -> None:
    worker = make(WAFFLE_MULTIPROC=True, WAFFLE_POLL_INTERVAL=0.02)
    worker.update(LIMIT=7)
    worker.waffle.start()
    lose(folder)
    (folder / "waffle.watch").touch()
    wait_until(lambda: worker.waffle.status().state is State.INTERRUPTED)
    operator = make()
    loss = find_loss(operator.state)
    assert loss is not None
    operator.state.recreate(Dump(3, "", {"LIMIT": "9"}, ()), loss.epochs, revision=None)
    wait_until(lambda: worker.app.config["LIMIT"] == 9)
    wait_until(lambda: worker.waffle.status().state is State.VALID)


def test_store_in_memory_of_an_earlier_process_is_not_missed(
    make_worker: MakeWorker, folder: Path
) -> None:
    for _ in range(2):
        worker = make_worker(WAFFLE_STORE_URL="sqlite:///:memory:")
        assert worker.get("LIMIT") == 10
        worker.update(LIMIT=7)
        assert worker.waffle.status().state is State.VALID
    assert isinstance(worker.state.store, SqliteStore)
    lose(worker.state.store.path.parent)
    worker.state.store.close()
    with pytest.raises(StoreLost):
        worker.waffle.refresh()
    assert worker.get("LIMIT") == 7


def test_store_of_the_users_own_is_prepared_and_followed_as_it_is(
    make_worker: MakeWorker, folder: Path
) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.update(LIMIT=7)
    store.epoch, store.revision, store.rows, store.marks = "second", 0, {}, {0: ""}
    worker.waffle.refresh()
    assert worker.get("LIMIT") == 10
    assert make_worker(store=store).get("LIMIT") == 10
    assert store.calls["prepare"] == 2


def test_outage_of_a_store_is_not_taken_for_a_loss(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    worker.update(LIMIT=7)
    monkeypatch.setattr(worker.state.store, "read_since", _unavailable)
    with pytest.raises(StoreUnavailable) as caught:
        worker.waffle.refresh()
    assert not isinstance(caught.value, StoreLost)


def test_words_of_epochs_are_what_a_page_can_hold() -> None:
    assert len(bytes.fromhex(word_of("x"))) == 8
    assert word_of("x") != word_of("y")


def _unavailable(*_: object) -> None:
    raise StoreUnavailable("the network is down")
