"""The watcher: it follows the notices, and nothing ends it but stop()."""

from __future__ import annotations

import os
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

from ..support.rig import MemoryStore, Rig, StubNotifier, wait_until

POLL_S = 0.01


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
    go_on.set()
    wait_until(lambda: not watcher.alive)


def test_stop_within_the_watcher_itself_does_not_wait_for_itself(
    rig: Rig, watcher: Watcher
) -> None:
    rig.memory.during_read = watcher.stop
    rig.changed_elsewhere(LIMIT=7)
    wait_until(lambda: not watcher.alive)


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
    engine.start()
    engine.stop()
    engine.stop()
    assert own_threads() == []
    engine.start()
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
