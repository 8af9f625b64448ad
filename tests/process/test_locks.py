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
from types import SimpleNamespace

import pytest

from uwsgi_waffle.forking import HAS_OFD as OFD
from uwsgi_waffle.process import locks
from uwsgi_waffle.process.locks import is_locked, lock_shared, unlock

from ..support.children import child_that
from ..support.descriptors import open_descriptors
from ..support.rig import Clock

#: whether it is found here

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork()


@pytest.fixture(params=["OFD", "flock"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of locks, wherever the tests run."""
    if request.param == "OFD" and not OFD:
        pytest.skip("this platform has no OFD locks")
    monkeypatch.setattr(locks, "HAS_OFD", request.param == "OFD")
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


def test_question_needs_no_lock_where_the_system_has_a_question() -> None:
    assert OFD or sys.platform != "linux" or sys.maxsize < 2**32


def _locks_byte(path: Path, offset: int) -> int:
    descriptor = os.open(path, os.O_RDWR)
    assert locks.lock_byte(descriptor, offset)
    return descriptor


def test_lock_on_one_byte_is_seen_by_others_and_on_no_other_byte(path: Path, asking: int) -> None:
    with child_that(lambda: _locks_byte(path, 1)) as kill:
        assert [locks.is_byte_locked(asking, offset) for offset in range(3)] == [False, True, False]
        assert [locks.lock_byte(asking, offset) for offset in range(3)] == [True, False, True]
        kill()
        assert not locks.is_byte_locked(asking, 1)
    for offset in (0, 2):
        locks.unlock_byte(asking, offset)


def test_who_asks_or_gives_back_one_byte_keeps_its_lock_on_the_others(
    path: Path, asking: int, kind: str
) -> None:
    for offset in (1, 2, 3):
        assert locks.lock_byte(asking, offset)
    assert not locks.is_byte_locked(asking, 0)
    locks.unlock_byte(asking, 2)
    if kind == "OFD":
        assert [locks.is_byte_locked(asking, offset) for offset in (1, 2, 3)] == [True, False, True]

    def locked() -> None:
        other = os.open(path, os.O_RDWR)
        assert [locks.is_byte_locked(other, offset) for offset in (1, 2, 3)] == [True, False, True]
        os.close(other)

    with child_that(locked):
        pass


@pytest.mark.parametrize("what", ["a second name", "no file"])
def test_file_that_is_refused_is_closed(path: Path, what: str) -> None:
    if what == "no file":
        path.unlink()
        os.mkfifo(path)
    else:
        os.link(path, path.with_name("other"))
    with pytest.raises(OSError, match="second name"):
        locks.open_shared(path)
    assert not open_descriptors(path)


def test_who_just_asks_is_waited_for_a_tenth_of_a_second_at_most(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "flock":
        pytest.skip("the question about an OFD lock takes none itself")
    clock = Clock()
    began = clock.now
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=clock, sleep=clock.advance))
    asks = os.open(path, os.O_RDWR)
    fcntl.flock(asks, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError):
        lock_shared(path)
    os.close(asks)
    assert clock.now - began == pytest.approx(0.1, abs=0.001)
