"""Threads, contexts and requests within requests: whose settings change, and when."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blinker import Signal
from flask import Flask, Response, abort, copy_current_request_context, stream_with_context
from werkzeug.test import EnvironBuilder

from uwsgi_waffle import (
    RevisionConflict,
    StoreUnavailable,
    WaffleConf,
    setting_changed,
    settings_updated,
)
from uwsgi_waffle.errors import StoreError, StoreLost

from ..support.rig import Clock, MemoryStore, Rig, Worker, set_ticket_clock, wait_until
from ..support.steps import calls_of

MakeWorker = Callable[..., Worker]


def in_a_thread(call: Callable[..., object], *arguments: object) -> None:
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def served(worker: Worker, environ: dict[str, Any], path: str, **more: str) -> Any:
    """Serve a request in an environment that the next one will have, as uWSGI does."""
    environ.clear()
    environ.update(EnvironBuilder(path).get_environ())
    # New strings for each request, as uWSGI makes them.
    environ["wsgi.url_scheme"] = "".join(["ht", "tp"])
    environ["REMOTE_ADDR"] = "".join(["127.0.", "0.1"])
    # As a middleware may replace them.
    environ.update(more)
    app: Any = worker.app
    body = app(environ, lambda *given: None)
    text = b"".join(body).decode()
    body.close()
    return text


def _update_conf(waffle: WaffleConf[Any]) -> None:
    waffle.state.update_conf()


def test_thread_that_outlives_its_request_does_not_change_the_next_one(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    go, done = threading.Event(), threading.Event()
    seen: list[int] = []

    @worker.app.get("/start")
    def start() -> str:
        @copy_current_request_context
        def late() -> None:
            go.wait(10)
            worker.waffle.update({"LIMIT": 7})
            done.set()

        threading.Thread(target=late).start()
        return "ok"

    @worker.app.get("/next")
    def next_() -> str:
        before = (worker.waffle.conf["LIMIT"], worker.app.config["LIMIT"])
        go.set()
        assert done.wait(10)
        seen.append(worker.app.config["LIMIT"])
        return str([*before, worker.waffle.conf["LIMIT"]])

    environ: dict[str, Any] = {}
    served(worker, environ, "/start")
    assert served(worker, environ, "/next") == "[10, 10, 10]"
    assert seen == [10]
    assert worker.get("LIMIT") == 7


def test_stream_with_context_is_part_of_its_request(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()

    @worker.app.get("/")
    def view() -> Response:
        def body() -> Iterator[str]:
            # Flask has popped the context of the request since, and pushed it again.
            other.update(LIMIT=7)
            yield f"{worker.waffle.conf['LIMIT']} {worker.app.config['LIMIT']}, "
            worker.waffle.update({"LIMIT": 8})
            yield f"{worker.waffle.conf['LIMIT']} {worker.app.config['LIMIT']}"

        return Response(stream_with_context(body()))

    assert served(worker, {}, "/") == "10 10, 8 8"


def test_request_goes_on_when_a_thread_with_its_context_has_ended(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()

    @worker.app.get("/")
    def view() -> str:
        in_a_thread(copy_current_request_context(lambda: None))
        other.update(LIMIT=7)
        before = f"{worker.waffle.conf['LIMIT']} {worker.app.config['LIMIT']}"
        worker.waffle.update({"LIMIT": 8})
        return f"{before}, {worker.waffle.conf['LIMIT']} {worker.app.config['LIMIT']}"

    assert served(worker, {}, "/") == "10 10, 8 8"


@pytest.mark.parametrize(
    "constant", [{}, {"wsgi.url_scheme": "https"}, {"REMOTE_ADDR": "192.0.2.1"}]
)
def test_end_of_a_thread_from_an_earlier_request_is_not_that_of_the_next(
    make_worker: MakeWorker, constant: dict[str, str]
) -> None:
    worker, other = make_worker(), make_worker()
    go, changed = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    @worker.app.get("/start")
    def start() -> str:
        @copy_current_request_context
        def late() -> None:
            go.wait(10)

        @copy_current_request_context
        def later() -> None:
            changed.wait(10)
            worker.waffle.update({"SITENAME": "New"})

        threads[:] = [threading.Thread(target=task) for task in (late, later)]
        for thread in threads:
            thread.start()
        return "ok"

    @worker.app.get("/next")
    def next_() -> str:
        # Each takes out of the environment, which is this request's now, whose it is.
        for event, thread in zip((go, changed), threads, strict=True):
            event.set()
            thread.join()
        other.update(LIMIT=7)
        seen = [worker.waffle.conf["LIMIT"], worker.app.config["SITENAME"]]
        worker.waffle.update({"LIMIT": 8})
        return str([*seen, worker.waffle.conf["LIMIT"], worker.app.config["LIMIT"]])

    environ: dict[str, Any] = {}
    served(worker, environ, "/start", **constant)
    assert served(worker, environ, "/next", **constant) == "[10, 'Shop', 8, 8]"


def test_thread_that_outlives_its_request_leaves_no_ticket_behind(make_worker: MakeWorker) -> None:
    worker = make_worker()
    go = threading.Event()
    threads: list[threading.Thread] = []
    seen: list[int] = []

    @worker.app.get("/start")
    def start() -> str:
        @copy_current_request_context
        def late() -> None:
            go.wait(10)
            seen.append(worker.waffle.conf["LIMIT"])
            go.clear()
            go.wait(10)

        threads.append(threading.Thread(target=late))
        threads[0].start()
        return "ok"

    environ: dict[str, Any] = {}
    served(worker, environ, "/start")
    environ.clear()
    go.set()
    wait_until(lambda: seen)
    try:
        assert worker.manager.between_requests()
    finally:
        go.set()
        threads[0].join()


def test_change_by_a_thread_of_the_app_waits_for_the_request_that_runs(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()

    @worker.app.get("/")
    def view() -> str:
        in_a_thread(worker.waffle.update, {"LIMIT": 7})
        return f"{worker.app.config['LIMIT']} {worker.waffle.conf['LIMIT']}"

    assert worker.app.test_client().get("/").text == "10 10"
    assert worker.get("LIMIT") == 7


@pytest.mark.parametrize("read", [WaffleConf.refresh, WaffleConf.history, _update_conf])
def test_reading_by_a_thread_of_the_app_waits_for_the_request_that_runs(
    make_worker: MakeWorker, read: Callable[[WaffleConf[Any]], object]
) -> None:
    worker, other = make_worker(), make_worker()

    @worker.app.get("/")
    def view() -> str:
        other.update(LIMIT=7)
        in_a_thread(read, worker.waffle)
        return f"{worker.app.config['LIMIT']} {worker.waffle.conf['LIMIT']}"

    assert worker.app.test_client().get("/").text == "10 10"
    assert worker.get("LIMIT") == 7


@pytest.mark.parametrize(
    ("read", "seen"),
    [(WaffleConf.refresh, "7 7"), (_update_conf, "7 7"), (WaffleConf.history, "10 10")],
)
def test_request_that_reads_the_store_itself_has_one_revision_all_the_same(
    make_worker: MakeWorker, read: Callable[[WaffleConf[Any]], object], seen: str
) -> None:
    worker, other = make_worker(), make_worker()

    @worker.app.get("/")
    def view() -> str:
        before = worker.waffle.conf["LIMIT"]
        other.update(LIMIT=7)
        read(worker.waffle)
        return f"{before}: {worker.app.config['LIMIT']} {worker.waffle.conf['LIMIT']}"

    assert worker.app.test_client().get("/").text == f"10: {seen}"
    assert worker.get("LIMIT") == 7


def test_request_within_a_request_leaves_the_outer_ones_settings(
    make_worker: MakeWorker,
) -> None:
    worker, other = make_worker(), make_worker()

    @worker.app.get("/inner")
    def inner() -> str:
        worker.waffle.update({"SITENAME": "New"})
        return f"{worker.waffle.conf['LIMIT']} {worker.waffle.conf['SITENAME']}"

    @worker.app.get("/outer")
    def outer() -> str:
        other.update(LIMIT=7)
        within = worker.app.test_client().get("/inner").text
        return f"{within} / {worker.app.config['LIMIT']} {worker.app.config['SITENAME']}"

    assert worker.app.test_client().get("/outer").text == "7 New / 10 Shop"
    assert (worker.get("LIMIT"), worker.get("SITENAME")) == (7, "New")


def test_app_context_outside_of_a_request_finds_current_values_in_config(
    make_worker: MakeWorker,
) -> None:
    worker, other = make_worker(), make_worker()
    for number in (7, 8):
        other.update(LIMIT=number)
        with worker.app.app_context():
            assert worker.app.config["LIMIT"] == number


def test_app_context_outside_of_a_request_costs_little_while_a_ticket_holds(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_ticket_clock(monkeypatch.setattr, Clock())
    # No watcher, whose first turn may end the ticket.
    make = make_worker(WAFFLE_MULTIPROC=False).app.app_context
    first = calls_of(make)
    assert calls_of(make) <= calls_of(Flask("plain").app_context) + 5 < first


def test_app_context_does_not_change_config_under_a_request(make_worker: MakeWorker) -> None:
    worker, other = make_worker(), make_worker()

    @worker.app.get("/")
    def view() -> str:
        other.update(LIMIT=7)

        def task() -> None:
            with worker.app.app_context():
                seen.append(worker.waffle.conf["LIMIT"])

        seen: list[int] = []
        in_a_thread(task)
        return f"{worker.app.config['LIMIT']} {seen}"

    assert worker.app.test_client().get("/").text == "10 [7]"


class Cancelled(BaseException):
    """As gevent.Timeout and asyncio.CancelledError are."""


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Cancelled, ValueError])
def test_whatever_a_receiver_raises_the_change_is_announced_and_returned(
    make_worker: MakeWorker, error: type[BaseException]
) -> None:
    worker, other = make_worker(), make_worker()
    other.get("LIMIT")

    def fail(sender: object, **change: object) -> None:
        raise error

    with setting_changed.connected_to(fail, worker.app):
        assert worker.waffle.update({"LIMIT": 7}) == 1
    assert other.get("LIMIT") == 7
    assert worker.state.engine.manager.page.words()[:8] == worker.manager.page.words()[8:16]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
@pytest.mark.parametrize("signal", [setting_changed, settings_updated])
def test_child_that_a_receiver_forks_ends_by_its_exit(
    make_worker: MakeWorker, signal: Signal
) -> None:
    worker = make_worker()
    parent = os.getpid()
    children: list[int] = []

    def fork(sender: object, **change: object) -> None:
        children.append(os.fork())
        if not children[-1]:
            sys.exit(7)

    with signal.connected_to(fork, worker.app):
        try:
            worker.waffle.update({"LIMIT": 7})
        except SystemExit as exc:
            if os.getpid() == parent:
                raise
            os._exit(exc.code)  # type: ignore[arg-type]  # as given above
        finally:
            if os.getpid() != parent:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
    assert worker.get("LIMIT") == 7


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_child_that_is_forked_while_the_store_is_down_serves_what_its_parent_did(
    make_worker: MakeWorker,
) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)
    worker.waffle.update({"LIMIT": 7, "TOKEN": "not the default"})
    store.error = StoreUnavailable("it is down")
    child = os.fork()
    if child == 0:
        try:
            served = [worker.get(name) for name in ("LIMIT", "TOKEN")]
            os._exit(served != [7, "not the default"])
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_receiver_runs_when_every_other_process_sees_the_change_already(
    make_worker: MakeWorker,
) -> None:
    worker, other = make_worker(), make_worker()
    other.get("LIMIT")
    seen: list[object] = []

    def ask(sender: object, **change: object) -> None:
        seen.append(other.get("LIMIT"))

    with setting_changed.connected_to(ask, worker.app):
        worker.waffle.update({"LIMIT": 7})
    assert seen == [7]


def test_ticket_of_a_look_outside_of_requests_keeps_config_while_a_request_shares_it(
    rig: Rig,
) -> None:
    rig.begin_request()
    rig.manager.current()
    rig.manager.current()
    held = rig.manager.tickets.shared
    rig.changed_elsewhere(LIMIT=7)
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 10
    del held
    rig.manager.follow(None)
    assert rig.config["LIMIT"] == 7


def test_conflict_names_no_revision_that_others_do_not_see_yet(rig: Rig) -> None:
    rig.begin_request()
    rig.begin_request()
    before = rig.manager.page.identity
    rig.changed_silently(LIMIT=7)
    with pytest.raises(RevisionConflict):
        rig.manager.changes.commit({"LIMIT": "8"}, author=None, reason=None, expected_revision=0)
    # The process that noticed it has put it on the page: every process of the host looks again.
    assert rig.manager.page.identity != before
    assert rig.manager.snapshot["LIMIT"] == 7


def test_store_that_pushes_the_apps_context_within_a_read_waits_for_nothing(rig: Rig) -> None:
    # As Flask-SQLAlchemy's needs it: app_context() asks for current settings.
    seen: list[object] = []
    rig.memory.during_read = lambda: seen.append(rig.manager.current()["LIMIT"])
    rig.changed_elsewhere(LIMIT=7)
    assert rig.begin_request()["LIMIT"] == 7
    assert seen
    assert "store" not in rig.manager.health.failing()
    assert rig.manager.reading.failures == 0


@pytest.fixture
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("path", ["/missing", "/forbidden"])
def test_change_in_a_test_reaches_config_after_a_request_that_failed(
    make_worker: MakeWorker, path: str
) -> None:
    worker = make_worker()
    worker.app.add_url_rule("/forbidden", view_func=lambda: abort(403))
    assert worker.app.test_client().get(path).status_code in (403, 404)
    worker.waffle.update({"LIMIT": 7})
    assert worker.app.config["LIMIT"] == 7


def test_change_beside_requests_of_a_server_collects_no_garbage(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()

    @worker.app.get("/")
    def view() -> str:
        in_a_thread(worker.waffle.update, {"LIMIT": 7})
        return f"{worker.app.config['LIMIT']} {collected}"

    collected: list[int] = []
    monkeypatch.setattr(gc, "collect", collected.append)
    assert served(worker, {}, "/") == "10 []"


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize(
    "call",
    [
        lambda worker: worker.waffle.revision,
        lambda worker: worker.waffle.refresh(),
        lambda worker: worker.waffle.update({"LIMIT": 7}),
        lambda worker: worker.waffle.require(f"9-{0:016x}-{1:016x}"),
    ],
    ids=["look", "refresh", "update", "require"],
)
@pytest.mark.parametrize("error", [StoreUnavailable, StoreLost])
def test_request_that_met_a_store_in_trouble_is_over_when_it_ends(
    make_worker: MakeWorker, call: Callable[[Worker], object], error: type[StoreError]
) -> None:
    store = MemoryStore()
    worker = make_worker(store=store)

    @worker.app.get("/call")
    def view() -> str:
        with contextlib.suppress(StoreError):
            call(worker)
        return "ok"

    def request() -> None:
        # As a test client leaves it: no one closes the body.
        assert worker.app.test_client().get("/call").text == "ok"

    worker.get("LIMIT")
    store.error = error("it does not answer")
    # So that the request looks.
    worker.manager.tickets.revoke()
    worker.manager.reading.ask()
    request()
    assert worker.manager.reading.failing
    store.error = None
    assert worker.manager.between_requests()
