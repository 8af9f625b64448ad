"""A change that waits for SQLite's write lock waits in Python, and within its bound."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from uwsgi_waffle.errors import OutcomeUnknown, StoreMissing, StoreUnavailable
from uwsgi_waffle.stores.sqlite import SqliteStore, connections
from uwsgi_waffle.stores.sqlite.connections import Reader, commit, connect, translated
from uwsgi_waffle.testing.report_contract import a_report

from ..support.rig import Clock, ordinary_user

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
    with pytest.raises(OutcomeUnknown if unknown else sqlite3.OperationalError, match=message):
        commit(connection, lambda _: None)  # type: ignore[arg-type]  # only what it uses


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("database or disk is full", "make room on the disk"),
        ("database is locked", "look for a transaction that was left open"),
        ("unable to open database file", "check that the file and its folder are there"),
    ],
)
def test_error_of_sqlite_names_what_helps(store: SqliteStore, message: str, fix: str) -> None:
    store.prepare()
    with pytest.raises(StoreUnavailable, match=f"{message}; .*{fix}"), translated(store.path):
        raise sqlite3.OperationalError(message)


def test_connection_never_waits_in_sqlite_itself(store: SqliteStore) -> None:
    with contextlib.closing(connect(store.path, 1.0)) as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (0,)
        assert connection.isolation_level is None


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int]]:
    """What ``synchronous`` is at each commit."""
    levels: list[tuple[int]] = []

    def noted(connection: sqlite3.Connection) -> None:
        levels.extend(connection.execute("PRAGMA synchronous"))
        commit_(connection)

    commit_ = connections._commit
    monkeypatch.setattr(connections, "_commit", noted)
    return levels


def test_commit_is_on_the_disk_when_it_returns(
    store: SqliteStore, levels: list[tuple[int]]
) -> None:
    store.write({"A": "1"})
    # FULL: in WAL mode each commit waits for the disk.
    assert levels == [(2,)]


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


# --- by a clock of the test ---------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of those that wait, by a clock that only they advance."""
    clock = Clock()
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    return clock.slept


def test_lock_is_tried_again_ever_more_rarely_within_the_bound(
    store: SqliteStore, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    jitter: set[tuple[float, float]] = set()

    def lowest(low: float, high: float) -> float:
        jitter.add((low, high))
        return low

    monkeypatch.setattr(random, "uniform", lowest)
    with locked(store), pytest.raises(StoreUnavailable, match="locked"):
        store.write({"A": "1"})
    assert pauses[:3] == pytest.approx([0.0005, 0.00075, 0.001125])
    assert max(pauses) == pytest.approx(0.01)
    assert sum(pauses) == pytest.approx(0.3)
    assert jitter == {(0.5, 1.0)}


def test_report_is_not_worth_more_than_a_tenth_of_a_second(
    store: SqliteStore, pauses: list[float]
) -> None:
    with locked(store), pytest.raises(StoreUnavailable, match="locked"):
        store.report(a_report())
    assert sum(pauses) == pytest.approx(0.1)


def test_connecting_counts_to_the_bound_of_a_read(tmp_path: Path, pauses: list[float]) -> None:
    path = tmp_path / "waffle.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE x (y)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            Reader(path, 0.25).query("SELECT * FROM x", {})
    assert sum(pauses) == pytest.approx(0.25)


def test_report_is_not_flushed_to_the_disk(store: SqliteStore, levels: list[tuple[int]]) -> None:
    store.report(a_report())
    # NORMAL: in WAL mode no commit waits for the disk.
    assert levels == [(1,)]
