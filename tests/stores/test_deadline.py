"""A connection is cut when its time is over, not before, by one thread for all of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from uwsgi_waffle.stores.sql.deadline import Cut, cut_after
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


def test_connection_without_a_descriptor_has_no_bound() -> None:
    with cut_after(object(), 0.0):
        pass
    cut = Cut(object(), 0.0)
    cut.fire()
    cut.cancel()
    assert not cut.happened
