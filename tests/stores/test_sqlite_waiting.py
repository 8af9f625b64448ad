"""A change that waits for SQLite's write lock waits in Python, and within its bound."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.errors import OutcomeUnknown, StoreMissing, StoreUnavailable
from uwsgi_waffle.stores.sqlite import SqliteStore
from uwsgi_waffle.stores.sqlite.connections import connect, transaction

from ..support.rig import ordinary_user

_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sqlite3, sys
import gevent
from uwsgi_waffle.stores.sqlite import SqliteStore

path = sys.argv[1]
store = SqliteStore(path, write_timeout_s=60.0)
store.prepare()
other = sqlite3.connect(path, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
writer = gevent.spawn(store.write, {"A": "1"})
# Another greenlet of the same thread ends the lock: who sleeps in C would never let it.
gevent.sleep(0.05)
assert not writer.ready()
other.execute("COMMIT")
print(writer.get(timeout=50))
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "waffle.db", write_timeout_s=0.3)
    store.prepare()
    yield store
    store.close()


@contextlib.contextmanager
def locked(store: SqliteStore) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.slow
def test_writer_lets_other_greenlets_run_while_it_waits(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, str(tmp_path / "waffle.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "1\n", done.stderr


def test_prepare_waits_for_who_turns_the_file_to_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "waffle.db", timeout_s=60.0, write_timeout_s=60.0)
    (tmp_path / "waffle.db").touch()
    other = sqlite3.connect(tmp_path / "waffle.db", isolation_level=None)
    pauses: list[float] = []

    def lock_once_connected(path: Path, wait_s: float) -> sqlite3.Connection:
        connection = connect(path, wait_s)
        if not pauses:
            other.execute("BEGIN EXCLUSIVE")
        return connection

    def unlock(pause_s: float) -> None:
        pauses.append(pause_s)
        if other.in_transaction:
            other.execute("COMMIT")

    monkeypatch.setattr("uwsgi_waffle.stores.sqlite.store.connect", lock_once_connected)
    monkeypatch.setattr(time, "sleep", unlock)
    store.prepare()
    assert pauses
    assert store.read_since(0, "").revision == 0
    store.close()
    other.close()


def test_writer_gives_up_when_its_time_is_over(store: SqliteStore) -> None:
    began = time.monotonic()
    with locked(store), pytest.raises(StoreUnavailable, match="locked") as caught:
        store.write({"A": "1"})
    assert time.monotonic() - began >= 0.3
    # Nothing was committed, and that is known.
    assert not isinstance(caught.value, OutcomeUnknown)
    assert store.write({"A": "1"}) == 1


def test_writer_goes_on_when_the_lock_is_free(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "waffle.db", write_timeout_s=60.0)
    store.prepare()
    revisions: list[int] = []
    with locked(store):
        writer = threading.Thread(target=lambda: revisions.append(store.write({"A": "1"})))
        writer.start()
        # Reading does not wait for it.
        assert store.read_since(0, "").revision == 0
        assert not revisions
    writer.join()
    assert revisions == [1]
    store.close()


class _FailingCommit:
    """A connection whose commit fails as SQLite's does."""

    in_transaction = False

    def __init__(self, message: str) -> None:
        self._message = message

    def execute(self, statement: str) -> None:
        if statement == "COMMIT":
            raise sqlite3.OperationalError(self._message)


@pytest.mark.parametrize(
    ("message", "unknown"),
    [("disk I/O error", True), ("database or disk is full", False), ("database is locked", False)],
)
def test_commit_that_fails_is_unknown_unless_nothing_can_be_on_the_disk(
    message: str, unknown: bool
) -> None:
    connection: object = _FailingCommit(message)
    with (
        pytest.raises(OutcomeUnknown if unknown else sqlite3.OperationalError, match=message),
        transaction(connection),  # type: ignore[arg-type]  # only what it uses
    ):
        pass


def test_process_opens_one_connection_for_all_its_writes(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write({"A": "1"})
    opened: list[Path] = []
    monkeypatch.setattr(
        "uwsgi_waffle.stores.sqlite.connections.connect", lambda path, wait_s: opened.append(path)
    )
    assert store.write({"A": "2"}) == 2
    assert not opened


def test_write_goes_to_the_file_that_took_the_place_of_the_former(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.write({"A": "1"})
    other = SqliteStore(tmp_path / "other.db")
    other.prepare()
    other.write({"B": "1"})
    other.write({"B": "2"})
    other.close()
    for ending in ("-wal", "-shm"):
        # They belong to the former file.
        Path(f"{store.path}{ending}").unlink()
    other.path.rename(store.path)
    assert store.write({"A": "3"}) == 3
    assert store.dump().raws == {"A": "3", "B": "2"}


def test_write_waits_no_longer_than_its_bound_for_another_thread(store: SqliteStore) -> None:
    may_commit, in_transaction = threading.Event(), threading.Event()

    def hold() -> None:
        in_transaction.set()
        may_commit.wait(60)

    holder = threading.Thread(target=lambda: store.write({"A": "1"}, before_commit=hold))
    holder.start()
    try:
        assert in_transaction.wait(60)
        with pytest.raises(StoreUnavailable, match="another thread"):
            store.write({"A": "2"})
    finally:
        may_commit.set()
        holder.join()
    assert store.write({"A": "3"}) == 2


def test_write_after_one_that_was_broken_off_starts_clean(store: SqliteStore) -> None:
    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    store.write({"A": "1"})
    with pytest.raises(Stop):
        store.write({"A": "2"}, before_commit=stop)
    assert store.write({"B": "3"}) == 2
    assert store.dump().raws == {"A": "1", "B": "3"}


def test_folder_that_may_not_be_entered_is_an_outage_and_no_lost_store(open_folder: Path) -> None:
    folder = open_folder / "instance"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with ordinary_user():
        store = SqliteStore(folder / "waffle.db")
        store.prepare()
        store.close()
    folder.chmod(0o000)
    with ordinary_user():
        for use in (lambda: store.read_since(0, ""), lambda: store.write({"A": "1"})):
            with pytest.raises(StoreUnavailable) as caught:
                use()
            assert not isinstance(caught.value, StoreMissing)
    folder.chmod(0o777)
