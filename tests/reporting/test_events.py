"""What a process says once: its start, and the changes that it made, in the log and by a signal."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app

from uwsgi_waffle import OutcomeUnknown, SettingsUpdate, StoreUnavailable, settings_updated
from uwsgi_waffle.masking import MASK
from uwsgi_waffle.runtime import Runtime

from ..support.rig import CONFS, MemoryStore, Worker, wait_until

MakeWorker = Callable[..., Worker]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "uwsgi_waffle")


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if vars(record).get("waffle_event") == name]


class Received:
    """A receiver that keeps what it gets."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.updates: list[SettingsUpdate] = []
        settings_updated.connect(self._receive, app)

    def _receive(self, app: Flask, **fields: Any) -> None:
        assert app is self.app
        assert current_app == app
        self.updates.append(SettingsUpdate(**fields))


# --- the start --------------------------------------------------------------------------------


def test_watched_process_says_once_what_it_serves(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker(WAFFLE_POLL_INTERVAL=0.01)
    worker.waffle.update({"LIMIT": 5})
    worker.waffle.start()
    worker.waffle.stop()
    worker.waffle.start()
    (record,) = events(caplog, "starts")
    assert record.levelname == "INFO"
    store = f"<SqliteStore {worker.folder / 'waffle.db'}>"
    assert record.getMessage() == (
        f"a process of shop starts, pid {worker.waffle.status().pid}: serving the current "
        f"settings, at revision 1 of {store}; notices by watch file"
    )
    fields = {key: value for key, value in vars(record).items() if key.startswith("waffle_")}
    assert fields == {
        "waffle_event": "starts",
        "waffle_app": "shop",
        "waffle_worker": 0,
        "waffle_pid": worker.waffle.status().pid,
        "waffle_state": "VALID",
        "waffle_source": "store",
        "waffle_revision": 1,
        "waffle_store": store,
        "waffle_notices": "watch file",
        "waffle_watching": True,
    }


def test_start_while_the_store_is_down_says_that_defaults_are_served(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    store.error = StoreUnavailable("postgresql://ann:pass@db is away")
    make_worker(store=store).waffle.start()
    (record,) = events(caplog, "starts")
    assert "serving the declared defaults, at revision 0" in record.getMessage()
    assert "last good" not in caplog.text
    assert "pass" not in caplog.text


def test_worker_without_a_watcher_says_so(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("runtime", "process.engine"):
        monkeypatch.setattr(f"uwsgi_waffle.{module}.detect", lambda: Runtime(True, 3))
    make_worker(WAFFLE_MULTIPROC=False)
    (record,) = events(caplog, "starts")
    assert record.getMessage().startswith("worker 3 of shop starts, pid ")
    assert record.getMessage().endswith("; not watching")
    assert vars(record)["waffle_watching"] is False


# --- changes in the log -----------------------------------------------------------------------


def test_change_is_logged_by_the_process_that_made_it_and_by_no_other(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker, other = make_worker(), make_worker()
    worker.waffle.update({"LIMIT": 5, "SITENAME": "New"}, author="ann", reason="sale\nof\x1b[31m")
    other.waffle.refresh()
    assert other.get("LIMIT") == 5
    (record,) = events(caplog, "changed")
    assert record.levelname == "INFO"
    assert record.getMessage() == (
        r"revision 1 of shop: ann changed LIMIT, SITENAME: sale\nof\x1b[31m"
    )
    fields = {key: value for key, value in vars(record).items() if key.startswith("waffle_")}
    assert fields == {
        "waffle_event": "changed",
        "waffle_app": "shop",
        "waffle_names": ["LIMIT", "SITENAME"],
        "waffle_author": "ann",
        "waffle_reason": "sale\nof\x1b[31m",
        "waffle_revision": 1,
    }
    assert json.dumps(fields)


def test_values_stay_out_of_the_log_and_a_secret_in_the_reason_is_masked(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    make_worker().waffle.update({"TOKEN": "top-secret"}, reason="it is top-secret now")
    (record,) = events(caplog, "changed")
    assert record.getMessage() == (
        f"revision 1 of shop: an unnamed author changed TOKEN: it is {MASK} now"
    )
    assert "top-secret" not in caplog.text + str(vars(record))


def test_long_list_of_names_is_cut_in_the_text_and_whole_in_the_fields(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    confs = {f"S{number:02}": {"desc": "d", "default": 0} for number in range(30)}
    make_worker(confs=confs).waffle.update(dict.fromkeys(confs, 1), author="ann")
    (record,) = events(caplog, "changed")
    assert record.getMessage().endswith("S08, S09 and 20 more")
    assert vars(record)["waffle_names"] == list(confs)


def test_what_changes_nothing_is_not_logged(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker()
    received = Received(worker.app)
    worker.waffle.update({})
    with pytest.raises(ValueError, match="LIMIT"):
        worker.waffle.update({"LIMIT": -1})
    assert events(caplog, "changed") == []
    assert received.updates == []


def test_unknown_outcome_is_a_warning_and_no_update(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    received = Received(worker.app)
    store.errors["write"] = OutcomeUnknown("the connection broke")
    with pytest.raises(OutcomeUnknown):
        worker.waffle.update({"LIMIT": 5}, author="ann")
    (record,) = events(caplog, "unknown")
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "a change of LIMIT by ann may have been made, or not: the connection broke"
    )
    assert received.updates == []


# --- settings_updated -------------------------------------------------------------------------


def test_update_is_sent_once_by_the_writing_process_with_old_and_new(
    make_worker: MakeWorker,
) -> None:
    worker, other = make_worker(), make_worker()
    here, there = Received(worker.app), Received(other.app)
    worker.waffle.update({"LIMIT": 5, "TOKEN": "top-secret"}, author="ann", reason="sale")
    assert other.get("LIMIT") == 5
    assert here.updates == [
        SettingsUpdate(
            revision=1,
            author="ann",
            reason="sale",
            names=("LIMIT", "TOKEN"),
            old={"LIMIT": 10, "TOKEN": MASK},
            new={"LIMIT": 5, "TOKEN": MASK},
        )
    ]
    assert there.updates == []


def test_update_is_sent_after_the_commit_when_others_see_it(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()
    seen: list[Any] = []

    def receive(app: Flask, **fields: Any) -> None:
        seen.append((app.config["LIMIT"], other.get("LIMIT")))

    settings_updated.connect(receive, worker.app)
    worker.waffle.update({"LIMIT": 5})
    assert seen == [(5, 5)]


def test_old_value_is_that_before_the_change_though_another_process_was_faster(
    make_worker: MakeWorker,
) -> None:
    worker, other = make_worker(), make_worker()
    received = Received(worker.app)
    # Not announced, so that this process can't know it.
    other.state.store.write({"LIMIT": "7", "SITENAME": '"Theirs"'})
    worker.update(LIMIT=5)
    (update,) = received.updates
    assert (update.revision, update.old, update.new) == (2, {"LIMIT": 7}, {"LIMIT": 5})


def test_old_value_is_that_before_the_change_though_the_revision_came_back_as_another(
    make_worker: MakeWorker,
) -> None:
    worker, other = make_worker(), make_worker()
    store = worker.state.store
    backup = store.dump()
    worker.update(LIMIT=7)
    received = Received(worker.app)
    store.load(backup)
    other.state.store.write({"LIMIT": "8"})
    assert worker.update(LIMIT=5) == 2
    (update,) = received.updates
    assert (update.old, update.new) == ({"LIMIT": 8}, {"LIMIT": 5})


def test_history_that_fails_leaves_what_this_process_knew(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    received = Received(worker.app)
    worker.state.store.write({"LIMIT": "7"})

    def fail(**options: Any) -> Any:
        raise RuntimeError("the user's own store")

    monkeypatch.setattr(worker.state.store, "history", fail)
    assert worker.waffle.update({"LIMIT": 5}) == 2
    assert received.updates[0].old == {"LIMIT": 10}


def test_reset_and_a_value_that_did_not_fit_show_what_was_served(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.state.store.write({"LIMIT": "5000", "SITENAME": '"Kept"'})
    worker.waffle.refresh()
    received = Received(worker.app)
    worker.waffle.reset(["LIMIT", "SITENAME"])
    (update,) = received.updates
    assert update.old == {"LIMIT": 10, "SITENAME": "Kept"}
    assert update.new == {"LIMIT": 10, "SITENAME": "Shop"}


def test_setting_that_is_not_declared_any_more_is_masked(make_worker: MakeWorker) -> None:
    make_worker().waffle.update({"TOKEN": "top-secret"})
    worker = make_worker(confs={"LIMIT": CONFS["LIMIT"]})
    received = Received(worker.app)
    worker.state.commit({"TOKEN": None}, author=None, reason=None, expected_revision=None)
    assert received.updates[0].old == {"TOKEN": MASK}


def test_restored_store_is_one_update_of_all_that_differs(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 5})
    dump = worker.state.store.dump()
    worker.waffle.update({"LIMIT": 6, "SITENAME": "Later"})
    received = Received(worker.app)
    caplog.clear()
    worker.state.replace(dump, expected_revision=None)
    (update,) = received.updates
    assert update.old == {"LIMIT": 6, "SITENAME": "Later"}
    assert update.new == {"LIMIT": 5, "SITENAME": "Shop"}
    assert update.revision == worker.waffle.revision
    (record,) = events(caplog, "changed")
    assert "changed LIMIT, SITENAME: the store was restored" in record.getMessage()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_receiver_that_fails_breaks_neither_the_change_nor_other_receivers(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    worker, other = make_worker(), make_worker()

    def fail(app: Flask, **fields: Any) -> None:
        raise error("a bug of the user's")

    settings_updated.connect(fail, worker.app)
    received = Received(worker.app)
    assert worker.waffle.update({"LIMIT": 5}) == 1
    assert other.get("LIMIT") == 5
    assert len(received.updates) == 1
    assert "a receiver of settings_updated failed on revision 1" in caplog.text
    assert "a bug of the user's" in caplog.text


def test_no_receiver_costs_no_read_of_the_history(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    store.write({"LIMIT": "7"})
    calls: list[object] = []
    monkeypatch.setattr(store, "history", lambda **options: calls.append(options))
    worker.waffle.update({"LIMIT": 5})
    assert calls == []


# --- the example in the docs ------------------------------------------------------------------


class Webhook(HTTPServer):
    """Takes what is posted to it, as Slack does."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def slack_example() -> str:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    (code,) = [
        block.split("```")[0]
        for block in page.split("```python\n")[1:]
        if "SLACK_WEBHOOK" in block.split("```")[0]
    ]
    return code


def test_slack_example_of_the_docs_posts_each_change_once(
    make_worker: MakeWorker, webhook: Webhook
) -> None:
    code = slack_example()
    assert len(code.splitlines()) <= 15
    worker, other = make_worker(), make_worker()
    port = webhook.server_address[1]
    for each in (worker, other):
        each.app.config["SLACK_WEBHOOK"] = f"http://127.0.0.1:{port}/services/x"
        # Each process of the app runs it; kept, because a signal holds its receivers weakly.
        each.app.extensions["example"] = scope = {"app": each.app}
        exec(compile(code, "docs/operating.md", "exec"), scope)
    worker.waffle.update({"LIMIT": 5, "TOKEN": "top-secret"}, author="ann", reason="sale")
    assert other.get("LIMIT") == 5
    wait_until(lambda: webhook.bodies, "a message")
    worker.waffle.update({"SITENAME": "New"})
    wait_until(lambda: len(webhook.bodies) > 1, "another message")
    first, second = (body["text"] for body in webhook.bodies)
    assert first == f"ann, sale (revision 1)\nLIMIT: 10 → 5\nTOKEN: {MASK!r} → {MASK!r}"
    assert second == "someone, no reason given (revision 2)\nSITENAME: 'Shop' → 'New'"


def test_slack_example_delays_no_change_when_nobody_answers(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.app.config["SLACK_WEBHOOK"] = "http://127.0.0.1:1/"
    scope: dict[str, Any] = {"app": worker.app}
    failed: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        exec(compile(slack_example(), "docs/operating.md", "exec"), scope)
        assert worker.waffle.update({"LIMIT": 5}) == 1
        wait_until(lambda: failed, "an error in the example's thread")
    finally:
        threading.excepthook = hook
