"""WaffleConf: what users import, with two or more apps standing for the workers of a host."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, has_app_context, stream_with_context

from uwsgi_waffle import (
    ConfigurationError,
    InvalidValueError,
    RevisionConflict,
    State,
    StoreError,
    StoreUnavailable,
    UnknownSettingError,
    WaffleConf,
    WaffleWarning,
    setting_changed,
)
from uwsgi_waffle.forking import undivided
from uwsgi_waffle.notifiers import redis as redis_notifier
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.stores.sqlite import SqliteStore

from .support.rig import (
    CONFS,
    Clock,
    MemoryStore,
    StubNotifier,
    Worker,
    ordinary_user,
    wait_until,
)

MakeWorker = Callable[..., Worker]


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    return make_worker()


@pytest.fixture
def other(make_worker: MakeWorker, worker: Worker) -> Worker:
    return make_worker()


def sql(folder: Path, statement: str, *parameters: object) -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / "waffle.db")) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


@contextlib.contextmanager
def listening(app: Flask) -> Iterator[list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []

    def hear(sender: Flask, **change: Any) -> None:
        in_app = has_app_context() and current_app._get_current_object() is sender  # type: ignore[attr-defined]
        heard.append({**change, "applied": sender.config[change["name"]], "in_app": in_app})

    with setting_changed.connected_to(hear, app):
        yield heard


# --- set-up -----------------------------------------------------------------------------------


def test_defaults_are_in_app_config_at_once(worker: Worker) -> None:
    assert worker.app.config["SITENAME"] == "Shop"
    assert dict(worker.waffle.conf) == {"SITENAME": "Shop", "LIMIT": 10, "TOKEN": "hush"}
    assert worker.waffle.revision == 0


def test_stored_values_are_in_app_config_at_once(worker: Worker, make_worker: MakeWorker) -> None:
    worker.waffle.update({"SITENAME": "New"})
    later = make_worker()
    assert later.app.config["SITENAME"] == "New"
    assert later.waffle.revision == 1


def test_application_factory(tmp_path: Path) -> None:
    waffle = WaffleConf()

    def create_app(name: str) -> Flask:
        app = Flask(name, instance_path=str(tmp_path / name))
        app.config["WAFFLE_CONFS"] = CONFS
        waffle.init_app(app)
        return app

    one, two = create_app("one"), create_app("two")
    with one.app_context():
        waffle.update({"SITENAME": "One"})
        assert waffle.conf["SITENAME"] == "One"
    with two.app_context():
        assert waffle.conf["SITENAME"] == "Shop"
        assert waffle.revision == 0
    assert one.config["SITENAME"] == "One"
    assert two.config["SITENAME"] == "Shop"
    with pytest.raises(ConfigurationError, match=r"serves 2 apps.*app_context"):
        _ = waffle.conf
    for app in (one, two):
        app.extensions["waffleconf"].store.close()


def test_second_init_app_of_the_same_app_is_refused(worker: Worker) -> None:
    with pytest.raises(ConfigurationError, match="call init_app once for each app"):
        worker.waffle.init_app(worker.app)
    with pytest.raises(ConfigurationError, match="call init_app once for each app"):
        WaffleConf(worker.app)
    assert worker.get("SITENAME") == "Shop"


def test_app_without_waffle_is_told_so(worker: Worker) -> None:
    with (
        Flask("bare").app_context(),
        pytest.raises(ConfigurationError, match=r"'bare' has no WaffleConf.*init_app"),
    ):
        _ = worker.waffle.conf
    with pytest.raises(ConfigurationError, match="serves 0 apps"):
        _ = WaffleConf().conf


def test_app_without_settings_works(make_worker: MakeWorker) -> None:
    worker = make_worker(confs={})
    assert dict(worker.waffle.conf) == {}
    assert worker.waffle.update({}) == 0


def test_extension_keeps_no_app_alive(tmp_path: Path) -> None:
    waffle = WaffleConf()
    app: Flask | None = Flask("shop", instance_path=str(tmp_path / "i"))
    assert app is not None
    waffle.init_app(app)
    waffle.state.store.close()
    gone = weakref.ref(app)
    app = None
    gc.collect()
    assert gone() is None


def test_store_given_by_the_user_is_used(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 7})
    assert store.rows["LIMIT"][0] == "7"
    assert not (worker.folder / "waffle.db").exists()


def test_files_lie_in_the_instance_folder_which_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "instance"
    worker = Worker(folder)
    assert {path.name for path in folder.iterdir()} >= {"waffle.db", "waffle.watch"}
    assert (folder / "waffle.watch").stat().st_mode & 0o777 == 0o660
    worker.close()


def test_places_may_be_named(tmp_path: Path, make_worker: MakeWorker) -> None:
    make_worker(
        WAFFLE_STORE_URL=f"sqlite:///{tmp_path}/x.db", WAFFLE_WATCHER_FILE=str(tmp_path / "x.watch")
    )
    assert (tmp_path / "x.db").exists()
    assert (tmp_path / "x.watch").exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"WAFFLE_WATCHER_FILE": "/nowhere/x.watch"}, r"/nowhere .*WAFFLE_WATCHER_FILE"),
        ({"WAFFLE_STORE_URL": "sqlite:////nowhere/x.db"}, r"/nowhere .*WAFFLE_STORE_URL"),
        ({"WAFFLE_STORE_URL": "mongodb://ann:s3cr3t@db1/x"}, r"\(mongodb\).*write sqlite"),
        ({"WAFFLE_STORE_URL": "x.db"}, "no scheme"),
        ({"WAFFLE_WATCHTYPE": "carrier pigeon"}, "'file', 'redis' or 'postgresql'"),
        ({"WAFFLE_POLL_INTERVAL": 0}, "WAFFLE_POLL_INTERVAL must be"),
        ({"WAFFLE_CONFS": {"A": 1}}, r"WAFFLE_CONFS\['A'\]"),
        ({"WAFFLE_CONFS": None}, "WAFFLE_CONFS must map"),
    ],
)
def test_unusable_set_up_is_a_configuration_error(
    folder: Path, config: dict[str, Any], words: str
) -> None:
    app = Flask("shop", instance_path=str(folder))
    app.config.update(config)
    with pytest.raises(ConfigurationError, match=words) as caught:
        WaffleConf(app)
    assert "s3cr3t" not in str(caught.value)
    assert "waffleconf" not in app.extensions


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("x")])
def test_watch_file_that_is_none_is_a_configuration_error(
    folder: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "waffle.watch")
    with pytest.raises(ConfigurationError, match="WAFFLE_WATCHER_FILE"):
        Worker(folder)


def test_unwritable_watch_file_is_warned_of_and_a_change_stands(open_folder: Path) -> None:
    with ordinary_user():
        FileNotifier(open_folder / "waffle.watch").ensure()
        (open_folder / "waffle.watch").chmod(0o440)
        if os.geteuid() == os.getuid():
            with pytest.warns(WaffleWarning, match=r"not writable.*WAFFLE_WATCHER_FILE"):
                worker = Worker(open_folder)
        else:  # os.access() asks for the real user, which is root here
            worker = Worker(open_folder)
        assert worker.waffle.update({"LIMIT": 7}) == 1
        assert worker.app.config["LIMIT"] == 7
        assert "Permission denied" in worker.waffle.status().failing["announcing by watch file"]
        worker.close()


def test_instance_folder_that_can_not_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"instance folder.*can't be made"):
        Worker(tmp_path / "file" / "instance")


def test_redis_without_redis_py_falls_back_to_the_file_with_a_warning(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "uwsgi_waffle.notifiers.redis", raising=False)
    with pytest.warns(WaffleWarning, match=r"pip install 'uwsgi-waffle\[redis\]'"):
        worker = make_worker(WAFFLE_WATCHTYPE="redis")
    worker.waffle.update({"LIMIT": 7})
    worker.waffle.start()
    assert worker.waffle.status().notices != "redis"


def test_redis_that_can_not_be_reached_delays_no_change_beyond_its_bound(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker(
        WAFFLE_WATCHTYPE="redis", WAFFLE_REDIS_URL="redis://ann:s3cr3t@127.0.0.1:1/0"
    )
    other = make_worker()
    worker.waffle.update({"LIMIT": 7})
    assert other.get("LIMIT") == 7
    status = worker.waffle.status()
    assert status.state is State.INTERRUPTED
    assert "announcing by redis" in status.failing
    assert "s3cr3t" not in repr(status)


def test_no_fork_meets_a_module_that_another_thread_is_importing(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []

    def make(*arguments: Any, **more: Any) -> Any:
        found.append(threading.get_ident() in undivided._working)
        return StubNotifier()

    monkeypatch.setattr(redis_notifier, "RedisNotifier", make)
    worker = make_worker(WAFFLE_WATCHTYPE="redis", WAFFLE_REDIS_URL="redis://127.0.0.1:1/0")
    worker.waffle.update({"LIMIT": 7})
    # By who made the change, and perhaps by the watcher, too.
    assert found
    assert all(found)


def test_redis_url_that_is_none_is_an_error_at_the_start(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="WAFFLE_REDIS_URL"):
        Worker(folder, WAFFLE_WATCHTYPE="redis", WAFFLE_REDIS_URL="http://localhost")


@pytest.mark.parametrize("url", ["sqlite:///waffle.db", "sqlite+pysqlite:///waffle.db"])
def test_notices_of_postgresql_without_one_are_an_error_that_names_the_fix(
    folder: Path, url: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"WAFFLE_STORE_URL.*'redis' .*'file'"):
        Worker(folder, WAFFLE_WATCHTYPE="postgresql", WAFFLE_STORE_URL=url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://db1/x",
        "db1:5432",
        "postgresql+asyncpg://db1/x",
        "postgresql://ann:s3cr%t@db1/x",
        "postgresql://ann:pass@s3cr3t@127.0.0.1:1/x",
        "postgresql://ann:s3cr3t@db1/x?no_such=1",
    ],
)
def test_url_that_is_none_of_postgresql_is_an_error_at_the_start(folder: Path, url: str) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(ConfigurationError, match="WAFFLE_POSTGRESQL_URL") as caught:
        Worker(
            folder,
            WAFFLE_WATCHTYPE="postgresql",
            WAFFLE_STORE_URL="postgresql+psycopg://ann@127.0.0.1:1/x",
            WAFFLE_POSTGRESQL_URL=url,
        )
    assert "s3cr" not in str(caught.value)


def test_postgresql_that_can_not_be_reached_is_a_fault_like_its_store(
    make_worker: MakeWorker,
) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    worker = make_worker(
        WAFFLE_WATCHTYPE="postgresql",
        WAFFLE_STORE_URL="postgresql+psycopg://ann:s3cr3t@127.0.0.1:1/x?connect_timeout=1",
        WAFFLE_STORE_PREFIX="shop_",
    )
    worker.waffle.start()
    wait_until(lambda: "postgresql" in worker.waffle.status().failing)
    assert worker.waffle.status().notices == "postgresql"
    assert "s3cr3t" not in repr(worker.waffle.status())
    assert worker.state.notices.make_channel is not None
    assert "'shop_changes'" in repr(worker.state.notices.make_channel())


# --- changes ----------------------------------------------------------------------------------


def test_update_is_seen_here_at_once_and_elsewhere_at_the_next_request(
    worker: Worker, other: Worker
) -> None:
    for number in range(1, 20):
        assert worker.waffle.update({"LIMIT": number}) == number
        assert worker.app.config["LIMIT"] == worker.waffle.conf["LIMIT"] == number
        assert other.get("LIMIT") == number
        assert other.waffle.revision == number
    assert not other.waffle.status().watcher_alive


def test_workers_that_change_in_turn_follow_each_other(worker: Worker, other: Worker) -> None:
    for number in range(1, 20):
        first, second = (worker, other) if number % 2 else (other, worker)
        first.waffle.update({"LIMIT": number})
        assert second.get("LIMIT") == number


def test_reset_puts_the_default_back_everywhere(worker: Worker, other: Worker) -> None:
    worker.waffle.update({"LIMIT": 7, "SITENAME": "New"})
    assert worker.waffle.reset(["LIMIT"]) == 2
    assert worker.app.config["LIMIT"] == 10
    assert other.get("LIMIT") == 10
    assert other.get("SITENAME") == "New"
    worker.waffle.reset("SITENAME")
    assert other.get("SITENAME") == "Shop"


def test_default_changed_in_the_code_is_served_where_nothing_is_stored(
    worker: Worker, make_worker: MakeWorker
) -> None:
    worker.waffle.update({"SITENAME": "New", "LIMIT": 7})
    worker.waffle.reset(["LIMIT"])
    confs = {**CONFS, "LIMIT": {"desc": "d", "default": 99}}
    assert make_worker(confs=confs).get("LIMIT") == 99


@pytest.mark.parametrize(
    ("values", "error", "bad"),
    [
        ({"LIMIT": 7, "LIMITS": 8, "X": 1}, UnknownSettingError, {"LIMITS", "X"}),
        ({"SITENAME": "New", "LIMIT": "7"}, InvalidValueError, {"LIMIT"}),
        ({"SITENAME": 1, "LIMIT": 0}, InvalidValueError, {"SITENAME", "LIMIT"}),
        ({"SITENAME": object()}, InvalidValueError, {"SITENAME"}),
        ({"SITENAME": None}, InvalidValueError, {"SITENAME"}),
        ({"SITENAME": "\ud800"}, InvalidValueError, {"SITENAME"}),
    ],
)
def test_bad_value_writes_nothing_and_every_bad_name_is_told(
    worker: Worker,
    other: Worker,
    folder: Path,
    values: dict[str, object],
    error: type[InvalidValueError],
    bad: set[str],
) -> None:
    mark = FileNotifier(folder / "waffle.watch").mark()
    with pytest.raises(error) as caught:
        worker.waffle.update(values)
    assert set(caught.value.problems) == bad
    assert all(name in str(caught.value) for name in bad)
    assert sql(folder, "SELECT * FROM waffle_settings") == []
    assert sql(folder, "SELECT revision FROM waffle_meta") == [(0,)]
    assert FileNotifier(folder / "waffle.watch").mark() == mark
    assert dict(worker.waffle.conf) == dict(other.waffle.conf)


def test_unknown_name_is_refused_by_reset_and_override_too(worker: Worker) -> None:
    with pytest.raises(UnknownSettingError, match="did you mean LIMIT"):
        worker.waffle.reset(["LIMITS"])
    with pytest.raises(UnknownSettingError, match="did you mean LIMIT"):
        worker.waffle.override(LIMITS=1).__enter__()
    assert worker.waffle.revision == 0


def test_expected_revision_protects_from_overwriting_somebody_elses_change(
    worker: Worker, other: Worker
) -> None:
    seen = worker.waffle.revision
    other.waffle.update({"LIMIT": 7})
    with pytest.raises(RevisionConflict) as caught:
        worker.waffle.update({"LIMIT": 8}, expected_revision=seen)
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    assert worker.get("LIMIT") == 7
    assert worker.waffle.update({"LIMIT": 8}, expected_revision=1) == 2
    with pytest.raises(RevisionConflict):
        other.waffle.reset(["LIMIT"], expected_revision=1)


def test_empty_change_makes_no_revision(worker: Worker) -> None:
    assert worker.waffle.update({}) == worker.waffle.reset([]) == 0


def test_author_and_reason_are_kept(worker: Worker) -> None:
    worker.waffle.update({"LIMIT": 7}, author="ann", reason="sale")
    worker.waffle.reset(["LIMIT"], author="bob")
    entries = worker.state.store.history()
    assert [(e.revision, e.author, e.reason, e.old_raw, e.new_raw) for e in entries] == [
        (2, "bob", None, "7", None),
        (1, "ann", "sale", None, "7"),
    ]
    assert (datetime.now(timezone.utc) - entries[0].at).total_seconds() < 60


def test_reading_never_writes(worker: Worker, other: Worker, folder: Path) -> None:
    worker.waffle.update({"LIMIT": 7})
    before = sql(folder, "SELECT * FROM waffle_settings"), sql(folder, "SELECT * FROM waffle_meta")
    for each in (worker, other):
        each.get("SITENAME")
        each.state.parse_conf()
        each.state.update_conf()
        each.waffle.refresh()
        each.waffle.status()
    after = sql(folder, "SELECT * FROM waffle_settings"), sql(folder, "SELECT * FROM waffle_meta")
    assert before == after


def test_read_only_database_refuses_changes_and_is_read_on(open_folder: Path) -> None:
    with ordinary_user():
        worker = Worker(open_folder)
        worker.waffle.update({"LIMIT": 7})
        for file in open_folder.glob("waffle.db*"):
            file.chmod(0o440)
        with pytest.raises(StoreError, match="make the file and its folder writable"):
            worker.waffle.update({"LIMIT": 8})
        assert worker.get("LIMIT") == 7
        for file in open_folder.glob("waffle.db*"):
            file.chmod(0o660)
        assert worker.waffle.update({"LIMIT": 8}) == 2
        worker.close()


def test_locked_database_refuses_changes_within_the_bound_and_serves_requests(
    make_worker: MakeWorker, folder: Path
) -> None:
    worker = make_worker(WAFFLE_WRITE_TIMEOUT=0.05)
    worker.waffle.update({"LIMIT": 7})
    with contextlib.closing(sqlite3.connect(folder / "waffle.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            worker.waffle.update({"LIMIT": 8})
        assert worker.get("LIMIT") == 7
        holder.execute("ROLLBACK")
    assert worker.waffle.update({"LIMIT": 8}) == 2


def test_database_that_was_lost_serves_the_last_good_values(
    worker: Worker, other: Worker, folder: Path
) -> None:
    worker.waffle.update({"LIMIT": 7})
    assert other.get("LIMIT") == 7
    for file in folder.glob("waffle.db*"):
        file.rename(file.with_name(file.name + ".gone"))
    (folder / "waffle.watch").touch()
    with pytest.raises(StoreUnavailable):
        worker.waffle.update({"LIMIT": 8})
    wait_until(lambda: other.get("LIMIT") == 7 and other.waffle.status().state is State.INTERRUPTED)
    for file in folder.glob("waffle.db*.gone"):
        file.rename(file.with_name(file.name[: -len(".gone")]))
    assert worker.waffle.update({"LIMIT": 8}) == 2
    other.waffle.refresh()
    assert other.get("LIMIT") == 8
    assert other.waffle.status().state is State.VALID


def test_app_starts_with_defaults_when_its_database_is_broken(folder: Path) -> None:
    (folder / "waffle.db").write_bytes(b"this is no database" * 100)
    worker = Worker(folder)
    assert worker.get("LIMIT") == 10
    status = worker.waffle.status()
    assert status.state is State.INTERRUPTED
    assert status.staleness_s is None
    assert "waffle.db" in status.failing["store"]
    with pytest.raises(StoreError):
        worker.waffle.update({"LIMIT": 7})
    worker.close()


def test_touch_by_hand_shows_a_row_that_was_edited_by_sql(
    worker: Worker, other: Worker, folder: Path
) -> None:
    worker.waffle.update({"LIMIT": 7})
    assert other.get("LIMIT") == 7
    sql(folder, "UPDATE waffle_settings SET raw = '8' WHERE name = 'LIMIT'")
    assert other.get("LIMIT") == 7
    (folder / "waffle.watch").touch()
    # What is touched by hand is noticed when the tickets of before it are over.
    wait_until(lambda: worker.get("LIMIT") == other.get("LIMIT") == 8)


def test_stored_value_that_no_longer_fits_serves_its_default_and_is_shown_in_status(
    worker: Worker, make_worker: MakeWorker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker.waffle.update({"LIMIT": 500, "SITENAME": "New"})
    confs = {**CONFS, "LIMIT": {"desc": "d", "default": 5, "max": 100}}
    later = make_worker(confs=confs)
    for _ in range(3):
        assert later.get("LIMIT") == 5
        (folder / "waffle.watch").touch()
    assert later.get("SITENAME") == "New"
    assert "at most 100" in later.waffle.status().faults["LIMIT"]
    assert len([record for record in caplog.records if "LIMIT" in record.getMessage()]) == 1
    rows = sql(folder, "SELECT raw FROM waffle_settings WHERE name = 'LIMIT'")
    assert rows == [("500",)]
    caplog.clear()
    later.waffle.update({"LIMIT": 50})
    assert later.waffle.status().faults == {}
    (record,) = caplog.records
    assert record.getMessage() == "nothing is wrong with the stored value of LIMIT any more"
    assert record.levelname == "ERROR"


def test_refresh_of_a_thousand_settings_is_one_query(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    confs = {f"S{number}": {"desc": "d", "default": 0} for number in range(1000)}
    worker, other = make_worker(confs=confs), make_worker(confs=confs)
    other.get("S1")
    statements: list[str] = []
    store = other.state.store
    assert isinstance(store, SqliteStore)
    store._reader.get().use(lambda connection, _: connection.set_trace_callback(statements.append))
    worker.waffle.update(dict.fromkeys(confs, 7))
    assert other.get("S999") == 7
    assert len(statements) == 1
    assert set(other.waffle.conf.values()) == {7}


# --- one revision per request -----------------------------------------------------------------


def test_request_keeps_its_revision_whatever_happens_meanwhile(
    worker: Worker, other: Worker
) -> None:
    seen: list[tuple[str, str, int]] = []
    conf = other.waffle

    @other.app.get("/long")
    def long() -> str:
        for name in ("One", "Two"):
            seen.append((other.app.config["SITENAME"], conf.conf["SITENAME"], conf.revision))
            worker.update(SITENAME=name)
            other.manager.follow(None)  # as its watcher would
        seen.append((other.app.config["SITENAME"], conf.conf["SITENAME"], conf.revision))
        return "ok"

    other.app.test_client().get("/long")
    assert seen == [("Shop", "Shop", 0)] * 3
    assert other.manager.snapshot.revision == 2
    assert other.get("SITENAME") == "Two"


@pytest.mark.parametrize("with_context", [True, False])
def test_streamed_response_keeps_its_revision(
    worker: Worker, other: Worker, with_context: bool
) -> None:
    @other.app.get("/stream")
    def stream() -> Any:
        def body() -> Iterator[str]:
            for name in ("One", "Two"):
                yield other.app.config["SITENAME"] + " "
                if with_context:
                    assert other.waffle.conf["SITENAME"] == "Shop"
                worker.update(SITENAME=name)
                other.manager.follow(None)
            yield other.app.config["SITENAME"]

        return stream_with_context(body()) if with_context else body()

    response = other.app.test_client().get("/stream")
    assert response.get_data(as_text=True) == "Shop Shop Shop"
    response.close()
    other.manager.follow(None)
    assert other.app.config["SITENAME"] == "Two"


def test_watcher_applies_when_no_request_runs(worker: Worker, other: Worker) -> None:
    worker.waffle.update({"SITENAME": "New"})
    other.manager.follow(None)
    assert other.app.config["SITENAME"] == "New"


def test_request_sees_its_own_change(worker: Worker) -> None:
    @worker.app.get("/change")
    def change() -> Any:
        before = worker.waffle.conf["LIMIT"], worker.waffle.revision
        worker.waffle.update({"LIMIT": 7})
        after = worker.waffle.conf["LIMIT"], worker.waffle.revision
        worker.waffle.reset(["LIMIT"])
        return [before, after, worker.waffle.conf["LIMIT"], worker.app.config["LIMIT"]]

    answer = worker.app.test_client().get("/change").get_json()
    assert answer == [[10, 0], [7, 1], 10, 10]


def test_before_request_functions_and_session_already_see_the_change(
    worker: Worker, other: Worker
) -> None:
    seen: list[object] = []
    other.app.url_value_preprocessor(lambda *args: seen.append(other.app.config["LIMIT"]))
    other.app.before_request(lambda: seen.append(other.app.config["LIMIT"]))
    worker.waffle.update({"LIMIT": 7})
    other.get("SITENAME")
    assert seen == [7, 7]


def test_request_context_made_by_hand_pins_one_snapshot_too(worker: Worker, other: Worker) -> None:
    with other.app.test_request_context():
        assert other.waffle.conf["LIMIT"] == 10
        worker.update(LIMIT=7)
        other.manager.follow(None)
        assert other.waffle.conf["LIMIT"] == 10
    assert other.waffle.conf["LIMIT"] == 7


def test_conf_is_read_only(worker: Worker) -> None:
    conf: Any = worker.waffle.conf
    with pytest.raises(TypeError):
        conf["LIMIT"] = 7
    with pytest.raises(UnknownSettingError, match="did you mean LIMIT"):
        conf["LIMITS"]


@pytest.mark.slow
def test_threads_of_one_worker_never_see_an_older_revision_nor_a_torn_pair(
    make_worker: MakeWorker,
) -> None:
    confs = {name: {"desc": "d", "default": 0} for name in ("A", "B")}
    writer, server = make_worker(confs=confs), make_worker(confs=confs)
    wrong: list[object] = []
    done = threading.Event()
    announced = 0

    @server.app.get("/pair")
    def pair() -> Any:
        conf = server.waffle.conf
        first = conf["A"]
        return [first, server.waffle.conf["B"], server.waffle.revision]

    def serve() -> None:
        client, last = server.app.test_client(), 0
        while not done.is_set():
            least = announced
            one, two, revision = client.get("/pair").get_json()
            if not one == two == revision or revision < max(last, least):
                wrong.append((least, last, one, two, revision))
            last = revision

    server.waffle.start()
    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            announced = writer.waffle.update(dict.fromkeys("AB", announced + 1))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []


# --- overrides --------------------------------------------------------------------------------


def test_override_is_seen_in_config_conf_and_requests_and_nested(
    worker: Worker, other: Worker, folder: Path
) -> None:
    with worker.waffle.override(LIMIT=99):
        assert worker.get("LIMIT") == worker.waffle.conf["LIMIT"] == 99
        with worker.waffle.override(LIMIT=98, SITENAME="x"):
            assert worker.get("LIMIT") == 98
            assert worker.get("SITENAME") == "x"
        assert worker.get("LIMIT") == 99
        assert worker.get("SITENAME") == "Shop"
        assert other.get("LIMIT") == 10
    assert worker.get("LIMIT") == worker.waffle.conf["LIMIT"] == 10
    assert sql(folder, "SELECT * FROM waffle_settings") == []


def test_override_survives_a_refresh_and_a_change(worker: Worker, other: Worker) -> None:
    with worker.waffle.override(LIMIT=99):
        other.waffle.update({"LIMIT": 7, "SITENAME": "New"})
        assert worker.get("LIMIT") == 99
        assert worker.get("SITENAME") == "New"
        worker.state.update_conf()
        assert worker.app.config["LIMIT"] == 99
    assert worker.get("LIMIT") == 7


def test_override_ends_after_an_error_too(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError), worker.waffle.override(LIMIT=99):
        raise ZeroDivisionError
    assert worker.get("LIMIT") == 10


def test_override_is_checked_like_any_value(worker: Worker) -> None:
    with pytest.raises(InvalidValueError, match="at most 1000"):
        worker.waffle.override(LIMIT=1001).__enter__()


def test_override_within_a_request_is_seen_by_it(worker: Worker) -> None:
    @worker.app.get("/override")
    def override() -> Any:
        with worker.waffle.override(LIMIT=99):
            within = worker.waffle.conf["LIMIT"]
        return [within, worker.waffle.conf["LIMIT"]]

    assert worker.app.test_client().get("/override").get_json() == [99, 10]


# --- the signal -------------------------------------------------------------------------------


def test_signal_tells_each_process_what_it_applied(worker: Worker, other: Worker) -> None:
    with listening(worker.app) as here, listening(other.app) as there:
        worker.waffle.update({"LIMIT": 7})
        expected = {"name": "LIMIT", "old": 10, "new": 7, "revision": 1, "secret": False}
        assert here == [{**expected, "applied": 7, "in_app": True}]
        assert there == []
        other.get("LIMIT")
        assert there == here


def test_signal_is_not_sent_for_values_that_stay(worker: Worker) -> None:
    with listening(worker.app) as heard:
        worker.waffle.update({"LIMIT": 10})
        worker.waffle.reset(["LIMIT", "SITENAME"])
    assert heard == []


def test_signal_is_not_sent_at_the_first_load(worker: Worker, folder: Path) -> None:
    worker.waffle.update({"LIMIT": 7})
    app = Flask("shop", instance_path=str(folder))
    app.config["WAFFLE_CONFS"] = CONFS
    with listening(app) as heard:
        waffle = WaffleConf(app)
        app.test_client().get("/")
    assert heard == []
    assert app.config["LIMIT"] == 7
    waffle.state.store.close()


def test_signal_runs_in_the_context_of_its_own_app_also_within_anothers(
    tmp_path: Path, make_worker: MakeWorker
) -> None:
    one = make_worker()
    (tmp_path / "two").mkdir()
    two = make_worker(where=tmp_path / "two")
    with listening(two.app) as heard, one.app.app_context():
        two.state.update_db({"LIMIT": 7})
    assert [change["in_app"] for change in heard] == [True]


def test_failing_receiver_is_logged_and_harms_nothing(
    worker: Worker, other: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sender: Flask, **change: Any) -> None:
        raise ZeroDivisionError("a bug of the user's")

    with setting_changed.connected_to(broken, other.app), listening(other.app) as heard:
        worker.waffle.update({"LIMIT": 7, "SITENAME": "New"})
        assert other.get("LIMIT") == 7
    assert {change["name"] for change in heard} == {"LIMIT", "SITENAME"}
    assert "a bug of the user's" in caplog.text
    assert other.waffle.status().state is State.VALID


def test_receiver_may_make_a_change_itself(worker: Worker) -> None:
    def follow_up(sender: Flask, name: str, **change: Any) -> None:
        if name == "LIMIT":
            worker.waffle.update({"SITENAME": f"limit {change['new']}"})

    with setting_changed.connected_to(follow_up, worker.app):
        worker.waffle.update({"LIMIT": 7})
    assert worker.app.config["SITENAME"] == "limit 7"


def test_teardown_of_the_app_that_fails_harms_no_request(
    worker: Worker, other: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    bugs = ["a teardown's bug"]  # met around the signal, before the request has a context

    @other.app.teardown_appcontext
    def broken(error: BaseException | None) -> None:
        if bugs:
            raise ZeroDivisionError(bugs.pop())

    worker.waffle.update({"LIMIT": 7})
    with listening(other.app) as heard:
        assert other.get("LIMIT") == 7
    assert heard
    assert "a teardown's bug" in caplog.text
    assert other.waffle.status().state is State.VALID


# --- what the ancestor had --------------------------------------------------------------------


def test_state_of_the_ancestor_lies_in_extensions(worker: Worker, other: Worker) -> None:
    state = worker.app.extensions["waffleconf"]
    assert state.parse_conf() == {"SITENAME": "Shop", "LIMIT": 10, "TOKEN": "hush"}
    state.update_db({"LIMIT": 7})
    theirs = other.app.extensions["waffleconf"]
    assert theirs.parse_conf(["LIMIT"]) == {"LIMIT": 7}
    with pytest.raises(UnknownSettingError):
        theirs.parse_conf(["LIMITS"])
    with pytest.raises(InvalidValueError):
        state.update_db({"LIMIT": "7"})


def test_update_conf_reads_everything_again(worker: Worker, folder: Path) -> None:
    worker.waffle.update({"LIMIT": 7})
    sql(folder, "UPDATE waffle_settings SET raw = '8'")
    worker.state.update_conf()
    assert worker.app.config["LIMIT"] == 8


# --- status, secrets --------------------------------------------------------------------------


def test_status_tells_what_works(worker: Worker, other: Worker) -> None:
    worker.waffle.update({"LIMIT": 7})
    status = worker.waffle.status()
    assert (status.state, status.revision, status.failing) == (State.VALID, 1, {})
    assert status.staleness_s is not None
    assert status.staleness_s < 60
    assert (status.pid, status.worker_id) == (os.getpid(), 0)
    worker.waffle.start()
    assert worker.waffle.status().watcher_alive
    assert worker.waffle.status().notices == "watch file"
    worker.waffle.stop()
    assert worker.waffle.status().state is State.OFF
    other.waffle.update({"LIMIT": 8})
    assert worker.get("LIMIT") == 8


def test_store_that_is_down_costs_one_attempt_then_nothing(make_worker: MakeWorker) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 7})
    clock = Clock()
    worker.manager._clock = worker.manager.reading._clock = clock
    worker.waffle.refresh()
    store.error = StoreUnavailable("down")
    FileNotifier(worker.folder / "waffle.watch").announce(9)
    before = store.calls["read_since"]
    # Requests that share an earlier ticket do not look yet.
    wait_until(lambda: worker.get("LIMIT") == 7 and store.calls["read_since"] > before)
    for _ in range(20):
        assert worker.get("LIMIT") == 7
    assert store.calls["read_since"] == before + 1
    store.error = None
    clock.advance(2.0)
    worker.get("LIMIT")
    assert worker.waffle.status().state is State.VALID


def test_secret_is_in_no_log_message_or_repr(
    worker: Worker, other: Worker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    secret = "s3cr3t-4711"
    worker.waffle.update({"TOKEN": secret}, author="ann")
    assert other.get("TOKEN") == secret
    sql(folder, f"UPDATE waffle_settings SET raw = '[\"{secret}\"]'")
    (folder / "waffle.watch").touch()
    wait_until(lambda: other.get("TOKEN") == "hush")
    shown = [repr(other.waffle.conf), repr(other.waffle.status()), repr(other.state), caplog.text]
    shown += [repr(other.state.declarations["TOKEN"]), repr(other.state.store)]
    assert "TOKEN" in caplog.text
    assert secret not in "".join(shown)


# --- many processes ---------------------------------------------------------------------------

WRITER = """
import sys
from flask import Flask
from uwsgi_waffle import WaffleConf

app = Flask("shop", instance_path=sys.argv[1])
app.config["WAFFLE_CONFS"] = {"COUNT": {"desc": "d", "default": 0}}
app.config["WAFFLE_WRITE_TIMEOUT"] = 30.0
waffle = WaffleConf(app)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    waffle.update({"COUNT": number})
assert not waffle.status().failing, waffle.status()
print(waffle.revision)
"""


@pytest.mark.slow
def test_sixteen_processes_at_once_lose_no_change(folder: Path) -> None:
    processes, writes = 16, 5
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, str(folder), str(writes)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        revisions = [int(writer.communicate(timeout=50)[0]) for writer in writers]
    assert max(revisions) == processes * writes
    assert sql(folder, "SELECT revision FROM waffle_meta") == [(processes * writes,)]
    assert sql(folder, "SELECT count(*) FROM waffle_history") == [(processes * writes,)]
    assert FileNotifier(folder / "waffle.watch").mark().revision is not None


def test_no_warning_is_given_for_a_plain_set_up(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Worker(folder).close()


@pytest.mark.parametrize("app", [object(), Flask, Flask("shop").wsgi_app])
def test_what_is_no_flask_app_is_refused_by_a_sentence(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no Flask app: pass the Flask app itself"):
        WaffleConf().init_app(app)
