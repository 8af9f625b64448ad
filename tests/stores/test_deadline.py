"""Calls of a driver are over when their time is, and leave nothing to a forked child."""

from __future__ import annotations

import contextvars
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from uwsgi_waffle.forking import unseen_forks
from uwsgi_waffle.stores.sql import deadline
from uwsgi_waffle.stores.sql.deadline import Cut, cut_after, within
from uwsgi_waffle.testing import in_processes

LATER_S = 60.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def is_cut(peer: socket.socket) -> bool:
    peer.settimeout(30)
    return peer.recv(1) == b""


def timekeepers() -> int:
    return sum(thread.name == "waffle-timekeeper" for thread in threading.enumerate())


def test_call_that_takes_too_long_is_cut_and_says_so(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair

    def ask() -> None:
        with cut_after(ours, 0.02):
            if not ours.recv(1):
                raise OSError("the server closed the connection")

    with pytest.raises(TimeoutError, match="did not answer in time"):
        ask()


def test_sooner_time_is_kept_beside_a_later_one(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    other, _ = others = socket.socketpair()
    with others[0], others[1]:
        later = Cut(other, LATER_S)
        sooner = Cut(ours, 0.01)
        assert is_cut(theirs)
        assert (sooner.happened, later.happened) == (True, False)
        sooner.cancel()
        later.cancel()


def test_what_is_cancelled_is_left_alone_and_what_follows_is_cut(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    # So late that no busy machine cuts it before it is cancelled.
    cancelled = Cut(ours, 0.2)
    cancelled.cancel()
    other, peer = others = socket.socketpair()
    with others[0], others[1]:
        next_one = Cut(other, 0.2)
        assert is_cut(peer)
        next_one.cancel()
    ours.send(b"x")
    assert theirs.recv(1) == b"x"
    assert not cancelled.happened


def test_many_calls_take_one_thread_and_leave_nothing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for _ in range(200):
        with cut_after(ours, LATER_S):
            ours.send(b"x")
            theirs.recv(1)
    assert timekeepers() == 1


def test_forked_child_has_a_thread_of_its_own(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with cut_after(pair[0], LATER_S):

        def ask(number: int) -> bool:
            ours, theirs = socket.socketpair()
            cut = Cut(ours, 0.01)
            return is_cut(theirs) and cut.happened

        assert in_processes(2, ask) == [True, True]


# Waits in C for what does not come, as psycopg2 does: no greenlet of the thread runs meanwhile.
_WAITS_IN_C = """
import sys
if sys.argv[1] == "early":
    from gevent import monkey
    monkey.patch_all()
import _socket, os
from uwsgi_waffle.forking import unseen_forks
from uwsgi_waffle.stores.sql.deadline import cut_after
if sys.argv[1] == "late":
    from gevent import monkey
    monkey.patch_all()
unseen_forks.expect(len(sys.argv) > 2)
for _ in range(3):
    ours, theirs = _socket.socketpair()
    ours.settimeout(30)
    try:
        with cut_after(ours, 60), cut_after(ours, 0.05):
            assert ours.recv(1) == b""
            raise OSError("the server closed the connection")
    except TimeoutError as exc:
        print(exc)
if unseen_forks:
    assert len(os.listdir("/proc/self/task")) == 1
"""


@pytest.mark.parametrize("later", [[], ["forked"]])
@pytest.mark.parametrize("patched", ["early", "late"])
def test_call_that_waits_in_c_under_gevent_is_cut(patched: str, later: list[str]) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WAITS_IN_C, patched, *later],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "it did not answer in time\n" * 3, done.stderr


def test_connection_without_a_descriptor_has_no_bound() -> None:
    with cut_after(object(), 0.0):
        pass
    cut = Cut(object(), 0.0)
    cut.fire()
    cut.cancel()
    assert not cut.happened


def callers() -> int:
    return sum(thread.name == "waffle-connect" for thread in threading.enumerate())


def nothing(_: object) -> None:
    """Discard what came too late."""


def test_child_that_is_forked_after_a_call_meets_no_lock_of_the_calls_thread() -> None:
    parent = os.getpid()
    lock = threading.Lock()
    begun = threading.Event()

    class Cleaned:
        """As a library in C has it, that forgets a thread when it ends."""

        def __del__(self) -> None:
            # A child's interpreter drops what it inherits of the parent's threads.
            if os.getpid() != parent:
                return
            with lock:
                begun.set()
                # So long that the fork happens within.
                forked.wait(30)

    forked = threading.Event()
    of_thread = threading.local()

    def connect() -> str:
        of_thread.cleaned = Cleaned()
        return "connected"

    assert within(LATER_S, connect, nothing) == "connected"
    # Set only if the thread ends.
    begun.wait(0.2)
    try:
        assert in_processes(1, lambda _: lock.acquire(timeout=5)) == [True]
        assert in_processes(2, lambda _: within(LATER_S, connect, nothing)) == ["connected"] * 2
    finally:
        forked.set()


def test_calls_one_after_another_take_one_thread() -> None:
    within(LATER_S, threading.get_ident, nothing)
    before = callers()
    for _ in range(100):
        within(LATER_S, threading.get_ident, nothing)
    assert callers() == before


def test_calls_at_once_take_a_thread_each() -> None:
    together = threading.Barrier(3)

    def call() -> None:
        within(LATER_S, lambda: together.wait(30), nothing)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not together.broken
    assert not any(thread.is_alive() for thread in threads)


def test_call_that_takes_too_long_leaves_its_thread_for_the_next_ones() -> None:
    go_on = threading.Event()
    discarded: list[str] = []
    done = threading.Event()

    def late() -> str:
        go_on.wait(30)
        return "late"

    def discard(result: str) -> None:
        discarded.append(result)
        done.set()

    with pytest.raises(TimeoutError, match="did not connect in time"):
        within(0.01, late, discard)
    assert within(LATER_S, lambda: "next", nothing) == "next"
    go_on.set()
    assert done.wait(30)
    assert discarded == ["late"]
    assert within(LATER_S, lambda: "last", nothing) == "last"


def test_call_sees_the_variables_of_its_caller_alone() -> None:
    of_context: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    for name in ("first", "second"):
        of_context.set(name)
        assert within(LATER_S, of_context.get, nothing) == name
    assert contextvars.Context().run(within, LATER_S, of_context.get, nothing) == "none"


@pytest.fixture(autouse=True)
def worker() -> None:
    """A process that is not forked without a word to Python."""
    unseen_forks.expect(False)


@pytest.fixture
def master() -> Iterator[None]:
    """A process that uWSGI forks later, without a word to Python."""
    unseen_forks.expect(True)
    yield
    unseen_forks.expect(False)


def threads() -> list[str]:
    return os.listdir("/proc/self/task")


@pytest.mark.usefixtures("master")
def test_no_thread_is_left_where_a_fork_comes_unseen(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with cut_after(pair[0], LATER_S):
        pass
    within(LATER_S, threading.get_ident, nothing)
    before = threads()
    assert (timekeepers(), callers()) == (0, 0)
    for _ in range(20):
        with cut_after(pair[0], LATER_S), cut_after(pair[1], LATER_S):
            assert within(LATER_S, lambda: "connected", nothing) == "connected"
        assert threads() == before
    with pytest.raises(ZeroDivisionError):
        within(LATER_S, lambda: 1 // 0, nothing)
    assert threads() == before


@pytest.mark.usefixtures("master")
def test_what_is_left_to_be_cut_keeps_its_thread_where_a_fork_comes_unseen(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    # The later one is first over.
    with cut_after(theirs, LATER_S):
        cut = Cut(ours, 0.05)
    assert is_cut(theirs)
    assert cut.happened
    cut.cancel()
    assert timekeepers() == 0


def test_thread_that_can_not_be_had_is_asked_for_again(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    keeper = deadline._Timekeeper()
    monkeypatch.setattr(deadline, "_timekeepers", SimpleNamespace(get=lambda: keeper))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: 1 // 0)
        descriptors = os.listdir("/proc/self/fd")
        with pytest.raises(ZeroDivisionError):
            Cut(ours, LATER_S)
        assert os.listdir("/proc/self/fd") == descriptors
    cut = Cut(ours, 0.01)
    assert is_cut(theirs)
    cut.cancel()
    keeper.end()
