"""The doctor finds what is wrong, and leaves everything as it was."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo
from msgspec import structs

from uwsgi_waffle import NotifierError, StoreUnavailable, WaffleConf, WaffleWarning, doctor
from uwsgi_waffle.cli import group
from uwsgi_waffle.doctor import RULES
from uwsgi_waffle.ini import snippet_text
from uwsgi_waffle.notifiers.base import Notice
from uwsgi_waffle.notifiers.postgresql import Unheard
from uwsgi_waffle.stores.base import WorkerReport

from ..support.host_rows import a_host
from ..support.rig import CONFS, MemoryStore, StubNotifier, Worker, ordinary_user

MakeWorker = Callable[..., Worker]


def ids(worker: Worker, **options: Any) -> list[str]:
    return [finding.id for finding in doctor.examine(worker.state, **options).findings]


def run(worker: Worker, *arguments: str) -> Result:
    return worker.app.test_cli_runner().invoke(group, ["doctor", *arguments])


def database(worker: Worker) -> Path:
    return Path(worker.app.instance_path, "waffle.db")


def watch_file(worker: Worker) -> Path:
    return Path(worker.app.instance_path, "waffle.watch")


@pytest.fixture
def no_redis() -> Iterator[str]:
    """URL of a port that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"redis://:pass-word@127.0.0.1:{held.getsockname()[1]}/0"


def test_nothing_is_found_in_a_healthy_set_up(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    diagnosis = doctor.examine(worker.state)
    assert diagnosis.findings == ()
    assert diagnosis.revision == 1
    assert "can't be seen from here" in diagnosis.notes[0]
    result = run(worker)
    assert result.exit_code == 0
    assert "is at revision 1" in result.stdout
    assert "0 errors, 0 warnings" in result.stdout


def test_examination_changes_nothing_but_has_workers_read_again(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()
    worker.waffle.update({"LIMIT": 20, "TOKEN": "sesame"})
    assert other.get("LIMIT") == 20
    before = worker.state.store.read_since(0, ""), worker.state.store.history()
    signature = worker.state.notices.host().signature()
    doctor.examine(worker.state)
    assert (worker.state.store.read_since(0, ""), worker.state.store.history()) == before
    assert watch_file(worker).read_text().startswith("1\n")
    assert worker.state.notices.host().signature() != signature
    assert other.get("LIMIT") == 20
    assert other.waffle.status().failing == {}


def test_app_that_cannot_be_set_up_is_the_finding(tmp_path: Path) -> None:
    def create_app() -> Flask:
        app = Flask("bad", instance_path=str(tmp_path))
        app.config["WAFFLE_WATCHER_FILE"] = "missing/waffle.watch"
        WaffleConf(app)
        return app

    runner = Flask("other").test_cli_runner()
    info = ScriptInfo(create_app=create_app)
    result = runner.invoke(group, ["doctor"], obj=info)
    assert result.exit_code == 2
    assert "D001 error: " in result.stdout
    assert "missing of the watch file does not exist" in result.stdout
    result = runner.invoke(group, ["doctor", "--json"], obj=ScriptInfo(create_app=create_app))
    assert result.exit_code == 2
    assert [finding["id"] for finding in json.loads(result.stdout)["findings"]] == ["D001"]


def test_lost_database_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    worker.state.store.close()
    database(worker).write_bytes(
        b"this is no database, but it is long enough to be read as one" * 9
    )
    result = run(worker)
    assert result.exit_code == 1
    assert "D002 error: " in result.stdout
    assert "not a database" in result.stdout
    assert "fix: Start it" in result.stdout


def test_store_that_is_away_is_found(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    store.error = StoreUnavailable("gone fishing")
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D002"
    assert "gone fishing" in finding.detail


def test_database_that_cannot_be_written_is_found(open_folder: Path) -> None:
    Worker(open_folder).close()
    for name in ("waffle.db", "waffle.watch"):
        os.chmod(open_folder / name, 0o666)
    os.chmod(open_folder / "waffle.db", 0o444)
    with ordinary_user():
        with pytest.warns(WaffleWarning, match="any user of this machine"):
            worker = Worker(open_folder)
        found = ids(worker)
        worker.close()
    assert "D003" in found
    assert "D019" in found


@pytest.mark.slow
def test_locked_database_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker(WAFFLE_WRITE_TIMEOUT=0.05)
    connection = sqlite3.connect(database(worker), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        assert ids(worker) == ["D003"]
    finally:
        connection.close()
    assert ids(worker) == []


def test_database_without_wal_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.close()
    connection = sqlite3.connect(database(worker))
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D004"
    assert "it is delete" in finding.detail


def test_stored_values_that_do_not_fit_are_found_without_a_secret(make_worker: MakeWorker) -> None:
    secret = {**CONFS["TOKEN"], "choices": ["hush"]}
    worker = make_worker(confs={**CONFS, "TOKEN": secret})
    worker.state.store.write({"LIMIT": "5000", "TOKEN": '"open-sesame"', "SITENAME": '"fine"'})
    result = run(worker)
    assert result.exit_code == 1
    assert result.stdout.count("D005 error: ") == 2
    assert "LIMIT: it must be at most 1000, got 5000" in result.stdout
    assert "TOKEN: it must be one of its choices" in result.stdout
    assert "open-sesame" not in result.output + run(worker, "--json").output


def test_stored_settings_that_are_not_declared_are_found(make_worker: MakeWorker) -> None:
    make_worker().waffle.update({"TOKEN": "sesame", "LIMIT": 20})
    worker = make_worker(confs={"SITENAME": CONFS["SITENAME"]})
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D006"
    assert "LIMIT, TOKEN" in finding.detail
    assert "flask waffle prune" in finding.fix


def test_watch_file_that_cannot_be_used_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    watch_file(worker).unlink()
    watch_file(worker).mkdir()
    assert "D007" in ids(worker)
    watch_file(worker).rmdir()
    watch_file(worker).symlink_to("elsewhere")
    assert "D007" in ids(worker)
    watch_file(worker).unlink()
    assert ids(worker) == []


@pytest.mark.filterwarnings("ignore:the watch file")
def test_watch_file_of_another_user_is_found(open_folder: Path) -> None:
    with ordinary_user():
        Worker(open_folder).close()
        os.chmod(open_folder / "waffle.watch", 0o440)
        worker = Worker(open_folder)
        diagnosis = doctor.examine(worker.state)
        worker.close()
    assert [finding.id for finding in diagnosis.findings] == ["D007", "D019"]


def test_watch_file_from_the_future_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    later = time.time() + 3600
    os.utime(watch_file(worker), (later, later))
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D008"
    assert "by +3600 s" in finding.detail or "by +3599 s" in finding.detail


@pytest.mark.slow
@pytest.mark.parametrize("told", [b"0\n", b"9\n"], ids=["behind", "ahead"])
def test_watch_file_that_tells_another_revision_is_found(
    make_worker: MakeWorker, told: bytes
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    watch_file(worker).write_bytes(told)
    assert ids(worker) == ["D009"]
    assert ids(worker) == [], "the examination itself announced it"


def test_watch_file_may_lag_behind_the_changes_of_other_hosts(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 20})
    store.write({"LIMIT": "30"})
    assert ids(worker) == []


def test_watch_file_without_a_revision_is_no_finding(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    watch_file(worker).write_bytes(b"")
    assert ids(worker) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_different_users_are_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    os.chown(watch_file(worker), 65534, 65534)
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D010"
    assert "waffle.watch is -rw-rw---- nobody:nogroup" in finding.detail
    # One group that may write is enough.
    os.chown(watch_file(worker), 65534, os.getegid())
    assert ids(worker) == []


def test_reports_of_strangers_and_of_the_dead_do_not_matter_for_files(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    report = WorkerReport("shop", os.uname().nodename, 2**22 + 1, 1, 0, 0.5, "VALID", None, 30.0)
    worker.state.store.report(report)
    assert ids(worker) == []


def test_files_that_anybody_may_write_are_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    os.chmod(database(worker), 0o666)
    assert ids(worker) == ["D011"]
    os.chmod(database(worker), 0o660)
    os.chmod(worker.app.instance_path, 0o1777)
    assert ids(worker) == ["D011"]


def test_redis_that_cannot_be_reached_is_found_without_its_password(
    make_worker: MakeWorker, no_redis: str
) -> None:
    worker = make_worker(
        store=MemoryStore(),
        WAFFLE_WATCHTYPE="redis",
        WAFFLE_REDIS_URL=no_redis,
        WAFFLE_REDIS_CHANNEL="shop",
        WAFFLE_REDIS_TIMEOUT=0.2,
    )
    result = run(worker)
    assert result.exit_code == 1
    assert "D012 error: " in result.stdout
    assert "1 error, 0 warnings" in result.stdout
    assert "pass-word" not in result.output


def test_redis_with_a_store_of_one_host_and_a_shared_channel_is_found(
    make_worker: MakeWorker, no_redis: str
) -> None:
    worker = make_worker(WAFFLE_WATCHTYPE="redis", WAFFLE_REDIS_URL=no_redis)
    assert ids(worker) == ["D015", "D016", "D012"]


def test_redis_is_not_asked_where_it_is_not_used(make_worker: MakeWorker, no_redis: str) -> None:
    worker = make_worker(
        WAFFLE_WATCHTYPE="redis", WAFFLE_REDIS_URL=no_redis, WAFFLE_MULTIPROC=False
    )
    assert ids(worker) == []


@pytest.mark.filterwarnings("ignore:redis-py is not installed")
def test_missing_library_for_redis_is_found(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    worker = make_worker(store=MemoryStore(), WAFFLE_WATCHTYPE="redis", WAFFLE_REDIS_CHANNEL="shop")
    assert ids(worker) == ["D014"]


class Deaf(StubNotifier):
    """Confirms its subscription, and hears nothing of what it announces."""

    def __init__(self, *hears: Notice) -> None:
        super().__init__()
        self.put(*hears)


@pytest.mark.parametrize(
    ("hears", "found"),
    [([], ["D013"]), ([Notice(None)], ["D013"]), ([Notice(None), Notice(0)], [])],
    ids=["no subscription", "no message", "healthy"],
)
def test_message_that_does_not_come_back_is_found(
    make_worker: MakeWorker,
    monkeypatch: pytest.MonkeyPatch,
    hears: list[Notice],
    found: list[str],
) -> None:
    notifier = Deaf(*hears)
    worker = make_worker(
        store=MemoryStore(),
        WAFFLE_WATCHTYPE="redis",
        WAFFLE_REDIS_CHANNEL="shop",
        WAFFLE_REDIS_TIMEOUT=0.05,
    )
    monkeypatch.setattr(worker.state.notices, "make_channel", lambda: notifier)
    assert ids(worker) == found
    assert notifier.closed


class Failing(Deaf):
    """Can't be used for a reason."""

    def __init__(self, error: NotifierError) -> None:
        super().__init__()
        self._error = error

    def wait(self, timeout_s: float) -> Notice | None:
        raise self._error


@pytest.mark.parametrize(
    ("notifier", "found"),
    [
        (Failing(NotifierError("too many connections")), ["D029"]),
        (Failing(Unheard("a pooler lies between")), ["D030"]),
        (Deaf(Notice(None)), ["D030"]),
        (Deaf(Notice(None), Notice(0)), []),
    ],
    ids=["no connection", "pooler", "no message", "healthy"],
)
def test_postgresql_whose_notices_do_not_arrive_is_found(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, notifier: Deaf, found: list[str]
) -> None:
    worker = make_worker(store=MemoryStore(), WAFFLE_STORE_TIMEOUT=0.05)
    options = structs.replace(worker.state.options, watchtype="postgresql")
    monkeypatch.setattr(worker.state, "options", options)
    monkeypatch.setattr(worker.state.notices, "make_channel", lambda: notifier)
    assert ids(worker) == found
    assert notifier.closed


@pytest.mark.slow
def test_ini_is_checked_too(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker()
    good, bad = tmp_path / "good.ini", tmp_path / "bad.ini"
    good.write_text(snippet_text() + "binary-path = /usr/bin/python3\n")
    bad.write_text("[uwsgi]\nmaster = true\nenable-threads = true\n")
    assert ids(worker, ini=str(good)) == []
    assert "W001" in ids(worker, ini=str(bad))
    result = run(worker, "--ini", str(bad))
    assert result.exit_code == 1
    assert f"{bad}:1: W001 warning: " in result.stdout
    assert ids(worker, ini=str(tmp_path / "missing.ini")) == ["D017"]
    assert ids(worker, ini=str(bad), section="other") == ["D017"]


def test_json_has_findings_with_their_fixes(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.write({"GONE": "1"})
    worker.state.notices.host().announce(1)
    report = json.loads(run(worker, "--json").stdout)
    assert report["revision"] == 1
    assert report["store"].startswith("<SqliteStore")
    (finding,) = report["findings"]
    assert finding == {
        "id": "D006",
        "level": "warning",
        "message": RULES["D006"].summary,
        "detail": "GONE",
        "fix": RULES["D006"].fix,
    }


def test_examination_of_a_busy_app_finds_nothing(make_worker: MakeWorker) -> None:
    worker, writer = make_worker(), make_worker()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            writer.state.update_db({"LIMIT": 20})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        found = [ids(worker) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert found == [[]] * 5


def test_process_that_reports_a_failure_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    report = WorkerReport("shop", "web1", 77, 3, 0, 0.5, "VALID", "old trouble", 30.0)
    worker.state.store.report(report)
    assert ids(worker) == []
    worker.state.store.report(report._replace(state="INTERRUPTED", last_error="redis: away"))
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D018"
    assert finding.detail == "shop on web1, pid 77, worker 3: redis: away"


def test_host_that_is_silent_is_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.report(a_host(0, processes=2))
    assert ids(worker) == []
    worker.state.store.report(a_host(0, processes=2, silent_s=-1.0))
    (finding,) = doctor.examine(worker.state).findings
    assert finding.id == "D031"
    assert finding.detail.startswith("web2, 2 processes at revision 0, for ")


def test_rules_have_ids_levels_and_fixes() -> None:
    assert list(RULES) == [f"D{number:03}" for number in range(1, len(RULES) + 1)]
    for rule in RULES.values():
        assert rule.level in ("error", "warning")
        assert rule.summary.endswith(".")
        assert rule.fix


def test_every_finding_is_in_the_documentation() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "cli.md").read_text()
    for rule in RULES.values():
        assert f"| {rule.id} | {rule.level} | {rule.summary} | {rule.fix} |" in text
