"""uWSGI as seen from a process, played by a fake module."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import click
import pytest
from flask import Flask
from flask.cli import ScriptInfo
from werkzeug.test import create_environ

from uwsgi_waffle import ConfigurationError, StoreUnavailable, WaffleConf, WaffleWarning
from uwsgi_waffle.forking import unseen_forks
from uwsgi_waffle.runtime import (
    Runtime,
    at_exit,
    detect,
    in_flask_command,
    new_threads_may_call,
    on_postfork,
)

from .support.descriptors import open_descriptors
from .support.rig import DEADLINE_S, MemoryStore, Worker, wait_until


class FakeUwsgi(ModuleType):
    """What the real module offers of what we ask."""

    def __init__(self, **facts: Any) -> None:
        super().__init__("uwsgi")
        self.facts = {"worker": 0, "mule": 0, "master": 4711, **facts}
        self.has_threads = self.facts.get("has_threads", 1)
        self.loop = self.facts.get("loop")
        self.opt: dict[str, object] = self.facts.get("opt", {})
        self.post_fork_hook: Callable[[], object] | None = None
        if "spooler" in self.facts:
            self.i_am_the_spooler = lambda: self.facts["spooler"]

    def worker_id(self) -> int:
        return int(self.facts["worker"])

    def mule_id(self) -> int:
        return int(self.facts["mule"])

    def masterpid(self) -> int:
        return int(self.facts["master"])


class FakeDecorators(ModuleType):
    """``uwsgidecorators``, as uWSGI 2.0.31 ships it: importing it takes the hook over."""

    def __init__(self, uwsgi: FakeUwsgi) -> None:
        super().__init__("uwsgidecorators")
        self.chain: list[Callable[[], object]] = []
        uwsgi.post_fork_hook = self.postfork_chain_hook = self._run

    def postfork(self, function: Callable[[], object]) -> None:
        self.chain.append(function)

    def _run(self) -> None:
        for function in self.chain:
            function()


class Importer:
    """Makes ``uwsgidecorators`` when it is imported first, as an import does."""

    def __init__(self, make: Callable[[], ModuleType]) -> None:
        self._make = make

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        if name != "uwsgidecorators":
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: object) -> ModuleType:
        return self._make()

    def exec_module(self, module: ModuleType) -> None:
        pass


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeUwsgi]]:
    """Plays a uWSGI; without decorators unless :func:`decorate` brings them."""

    def play(**facts: Any) -> FakeUwsgi:
        uwsgi = FakeUwsgi(**facts)
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        monkeypatch.setitem(sys.modules, "uwsgidecorators", None)
        return uwsgi

    yield play
    unseen_forks.expect(False)


@pytest.fixture
def decorate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], ModuleType]], None]:
    """Lets the next import of ``uwsgidecorators`` call a function."""

    def decorate(make: Callable[[], ModuleType]) -> None:
        monkeypatch.delitem(sys.modules, "uwsgidecorators", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Importer(make), *sys.meta_path])

    return decorate


# --- detection --------------------------------------------------------------------------------


def test_no_uwsgi_is_an_ordinary_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", None)
    assert detect() == Runtime(False, 0, True, False, False, False, False, 0, "")


def test_package_that_only_has_the_name_is_not_taken_for_uwsgi(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", ModuleType("uwsgi"))
    assert detect() == Runtime()
    with pytest.raises(RuntimeError, match="no uWSGI"):
        on_postfork(lambda: None)


@pytest.mark.parametrize(
    ("facts", "runtime"),
    [
        ({"worker": 2}, Runtime(True, 2, True, True, False, False, True)),
        ({"worker": 1, "master": 0}, Runtime(True, 1, True, False, False, False, True)),
        ({}, Runtime(True, 0, True, True, False, False, True)),
        ({"mule": 1}, Runtime(True, 0, True, True, True, False, True)),
        ({"spooler": True}, Runtime(True, 0, True, True, True, False, True)),
        ({"worker": 1, "spooler": False}, Runtime(True, 1, True, True, False, False, True)),
        ({"worker": 1, "has_threads": 0}, Runtime(True, 1, False, True, False, False, True)),
        (
            {"worker": 1, "opt": {"wsgi-env-behaviour": b"holy"}},
            Runtime(True, 1, True, True, False, False, False),
        ),
        (
            {"worker": 1, "opt": {"wsgi-env-behavior": b"holy", "threads": b"2"}},
            Runtime(True, 1, True, True, False, False, False),
        ),
        (
            {"worker": 1, "opt": {"wsgi-env-behaviour": b"cheat", "master": True}},
            Runtime(True, 1, True, True, False, False, True),
        ),
        ({"worker": 1, "loop": b"gevent"}, Runtime(True, 1, True, True, False, True, True)),
    ],
)
def test_mode_is_told_by_the_server(
    play: Callable[..., FakeUwsgi], facts: dict[str, Any], runtime: Runtime
) -> None:
    play(**facts)
    assert detect() == runtime


# --- the hook after the fork ------------------------------------------------------------------


def no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def call_hook(uwsgi: FakeUwsgi) -> None:
    assert uwsgi.post_fork_hook is not None
    uwsgi.post_fork_hook()


def test_hook_works_without_decorators(play: Callable[..., FakeUwsgi]) -> None:
    uwsgi = play()
    calls: list[str] = []
    on_postfork(lambda: calls.append("ours"))
    call_hook(uwsgi)
    assert calls == ["ours"]


def test_hook_set_before_is_still_called_without_decorators(
    play: Callable[..., FakeUwsgi],
) -> None:
    uwsgi = play()
    calls: list[str] = []
    uwsgi.post_fork_hook = lambda: calls.append("theirs")
    on_postfork(lambda: calls.append("ours"))
    on_postfork(lambda: calls.append("second"))
    call_hook(uwsgi)
    assert calls == ["theirs", "ours", "second"]


def test_hook_set_before_is_still_called_when_the_decorators_overwrite_it(
    play: Callable[..., FakeUwsgi], decorate: Callable[..., None]
) -> None:
    uwsgi = play()
    calls: list[str] = []
    uwsgi.post_fork_hook = lambda: calls.append("theirs")
    decorate(lambda: FakeDecorators(uwsgi))
    on_postfork(lambda: calls.append("ours"))
    on_postfork(lambda: calls.append("second"))
    call_hook(uwsgi)
    assert calls == ["theirs", "ours", "second"]


def test_hook_joins_decorators_that_were_imported_before(
    play: Callable[..., FakeUwsgi], monkeypatch: pytest.MonkeyPatch
) -> None:
    uwsgi = play()
    calls: list[str] = []
    decorators = FakeDecorators(uwsgi)
    monkeypatch.setitem(sys.modules, "uwsgidecorators", decorators)
    decorators.postfork(lambda: calls.append("theirs"))
    on_postfork(lambda: calls.append("ours"))
    call_hook(uwsgi)
    assert calls == ["theirs", "ours"]


def test_hook_set_after_the_decorators_were_imported_does_not_hide_ours(
    play: Callable[..., FakeUwsgi], monkeypatch: pytest.MonkeyPatch
) -> None:
    uwsgi = play()
    calls: list[str] = []
    decorators = FakeDecorators(uwsgi)
    monkeypatch.setitem(sys.modules, "uwsgidecorators", decorators)
    decorators.postfork(lambda: calls.append("decorated"))

    def theirs() -> None:
        calls.append("theirs")
        decorators.postfork_chain_hook()

    uwsgi.post_fork_hook = theirs
    on_postfork(lambda: calls.append("ours"))
    call_hook(uwsgi)
    assert calls == ["theirs", "decorated", "ours"]


def test_decorators_that_raise_without_a_master_are_done_without(
    play: Callable[..., FakeUwsgi], decorate: Callable[..., None]
) -> None:
    uwsgi = play(master=0)
    calls: list[str] = []
    uwsgi.post_fork_hook = lambda: calls.append("theirs")

    def no_master() -> ModuleType:
        raise Exception("you have to enable the uWSGI master process to use this module")

    decorate(no_master)
    on_postfork(lambda: calls.append("ours"))
    call_hook(uwsgi)
    assert calls == ["theirs", "ours"]


# --- what the extension makes of it -----------------------------------------------------------


def test_threads_off_are_an_error_that_names_the_option(
    play: Callable[..., FakeUwsgi], folder: Path
) -> None:
    play(worker=1, has_threads=0)
    with pytest.raises(ConfigurationError, match=r"enable-threads = true.*WAFFLE_MULTIPROC"):
        Worker(folder)


def test_threads_off_are_allowed_without_a_watcher(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    play(worker=1, has_threads=0)
    worker = make_worker(WAFFLE_MULTIPROC=False)
    worker.waffle.update({"LIMIT": 7})
    assert worker.get("LIMIT") == 7
    assert not worker.waffle.status().watcher_alive


def test_lazy_worker_starts_its_watcher_at_once(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play(worker=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        worker = make_worker()
    status = worker.waffle.status()
    assert (status.watcher_alive, status.watcher_pid, status.worker_id) == (True, os.getpid(), 2)
    assert uwsgi.post_fork_hook is None


def test_lazy_worker_counts_to_those_of_its_host_before_its_first_request(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    play(worker=2)
    worker = make_worker()
    # As `flask waffle workers --wait --expect 1` does.
    assert worker.state.wait(0, timeout_s=DEADLINE_S, expected=1).served == 1


def test_lazy_worker_without_multiproc_starts_none(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    play(worker=1)
    worker = make_worker(WAFFLE_MULTIPROC=False)
    worker.get("LIMIT")
    assert not worker.waffle.status().watcher_alive


def test_prefork_is_warned_of_and_starts_nothing_before_the_fork(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    with pytest.warns(WaffleWarning, match="lazy-apps = true"):
        worker = make_worker()
    assert not worker.waffle.status().watcher_alive
    uwsgi.facts["worker"] = 1
    call_hook(uwsgi)
    assert worker.waffle.status().watcher_alive


def test_prefork_worker_reads_what_changed_since_the_master_loaded(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    with pytest.warns(WaffleWarning):
        worker = make_worker()
    with pytest.warns(WaffleWarning):
        other = make_worker()
    other.waffle.update({"SITENAME": "New"})
    uwsgi.facts["worker"] = 1
    call_hook(uwsgi)
    assert worker.app.config["SITENAME"] == "New"


def test_prefork_worker_is_known_while_it_waits_for_its_first_read(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    store = MemoryStore()
    with pytest.warns(WaffleWarning):
        worker = make_worker(store=store)
    uwsgi.facts["worker"] = 1
    known: list[list[int]] = []
    living = worker.manager.slots.living
    store.during_read = lambda: known.append([state.worker for state in living()])
    call_hook(uwsgi)
    assert known[0] == [1]


def test_master_leaves_its_workers_no_descriptor_of_the_store(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker], folder: Path
) -> None:
    play()
    with pytest.warns(WaffleWarning):
        make_worker()
    assert (folder / "waffle.db").exists()
    assert not open_descriptors(folder / "waffle.db")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_forked_worker_whose_store_is_down_serves_what_the_master_read(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    store = MemoryStore()
    store.write({"LIMIT": "7"})
    with pytest.warns(WaffleWarning):
        worker = make_worker(store=store)
    child = os.fork()
    if child == 0:
        try:
            store.error = StoreUnavailable("down")
            uwsgi.facts["worker"] = 1
            call_hook(uwsgi)
            status = worker.waffle.status()
            assert (worker.get("LIMIT"), status.revision, status.source) == (7, 1, "master")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_watcher_that_was_stopped_stays_off_whatever_is_served(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    play(worker=1)
    worker = make_worker()
    worker.waffle.stop()
    assert worker.get("LIMIT") == 10
    with worker.app.app_context():
        assert worker.waffle.conf["LIMIT"] == 10
    status = worker.waffle.status()
    assert (status.watcher_alive, status.state) == (False, "OFF")


def test_prefork_is_an_error_where_lazy_apps_is_required(
    play: Callable[..., FakeUwsgi], folder: Path
) -> None:
    play()
    with pytest.raises(ConfigurationError, match=r"lazy-apps = true.*WAFFLE_REQUIRE_LAZY_APPS"):
        Worker(folder, WAFFLE_REQUIRE_LAZY_APPS=True)


@pytest.mark.parametrize("facts", [{"mule": 1}, {"spooler": True}])
def test_mule_and_spooler_start_a_watcher_only_when_told(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker], facts: dict[str, Any]
) -> None:
    uwsgi = play(**facts)
    worker = make_worker()
    assert uwsgi.post_fork_hook is None
    assert not worker.waffle.status().watcher_alive
    worker.waffle.start()
    assert worker.waffle.status().watcher_alive
    # From then on wait() knows of it.
    assert worker.state.wait(0, timeout_s=DEADLINE_S, expected=1).served == 1


def test_hook_that_runs_in_a_mule_starts_nothing(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    with pytest.warns(WaffleWarning):
        worker = make_worker()
    uwsgi.facts["mule"] = 1
    call_hook(uwsgi)
    assert not worker.waffle.status().watcher_alive


def test_worker_whose_hook_never_ran_starts_its_watcher_at_the_first_request(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    with pytest.warns(WaffleWarning):
        worker = make_worker()
    uwsgi.facts["worker"] = 1
    worker.get("LIMIT")
    assert worker.waffle.status().watcher_alive
    threads = [thread for thread in threading.enumerate() if thread.name == "uwsgi_waffle"]
    worker.get("LIMIT")
    call_hook(uwsgi)
    assert threads == [t for t in threading.enumerate() if t.name == "uwsgi_waffle"]
    assert len(threads) == 1


def test_thread_that_can_not_start_costs_no_request(
    play: Callable[..., FakeUwsgi],
    make_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uwsgi = play()
    with pytest.warns(WaffleWarning):
        worker = make_worker()
    with pytest.warns(WaffleWarning):
        other = make_worker(WAFFLE_MULTIPROC=False)
    uwsgi.facts["worker"] = 1

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        other.waffle.update({"LIMIT": 7})
        assert worker.get("LIMIT") == 7
        wait_until(lambda: worker.get("LIMIT") == 7 and "watcher" in worker.waffle.status().failing)
        status = worker.waffle.status()
        assert "can't start new thread" in status.failing["watcher"]
        assert not status.watcher_alive
        assert not worker.manager.watched
    wait_until(lambda: worker.get("LIMIT") == 7 and worker.waffle.status().watcher_alive)
    wait_until(lambda: "watcher" not in worker.waffle.status().failing)


def test_thread_that_can_not_start_breaks_neither_hook_nor_app(
    play: Callable[..., FakeUwsgi],
    make_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uwsgi = play()
    with pytest.warns(WaffleWarning):
        forked = make_worker()
    uwsgi.facts["worker"] = 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        call_hook(uwsgi)
        loaded = make_worker()
    for worker in (forked, loaded):
        assert "watcher" in worker.waffle.status().failing
        assert worker.get("LIMIT") == 10
        assert worker.waffle.status().watcher_alive


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_forked_child_does_not_take_its_parents_watcher_for_its_own(
    make_worker: Callable[..., Worker],
) -> None:
    worker = make_worker()
    worker.waffle.start()
    child = os.fork()
    if child == 0:
        own = worker.waffle.status()
        worker.waffle.update({"LIMIT": 7})
        os._exit(0 if not own.watcher_alive and worker.get("LIMIT") == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker.waffle.status().watcher_alive
    assert worker.get("LIMIT") == 7


def test_no_app_starts_threads_outside_of_uwsgi_unless_told(folder: Path) -> None:
    app = Flask("shop", instance_path=str(folder))
    waffle = WaffleConf(app)
    app.test_client().get("/")
    assert not waffle.status().watcher_alive
    assert waffle.status().worker_id == 0


@pytest.mark.parametrize(
    ("module", "server", "in_worker"),
    [
        ("gunicorn.arbiter", "gunicorn", False),
        ("granian.server", "granian", True),
        ("celery.apps.worker", "celery", False),
    ],
)
def test_other_servers_are_known_by_what_they_import_before_the_app(
    monkeypatch: pytest.MonkeyPatch, module: str, server: str, in_worker: bool
) -> None:
    assert not detect().has_processes
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    found = detect()
    assert (found.other, found.has_processes, found.is_in_worker) == (server, True, in_worker)
    assert not found.under_uwsgi


@pytest.mark.filterwarnings("ignore:the app is loaded before:UserWarning")
@pytest.mark.parametrize(
    ("server", "at_once"), [("gunicorn", False), ("uwsgi", False), ("unknown", True)]
)
def test_what_an_app_does_while_it_is_loaded_starts_no_watcher_in_a_master_that_forks_later(
    monkeypatch: pytest.MonkeyPatch,
    play: Callable[..., FakeUwsgi],
    make_worker: Callable[..., Worker],
    server: str,
    at_once: bool,
) -> None:
    uwsgi = play() if server == "uwsgi" else None
    if server == "gunicorn":
        monkeypatch.setitem(sys.modules, "gunicorn.arbiter", ModuleType("gunicorn.arbiter"))
    worker = make_worker(WAFFLE_MULTIPROC=True)
    worker.update(LIMIT=7)
    with worker.app.app_context():
        assert worker.app.config["LIMIT"] == 7
    # As to warm up its templates.
    assert worker.get("LIMIT") == 7
    assert worker.waffle.status().watcher_alive is at_once
    assert len(worker.manager.slots.living()) == at_once
    if uwsgi is not None:
        uwsgi.facts["worker"] = 1
    # A request of the server's own, which shares no ticket with that.
    worker.update(LIMIT=8)
    list(worker.app(create_environ("/read/LIMIT"), lambda *_: lambda _: None))
    assert worker.waffle.status().watcher_alive
    assert len(worker.manager.slots.living()) == 1


@pytest.mark.filterwarnings("ignore:the app is loaded before:UserWarning")
def test_start_before_uwsgi_forks_warns_and_starts_nothing(
    play: Callable[..., FakeUwsgi], make_worker: Callable[..., Worker]
) -> None:
    uwsgi = play()
    worker = make_worker()
    assert unseen_forks
    with pytest.warns(WaffleWarning, match=r"start\(\) does nothing before uWSGI forks"):
        worker.waffle.start()
    assert not worker.waffle.status().watcher_alive
    # Without a master this process becomes a worker.
    uwsgi.facts["worker"] = 1
    worker.waffle.start()
    assert worker.waffle.status().watcher_alive
    assert not unseen_forks


@pytest.mark.parametrize(
    ("facts", "may_be_forked"), [({}, True), ({"mule": 1}, False), ({"worker": 2}, False)]
)
def test_fork_is_unseen_in_what_is_neither_worker_nor_helper_of_uwsgi(
    play: Callable[..., FakeUwsgi], facts: dict[str, Any], may_be_forked: bool
) -> None:
    play(**facts)
    assert detect().may_be_forked is may_be_forked
    assert not Runtime().may_be_forked


def test_server_that_says_little_is_asked_for_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = ModuleType("uwsgi")
    for name in ("worker_id", "mule_id", "masterpid"):
        setattr(bare, name, lambda: 0)
    monkeypatch.setitem(sys.modules, "uwsgi", bare)
    assert detect() == Runtime(True, 0, False, False, False, False, True, 0, "")


def test_worker_of_uwsgi_forks_no_more_and_its_master_does() -> None:
    workers = [Runtime(under_uwsgi=True, worker_id=number) for number in range(3)]
    assert [where.is_in_worker for where in workers] == [False, True, True]
    assert all(where.has_processes for where in workers)
    shown: Any = workers[0]
    with pytest.raises(AttributeError):
        shown.worker_id = 1


def test_command_of_flask_is_known_by_its_context() -> None:
    command = click.Command("settings")
    assert not in_flask_command()
    with click.Context(command, obj=ScriptInfo()):
        assert in_flask_command()
        with click.Context(command, parent=click.get_current_context(), obj="another"):
            assert in_flask_command()
    with click.Context(command, obj="another tool's"):
        assert not in_flask_command()
    with click.Context(command):
        assert not in_flask_command()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork()
def test_function_is_called_at_the_exit_of_a_child_of_multiprocessing(tmp_path: Path) -> None:
    # As each worker of granian is.
    child = multiprocessing.get_context("fork").Process(
        target=lambda: at_exit((tmp_path / "left").touch)
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert (tmp_path / "left").exists()


def test_function_is_called_when_celery_says_that_a_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, receivers = list[str](), list[Callable[..., None]]()

    def connect(receiver: Callable[..., None], *, weak: bool) -> None:
        assert not weak
        receivers.append(receiver)

    signals = SimpleNamespace(worker_process_shutdown=SimpleNamespace(connect=connect))
    monkeypatch.setitem(sys.modules, "celery.signals", cast(Any, signals))
    monkeypatch.setattr("atexit.register", lambda _: None)
    at_exit(lambda: calls.append("left"))
    (receiver,) = receivers
    receiver(sender=None, pid=1, exitcode=0)
    assert calls == ["left"]


@pytest.mark.parametrize(
    ("loop", "patched", "may"),
    [
        (None, None, True),
        (b"gevent", None, False),
        (b"gevent", False, False),
        (b"gevent", True, True),
    ],
)
def test_new_thread_may_call_the_server_unless_it_is_a_native_one_beside_greenlets(
    play: Callable[..., FakeUwsgi],
    monkeypatch: pytest.MonkeyPatch,
    loop: bytes | None,
    patched: bool | None,
    may: bool,
) -> None:
    play(worker=1, loop=loop)
    monkeypatch.delitem(sys.modules, "gevent.monkey", raising=False)
    if patched is not None:
        monkey = SimpleNamespace(is_module_patched=lambda name: patched and name == "threading")
        monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    assert new_threads_may_call() is may
