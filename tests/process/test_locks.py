"""Locks of a page: shared by writers, asked about by anybody, and never waited for."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.process import locks
from uwsgi_waffle.process.locks import is_locked, lock_shared, unlock

from ..support.children import child_that
from ..support.descriptors import open_descriptors

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork()


@pytest.fixture(params=["OFD", "flock"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of locks, wherever the tests run."""
    if request.param == "OFD" and not locks._HAS_OFD:
        pytest.skip("this platform has no OFD locks")
    monkeypatch.setattr(locks, "_HAS_OFD", request.param == "OFD")
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "page"
    path.write_bytes(b"x")
    return path


@pytest.fixture
def asking(path: Path) -> Iterator[int]:
    """A descriptor that holds no lock itself, as each process has one of its page."""
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_lock_is_seen_until_it_is_released(path: Path, asking: int) -> None:
    assert not is_locked(asking)
    lock = lock_shared(path)
    assert is_locked(asking)
    unlock(lock)
    assert not is_locked(asking)


def test_many_hold_it_and_the_last_one_releases_it(path: Path, asking: int) -> None:
    first, second = lock_shared(path), lock_shared(path)
    unlock(first)
    assert is_locked(asking)
    unlock(second)
    assert not is_locked(asking)


def test_question_takes_nothing_away_and_leaves_nothing_behind(path: Path, asking: int) -> None:
    lock = lock_shared(path)
    assert is_locked(asking)
    assert is_locked(asking)
    unlock(lock)
    assert not is_locked(asking)
    unlock(lock_shared(path))


def test_lock_of_another_process_is_seen_and_ends_with_it(path: Path, asking: int) -> None:
    with child_that(lambda: lock_shared(path)) as kill:
        assert is_locked(asking)
        kill()
        assert not is_locked(asking)


def test_child_that_inherited_the_descriptor_keeps_no_released_lock(
    path: Path, asking: int
) -> None:
    lock = lock_shared(path)
    # Started by other code, by a way that no hook of ours sees.
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], pass_fds=[lock], stdin=subprocess.PIPE
    )
    try:
        assert is_locked(asking)
        unlock(lock)
        assert not is_locked(asking)
    finally:
        child.communicate(b"\n")


def test_forked_child_keeps_no_lock_of_a_parent_that_was_killed(path: Path, asking: int) -> None:
    reading, writing = os.pipe()

    def lock_and_fork() -> None:
        lock_shared(path)
        if os.fork() == 0:
            # Itself, once fork() has returned in it: only then has it closed what it inherited.
            os.write(writing, b"%d\n" % os.getpid())
            while True:
                signal.pause()

    with child_that(lock_and_fork) as kill, open(reading, "rb") as pids:
        os.close(writing)
        grandchild = int(pids.readline())
        try:
            assert is_locked(asking)
            kill()
            assert not is_locked(asking)
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_forked_child_can_lock_while_its_parent_does(path: Path, asking: int) -> None:
    lock = lock_shared(path)
    with child_that(lambda: lock_shared(path)):
        unlock(lock)
        assert is_locked(asking)


def test_lock_that_is_refused_leaves_no_descriptor_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_LONGEST_S", 0.0)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        lock_shared(path)
    assert not open_descriptors(path)
    assert not locks._held


def test_symbolic_link_is_not_followed(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        lock_shared(link)


def test_flock_waits_out_who_just_asks(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "flock":
        pytest.skip("the question about an OFD lock takes none itself")
    asks = os.open(path, os.O_RDWR)
    fcntl.flock(asks, fcntl.LOCK_EX)
    # The asker is done when the writer tries for the second time.
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(asks, fcntl.LOCK_UN))
    unlock(lock_shared(path))
    os.close(asks)
