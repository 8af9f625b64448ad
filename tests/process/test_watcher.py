"""The watcher: it follows the notices, and nothing ends it but stop()."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uwsgi_waffle import NotifierError, State, StoreUnavailable
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process.engine import Engine
from uwsgi_waffle.process.watcher import Watcher
from uwsgi_waffle.runtime import Runtime

from ..support.rig import MemoryStore, Rig, StubNotifier, wait_until

POLL_S = 0.01
_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from flask import Flask
from uwsgi_waffle import WaffleConf

app = Flask("shop", instance_path=sys.argv[1])
app.config["WAFFLE_CONFS"] = {"LIMIT": {"desc": "Limit", "default": 10}}
waffle = WaffleConf(app)
waffle.start()
watcher = waffle.state.engine._watcher
for _ in range(200):
    with gevent.Timeout(0.0001, False):
        while watcher._thread.is_alive():
            gevent.sleep(0)
print(waffle.status().watcher_alive)
waffle.start()
print(waffle.state.engine._watcher is watcher)
"""


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "uwsgi_waffle"]


@pytest.fixture
def notifier() -> StubNotifier:
    return StubNotifier()


@pytest.fixture
def watcher(rig: Rig, notifier: StubNotifier) -> Iterator[Watcher]:
    watcher = Watcher(rig.manager, notifier, poll_interval_s=POLL_S)
    watcher.start()
    yield watcher
    watcher.stop()


@pytest.fixture
def engine(rig: Rig, notifier: StubNotifier) -> Iterator[Engine]:
    engine = Engine(rig.manager, StubNotifier, poll_interval_s=POLL_S)
    yield engine
    engine.stop()


def test_watcher_is_a_daemon_thread(watcher: Watcher) -> None:
    (thread,) = own_threads()
    assert thread.daemon
    assert watcher.alive
    assert watcher.pid == os.getpid()


def test_watcher_follows_a_notice(rig: Rig, notifier: StubNotifier, watcher: Watcher) -> None:
    wait_until(lambda: rig.memory.calls["read_since"])
    rig.changed_silently(LIMIT=7)
    notifier.put(Notice(1))
    wait_until(lambda: rig.config["LIMIT"] == 7)


def test_watcher_follows_the_watch_file_without_any_notice(rig: Rig, watcher: Watcher) -> None:
    rig.changed_elsewhere(LIMIT=7)
    wait_until(lambda: rig.config["LIMIT"] == 7)


def test_watcher_with_the_watch_file_follows_too(rig: Rig) -> None:
    def follows(value: int) -> bool:
        # The pause between two reads that only notices asked for goes by; a resync is far away.
        rig.clock.advance(0.001)
        return bool(rig.config["LIMIT"] == value)

    notifier = FileNotifier(rig.watch_file.path, poll_interval_s=POLL_S)
    watcher = Watcher(rig.manager, notifier, poll_interval_s=POLL_S)
    watcher.start()
    try:
        for number in range(1, 6):
            rig.changed_elsewhere(LIMIT=number)
            wait_until(lambda: follows(number))  # noqa: B023
        rig.changed_silently(LIMIT=6)
        rig.watch_file.path.unlink()
        wait_until(lambda: follows(6))
        assert rig.watch_file.path.exists()
    finally:
        watcher.stop()


def test_watcher_waits_in_bounded_calls_only(
    rig: Rig, notifier: StubNotifier, watcher: Watcher
) -> None:
    wait_until(lambda: len(notifier.waits) > 3)
    assert set(notifier.waits) == {POLL_S}


@pytest.mark.parametrize(
    "error", [NotifierError("redis is away"), RuntimeError("a bug"), RecursionError(), OSError(5)]
)
def test_watcher_survives_whatever_the_notifier_raises(
    rig: Rig, notifier: StubNotifier, watcher: Watcher, error: Exception
) -> None:
    wait_until(lambda: rig.memory.calls["read_since"])
    notifier.put(error, error)
    wait_until(lambda: rig.manager.health.failing())
    rig.changed_silently(LIMIT=7)
    notifier.put(Notice(1))
    wait_until(lambda: rig.config["LIMIT"] == 7)
    wait_until(lambda: rig.manager.health.state == "VALID")
    assert watcher.alive


def test_silence_of_a_notifier_is_no_sign_that_it_works_again(
    rig: Rig, notifier: StubNotifier, watcher: Watcher
) -> None:
    notifier.put(NotifierError("redis is away"))
    wait_until(lambda: "stub" in rig.manager.health.failing())
    waits = len(notifier.waits)
    wait_until(lambda: len(notifier.waits) > waits + 3)
    assert list(rig.manager.health.failing()) == ["stub"]
    notifier.put(Notice(None))
    wait_until(lambda: not rig.manager.health.failing())


def test_watcher_survives_a_bug_in_following_and_does_not_spin(
    rig: Rig,
    watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[float] = []

    def broken(notice: Notice | None) -> None:
        calls.append(time.monotonic())
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(rig.manager, "follow", broken)
        wait_until(lambda: len(calls) >= 3)
    assert calls[2] - calls[0] >= 0.1  # 0.05 to 0.1 s, then 0.1 to 0.2 s
    assert "a bug" in caplog.text
    rig.changed_elsewhere(LIMIT=7)
    wait_until(lambda: rig.config["LIMIT"] == 7)
    wait_until(lambda: "watcher" not in rig.manager.health.failing())


def test_watcher_outlives_an_outage_of_the_store(rig: Rig, watcher: Watcher) -> None:
    wait_until(lambda: rig.manager.health.state == "VALID")
    rig.memory.error = StoreUnavailable("down")
    rig.clock.advance(10.0)
    wait_until(lambda: rig.manager.health.state == "INTERRUPTED")
    rig.memory.error = None
    rig.changed_silently(LIMIT=7)
    rig.clock.advance(2.0)
    wait_until(lambda: rig.config["LIMIT"] == 7)


def test_stop_ends_the_thread_at_once(rig: Rig, notifier: StubNotifier) -> None:
    watcher = Watcher(rig.manager, notifier, poll_interval_s=60.0)
    watcher.start()
    wait_until(lambda: notifier.waits)
    started = time.monotonic()
    watcher.stop()
    assert time.monotonic() - started < 2.0
    assert not watcher.alive
    assert notifier.closed
    assert not rig.manager.watched


def test_stop_is_bounded_when_the_thread_hangs(rig: Rig, watcher: Watcher) -> None:
    hanging, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        go_on.wait(10)

    rig.memory.during_read = hang
    rig.changed_elsewhere(LIMIT=7)
    assert hanging.wait(10)
    started = time.monotonic()
    watcher.stop(0.05)
    assert time.monotonic() - started < 2.0
    # As its successor says at its start: what ends late may not take that back.
    rig.manager.watch(on=True)
    go_on.set()
    wait_until(lambda: not watcher.alive)
    assert rig.manager.watched


def test_stop_within_the_watcher_itself_does_not_wait_for_itself(
    rig: Rig, watcher: Watcher
) -> None:
    rig.memory.during_read = watcher.stop
    rig.changed_elsewhere(LIMIT=7)
    wait_until(lambda: not watcher.alive)
    assert rig.manager.health.failing() == {}


def test_stop_before_the_start_of_the_loop_is_not_lost(rig: Rig, notifier: StubNotifier) -> None:
    watcher = Watcher(rig.manager, notifier, poll_interval_s=POLL_S)
    watcher.stop()
    watcher.start()
    wait_until(lambda: not watcher.alive)
    assert notifier.waits == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_forked_child_takes_no_thread_of_its_parent_for_alive(watcher: Watcher) -> None:
    child = os.fork()
    if child == 0:
        os._exit(1 if watcher.alive else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert watcher.alive


# --- the engine -------------------------------------------------------------------------------


@pytest.mark.slow
def test_timeout_of_gevent_leaves_a_watcher_that_runs_alive(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # No second one was started.
    assert done.stdout == "True\nTrue\n", done.stderr


def test_engine_starts_one_watcher_whoever_calls(engine: Engine) -> None:
    threads = [threading.Thread(target=engine.start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(own_threads()) == 1


def test_engine_tells_its_state(engine: Engine, rig: Rig) -> None:
    status = engine.status()
    assert (status.state, status.watcher_alive, status.watcher_pid) == (
        State.INITIALIZING,
        False,
        None,
    )
    assert status.notices == "none"
    engine.start()
    wait_until(lambda: engine.status().state is State.VALID)
    status = engine.status()
    assert (status.watcher_alive, status.watcher_pid, status.notices) == (True, os.getpid(), "stub")
    assert (status.revision, status.pid, status.staleness_s) == (0, os.getpid(), 0.0)
    assert (status.last_error, status.failing, status.faults) == (None, {}, {})
    engine.stop()
    assert engine.status().state is State.OFF
    assert not engine.status().watcher_alive


def test_engine_starts_again_after_a_stop(engine: Engine, rig: Rig) -> None:
    stopped = [engine.stopped]
    engine.start()
    engine.stop()
    engine.stop()
    assert own_threads() == []
    stopped.append(engine.stopped)
    engine.start()
    assert [*stopped, engine.stopped] == [False, True, False]
    rig.changed_elsewhere(LIMIT=7)
    wait_until(lambda: rig.config["LIMIT"] == 7)


def test_status_asks_neither_store_nor_file(
    engine: Engine, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object) -> None:
        raise AssertionError("status() must read memory only")

    for method in ("signature", "mark"):
        monkeypatch.setattr(rig.watch_file, method, forbidden)
    monkeypatch.setattr(MemoryStore, "read_since", forbidden)
    assert engine.status().revision == 0


def test_watchers_of_several_apps_do_not_mix(tmp_path: Path) -> None:
    rigs = []
    watchers: list[Watcher] = []
    make: Callable[[Path], Rig] = Rig
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rigs.append(make(tmp_path / name))
        watchers.append(Watcher(rigs[-1].manager, StubNotifier(), poll_interval_s=POLL_S))
        watchers[-1].start()
    try:
        rigs[0].changed_elsewhere(LIMIT=7)
        wait_until(lambda: rigs[0].config["LIMIT"] == 7)
        assert rigs[1].config["LIMIT"] == 10
    finally:
        for watcher in watchers:
            watcher.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_requests_do_not_rely_on_a_watcher_that_was_ended(rig: Rig) -> None:
    class Ending(StubNotifier):
        def wait(self, timeout_s: float) -> Notice | None:
            # As a greenlet that is killed: it is no Exception.
            raise SystemExit

    watcher = Watcher(rig.manager, Ending(), poll_interval_s=POLL_S)
    watcher.start()
    wait_until(lambda: not watcher.alive and not rig.manager.watched)
    watcher.stop()


# --- its turns ----------------------------------------------------------------------------------


class Chore:
    """A task that notes its calls, and fails if it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: Exception | None = None

    def turn(self) -> None:
        self.calls.append("turn")
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        self.calls.append("end")


class Another(Chore):
    """One whose failures have their own name."""


def test_tasks_have_their_turns_and_their_end_and_harm_nothing(rig: Rig) -> None:
    first, second = Chore(), Another()
    engine = Engine(
        rig.manager, StubNotifier, poll_interval_s=POLL_S, make_tasks=lambda engine: [first]
    )
    # Nobody is there to do it.
    engine.add_task(lambda engine: second)
    engine.start()
    engine.add_task(lambda engine: second)
    wait_until(lambda: "turn" in first.calls and "turn" in second.calls)
    first.error = RuntimeError("a broken task")
    wait_until(lambda: rig.manager.health.failing() == {"Chore": "a broken task"})
    assert rig.manager.health.state == "VALID"
    del second.calls[:]
    wait_until(lambda: second.calls)
    first.error = None
    wait_until(lambda: rig.manager.health.failing() == {})
    engine.stop()
    for chore in (first, second):
        assert chore.calls.count("end") == 1
        assert chore.calls[-1] == "end"
    # One that has ended does nothing more.
    engine.add_task(lambda engine: pytest.fail("it was made"))


def test_engine_that_was_started_again_is_not_off(engine: Engine) -> None:
    engine.start()
    engine.stop()
    engine.start()
    wait_until(lambda: engine.status().state is State.VALID)
    assert engine.status().ear is False


def test_worker_learns_its_number_when_it_has_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Runtime(under_uwsgi=True)
    monkeypatch.setattr("uwsgi_waffle.process.engine.detect", lambda: where)
    engine = Engine(rig.manager, StubNotifier, poll_interval_s=POLL_S)
    numbers = [engine.status().worker_id]
    where = Runtime(under_uwsgi=True, worker_id=3)
    numbers.append(engine.status().worker_id)
    assert numbers == [0, 3]


def test_process_counts_as_watched_from_the_start_and_while_its_watcher_turns(rig: Rig) -> None:
    class Blocked(StubNotifier):
        """Waits until it is closed, for however long it was asked to."""

        def wait(self, timeout_s: float) -> Notice | None:
            self._closed.wait(20.0)
            return None

    watcher = Watcher(rig.manager, Blocked(), poll_interval_s=20.0)
    watcher.start()
    watched = [rig.manager.watched]
    watcher.stop()
    assert [*watched, rig.manager.watched] == [True, False]
    turning = Watcher(rig.manager, StubNotifier(), poll_interval_s=POLL_S)
    turning.start()
    try:
        rig.clock.advance(3600.0)
        wait_until(lambda: rig.manager.watched)
    finally:
        turning.stop()


def test_stop_waits_at_most_two_seconds_for_a_thread_that_hangs(
    rig: Rig, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float | None] = []
    join = threading.Thread.join

    def noted(self: threading.Thread, timeout: float | None = None) -> None:
        waited.append(timeout)
        join(self, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", noted)
        watcher.stop()
    assert waited == [2.0]


def test_watcher_turns_again_when_the_manager_asks_for_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[float | None] = [0.003, -0.5, None]
    monkeypatch.setattr(rig.manager, "follow", lambda _: answers.pop(0) if answers else None)
    notifier = StubNotifier()
    watcher = Watcher(rig.manager, notifier, poll_interval_s=POLL_S)
    watcher.start()
    wait_until(lambda: len(notifier.waits) > 3)
    watcher.stop()
    assert notifier.waits[:4] == [POLL_S, 0.003, 0.0, POLL_S]


def test_pauses_after_bugs_grow_and_begin_again_after_a_good_turn(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    watcher = Watcher(rig.manager, StubNotifier(), poll_interval_s=0.0)
    pauses: list[float] = []
    turns = iter("bbbb.b")

    def follow(_: object) -> None:
        turn = next(turns, "")
        if not turn:
            watcher._stopping.set()
        elif turn == "b":
            raise RuntimeError("a bug")

    def wait(timeout_s: float) -> bool:
        pauses.append(timeout_s)
        return False

    monkeypatch.setattr(rig.manager, "follow", follow)
    monkeypatch.setattr(watcher._stopping, "wait", wait)
    watcher.start()
    wait_until(lambda: not watcher.alive)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 0.1])
    # Each time that it begins, with its traceback.
    assert sum("goes on after an unexpected error" in line for line in caplog.messages) == 2
    watcher.stop()
