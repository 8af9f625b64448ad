"""Whatever fails on a host, requests are served from the last good settings, and it heals."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartUwsgi
from .support.following import assert_every_worker_follows
from .support.outsider import make_outsider
from .support.stopwatch import Stopwatch
from .support.uwsgi_server import UwsgiServer

pytestmark = [pytest.mark.uwsgi, pytest.mark.timeout(120)]

LAZY = ("--master", "--lazy-apps")
# What a request may take at most, on a busy machine; far less than a timeout for each of them.
STORE_TIMEOUT_S = 0.5
SHORT = {"WAFFLE_STORE_TIMEOUT": STORE_TIMEOUT_S, "WAFFLE_WRITE_TIMEOUT": 0.5}


@pytest.fixture
def server(start_uwsgi: StartUwsgi) -> UwsgiServer:
    server = start_uwsgi(*LAZY, config=SHORT)
    server.post(1, {"SITENAME": "Last good"})
    for report in server.reports():
        assert report["config"]["SITENAME"] == "Last good"
    return server


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("something else\n")
    new.rename(path)


def _truncate(path: Path) -> None:
    path.write_bytes(b"")


def _fill(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


WATCH_FILE_FAULTS = [_delete, _replace, _truncate, _fill]


@pytest.mark.parametrize("harm", WATCH_FILE_FAULTS, ids=lambda harm: harm.__name__.strip("_"))
def test_workers_follow_after_the_watch_file_was_harmed(
    server: UwsgiServer, harm: Callable[[Path], None]
) -> None:
    for report in server.reports():
        assert report["config"]["SITENAME"] == "Last good"
    harm(server.folder / "waffle.watch")
    for report in server.reports():
        assert report["config"]["SITENAME"] == "Last good"
    assert_every_worker_follows(server)


def test_workers_follow_by_resync_while_the_watch_file_is_a_symbolic_link(
    server: UwsgiServer,
) -> None:
    watch_file, victim = server.folder / "waffle.watch", server.folder / "victim"
    victim.write_text("precious")
    # In one step: a watcher makes a watch file that is gone within a millisecond.
    link = server.folder / "link"
    link.symlink_to(victim)
    link.rename(watch_file)
    revision = server.post(1, {"SITENAME": "By resync"})["revision"]
    _until_served(server, revision)
    assert victim.read_text() == "precious"
    # The one that could not announce says so.
    failing = server.get(1)["status"]["failing"]
    assert "symbolic link" in failing["announcing by watch file"]
    watch_file.unlink()
    server.post(1, {"SITENAME": "Announced again"})
    _until_healed(server)
    assert_every_worker_follows(server)


@pytest.mark.parametrize(
    "victim", ["waffle.watch", "waffle.db", "."], ids=["watch", "db", "folder"]
)
def test_workers_serve_and_heal_after_a_file_was_forbidden(
    start_uwsgi: StartUwsgi, victim: str
) -> None:
    server = start_uwsgi(*LAZY, config=SHORT, wrapper=_without_the_power_of_root())
    server.post(1, {"SITENAME": "Last good"})
    for report in server.reports():
        assert report["config"]["SITENAME"] == "Last good"
    path = server.folder / victim
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        _assert_served_quickly(server, "Last good", rounds=20)
        if victim == "waffle.watch":
            _until_served(server, server.post(1, {"SITENAME": "By resync"})["revision"])
            assert "make it" in server.get(1)["status"]["failing"]["announcing by watch file"]
    finally:
        path.chmod(mode)
    server.eventually("changed again", lambda: server.post(1, {"SITENAME": "Again"}))
    _until_healed(server)
    assert_every_worker_follows(server)


def test_workers_serve_the_last_good_settings_while_the_folder_is_gone(
    server: UwsgiServer,
) -> None:
    away = server.folder.with_name("away")
    server.folder.rename(away)
    _assert_served_quickly(server, "Last good", rounds=20)
    with pytest.raises(OSError, match="StoreLost"):
        server.post(1, {"SITENAME": "Nowhere to keep it"})
    away.rename(server.folder)
    _until_healed(server)
    assert_every_worker_follows(server)


def test_requests_are_quick_while_another_process_writes_for_long(server: UwsgiServer) -> None:
    with _locked(server.folder / "waffle.db", "BEGIN IMMEDIATE"):
        _assert_served_quickly(server, "Last good", rounds=20)
        with Stopwatch() as watch, pytest.raises(OSError, match="locked"):
            server.post(1, {"SITENAME": "Refused"})
        # WAFFLE_WRITE_TIMEOUT and a margin.
        watch.assert_within(0.5, margin_s=2)
        _assert_served_quickly(server, "Last good", rounds=20)
    _until_healed(server)
    assert_every_worker_follows(server)


def test_server_that_starts_while_the_database_is_locked_serves_defaults_until_it_is_free(
    start_uwsgi: StartUwsgi, folder: Path
) -> None:
    outsider = make_outsider(folder)
    outsider.update(SITENAME="Behind the lock")
    outsider.waffle.state.store.close()
    # In WAL mode nobody can shut readers out but when there are none.
    with _locked(folder / "waffle.db", "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"):
        server = start_uwsgi(*LAZY, config={"WAFFLE_STORE_TIMEOUT": 0.5})
        # Waits for both apps to be loaded.
        server.reports()
        _assert_served_quickly(server, "Default", rounds=20)
        for report in server.reports():
            assert "locked" in report["status"]["failing"]["store"], server.evidence()
    _until_healed(server)
    for report in server.reports():
        assert report["config"]["SITENAME"] == "Behind the lock"
    assert_every_worker_follows(server)


def test_workers_read_a_database_that_was_replaced(server: UwsgiServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (
        contextlib.closing(sqlite3.connect(server.folder / "waffle.db")) as running,
        contextlib.closing(sqlite3.connect(elsewhere / "waffle.db")) as backup,
    ):
        running.backup(backup)
    outsider = make_outsider(elsewhere)
    outsider.update(SITENAME="Restored")
    outsider.waffle.state.store.close()
    # As a restore of a backup does: the whole database in one rename.
    with contextlib.closing(sqlite3.connect(elsewhere / "waffle.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    for suffix in ("-wal", "-shm"):
        (server.folder / f"waffle.db{suffix}").unlink(missing_ok=True)
    (elsewhere / "waffle.db").rename(server.folder / "waffle.db")

    def restored() -> bool:
        return all(r["config"]["SITENAME"] == "Restored" for r in server.reports())

    server.eventually("restored", restored)
    _until_healed(server)
    assert_every_worker_follows(server)


def test_workers_serve_the_last_good_settings_while_the_database_is_gone(
    server: UwsgiServer, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in list(server.folder.glob("waffle.db*")):
        shutil.move(path, kept / path.name)
    server.eventually(
        "noticed", lambda: all("store" in r["status"]["failing"] for r in server.reports())
    )
    _assert_served_quickly(server, "Last good", rounds=20)
    assert not (server.folder / "waffle.db").exists(), "an empty database took its place"
    for path in kept.iterdir():
        shutil.move(path, server.folder / path.name)
    _until_healed(server)
    assert_every_worker_follows(server)


def test_workers_serve_the_last_good_settings_while_the_database_is_rubbish(
    server: UwsgiServer, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in list(server.folder.glob("waffle.db*")):
        shutil.move(path, kept / path.name)
    rubbish = server.folder / "waffle.db"
    rubbish.write_bytes(os.urandom(50_000))
    server.eventually(
        "noticed", lambda: all("store" in r["status"]["failing"] for r in server.reports())
    )
    _assert_served_quickly(server, "Last good", rounds=20)
    rubbish.unlink()
    for path in kept.iterdir():
        shutil.move(path, server.folder / path.name)
    _until_healed(server)
    assert_every_worker_follows(server)


def test_server_that_starts_without_its_database_serves_defaults_until_it_is_there(
    start_uwsgi: StartUwsgi, folder: Path
) -> None:
    # A folder in the database's place can neither be opened nor made.
    (folder / "waffle.db").mkdir()
    server = start_uwsgi(*LAZY)
    for report in server.reports():
        assert report["config"]["SITENAME"] == "Default"
        assert report["status"]["state"] == "INTERRUPTED"
    (folder / "waffle.db").rmdir()
    _until_healed(server)
    assert_every_worker_follows(server)


def test_fault_that_lasts_is_logged_once_and_its_end_too(server: UwsgiServer) -> None:
    def lines(said: str) -> int:
        # From its beginning: reports to the store have other lines.
        return len(re.findall(f"^uwsgi_waffle WARNING store {said}", server.log, re.MULTILINE))

    def failures() -> int:
        return min(int(report["status"]["failures"]) for report in server.reports())

    gone = "fails: .* holds no settings: "
    before, ended, failed = lines(gone), lines("works again"), failures()
    away = server.folder / "away.db"
    (server.folder / "waffle.db").rename(away)
    # Each worker has failed often, and any line of its first failure is written.
    server.eventually("tried again and again", lambda: failures() >= failed + 4)
    assert lines(gone) - before == 1, server.evidence()
    away.rename(server.folder / "waffle.db")
    _until_healed(server)
    # A worker is well before its line is written.
    server.eventually("its end", lambda: lines("works again") > ended)
    # One that was well later than the other may have said both, too.
    assert lines("works again") <= lines("fails: "), server.evidence()


def _assert_served_quickly(server: UwsgiServer, name: str, *, rounds: int) -> None:
    """Assert that not every request waits for the store's timeout.

    The first to find the fault may pay it once in each worker.
    """
    requests = rounds * server.workers
    with Stopwatch() as watch:
        for _ in range(rounds):
            for worker in range(1, server.workers + 1):
                assert server.get(worker)["config"]["SITENAME"] == name
    # Had each waited, it would have taken ten times the margin.
    watch.assert_within(server.workers * STORE_TIMEOUT_S, margin_s=requests * STORE_TIMEOUT_S / 10)


def _until_served(server: UwsgiServer, revision: int) -> None:
    server.eventually(
        f"at revision {revision}",
        lambda: all(report["revision"] >= revision for report in server.reports()),
    )


def _until_healed(server: UwsgiServer) -> None:
    def healed() -> bool:
        states: list[Any] = [report["status"]["state"] for report in server.reports()]
        assert set(states) == {"VALID"}, states
        return True

    server.eventually("healed", healed, interval_s=0.1)


def _without_the_power_of_root() -> list[str]:
    """Return a command that lets file modes count, for root too."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("no setpriv, and to root no file is forbidden")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"]


@contextlib.contextmanager
def _locked(path: Path, *statements: str) -> Iterator[None]:
    """Keep a database locked, as another program does."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield
        connection.execute("ROLLBACK")
