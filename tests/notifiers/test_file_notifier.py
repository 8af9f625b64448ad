"""The watch file: its signature differs after each announcement, whatever happens to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uwsgi_waffle import NotifierError
from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers import file as module
from uwsgi_waffle.notifiers.file import FileNotifier, Mark

from ..support.children import child_that
from ..support.descriptors import open_descriptors
from ..support.notifier_contract import NotifierContract
from ..support.rig import ordinary_user


class TestFileNotifier(NotifierContract):
    @pytest.fixture
    def make(self, path: Path) -> Callable[[], Notifier]:
        return lambda: FileNotifier(path, poll_interval_s=0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "waffle.watch"


@pytest.fixture
def notifier(path: Path) -> FileNotifier:
    notifier = FileNotifier(path, poll_interval_s=0.005)
    assert notifier.ensure()
    return notifier


def test_cat_tells_the_revision(notifier: FileNotifier, path: Path) -> None:
    notifier.announce(12345)
    notifier.announce(7)
    assert path.read_text().splitlines()[0] == "7"
    assert notifier.mark().revision == 7


def test_each_announcement_sets_a_later_mtime(notifier: FileNotifier, path: Path) -> None:
    times = []
    for revision in range(200):
        notifier.announce(revision)
        times.append(path.stat().st_mtime_ns)
    assert times == sorted(set(times))


def test_mtime_an_hour_ahead_still_grows(notifier: FileNotifier, path: Path) -> None:
    ahead_ns = time.time_ns() + 3600 * 10**9
    os.utime(path, ns=(ahead_ns, ahead_ns))
    for _ in range(3):
        before = path.stat().st_mtime_ns
        notifier.announce(1)
        assert path.stat().st_mtime_ns > before


def test_clock_set_back_does_no_harm(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier.announce(1)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(time, "time_ns", lambda: before - 10**15)
    notifier.announce(1)
    assert path.stat().st_mtime_ns > before


@pytest.mark.parametrize("step_ns", [100, 1_000_000, 1_000_000_000, 2_000_000_000])
def test_file_system_with_coarse_times_gets_a_later_mtime_too(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    utime = os.utime

    def coarse(target: Any, *, ns: tuple[int, int]) -> None:
        utime(target, ns=(ns[0] // step_ns * step_ns, ns[1] // step_ns * step_ns))

    monkeypatch.setattr(os, "utime", coarse)
    times = []
    touch = notifier.mark().touch
    for revision in range(5):
        notifier.announce(revision)
        times.append(path.stat().st_mtime_ns)
        assert notifier.mark() == FileNotifier(path).mark()
        assert notifier.mark().touch == touch
    assert times == sorted(set(times))


def test_announcement_is_told_from_a_touch_by_hand(notifier: FileNotifier, path: Path) -> None:
    def touch() -> int | None:
        # The one that announced remembers what it wrote; any other reads it.
        mark = FileNotifier(path).mark()
        assert notifier.mark() == mark
        return mark.touch

    first = touch()
    notifier.announce(7)
    assert touch() == first
    path.touch()
    second = touch()
    assert second == path.stat().st_mtime_ns != first
    notifier.announce(7)
    assert touch() == second


@pytest.mark.parametrize(
    ("text", "revision"),
    [
        (b"", None),
        (b"12\n", 12),
        (b"12", 12),
        (b"-1\n", None),
        (b"1_0\n", None),
        (b"\xff\xfe", None),
        (b"nonsense 7", None),
        ("٣".encode(), None),
        (b"9" * 5000, int(b"9" * 64)),
    ],
)
def test_whatever_is_in_the_file_can_be_read(
    notifier: FileNotifier, path: Path, text: bytes, revision: int | None
) -> None:
    path.write_bytes(text)
    assert notifier.mark().revision == revision
    notifier.announce(3)
    assert notifier.mark().revision == 3


def test_file_is_made_with_mode_0660_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        FileNotifier(path).ensure()
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o660


def test_existing_file_keeps_its_mode(path: Path) -> None:
    path.write_text("")
    path.chmod(0o600)
    assert not FileNotifier(path).ensure()
    assert path.stat().st_mode & 0o777 == 0o600


def test_deleted_file_is_made_anew_by_the_next_announcement(
    notifier: FileNotifier, path: Path
) -> None:
    notifier.announce(1)
    path.unlink()
    assert notifier.signature() is None
    assert notifier.mark() == Mark(None, None, None)
    notifier.announce(2)
    assert notifier.mark().revision == 2


def test_wait_tells_of_deletion_replacement_truncation_and_touch(
    notifier: FileNotifier, path: Path
) -> None:
    notifier.announce(5)
    assert notifier.wait(1.0) == Notice(5)
    path.unlink()
    assert notifier.wait(1.0) == Notice(None)
    path.write_text("6\n")
    assert notifier.wait(1.0) == Notice(6)
    path.write_text("")
    assert notifier.wait(1.0) == Notice(None)
    os.utime(path, ns=(1, 1))
    assert notifier.wait(1.0) == Notice(None)
    assert notifier.wait(0.01) is None


def make_link(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.symlink_to("target")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("target")


@pytest.mark.parametrize("make", [make_link, make_dangling_link])
def test_symbolic_link_is_never_followed(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    notifier = FileNotifier(path)
    with pytest.raises(NotifierError, match=r"symbolic link.*WAFFLE_WATCHER_FILE"):
        notifier.ensure()
    with pytest.raises(NotifierError, match="symbolic link"):
        notifier.announce(1)
    assert notifier.mark().revision is None
    target = path.with_name("target")
    assert not target.exists() or target.read_text() == "precious"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_pipe_or_directory_in_its_place_is_an_error_and_hangs_nobody(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    notifier = FileNotifier(path)
    with pytest.raises(NotifierError, match=r"not a regular file.*WAFFLE_WATCHER_FILE"):
        notifier.ensure()
    with pytest.raises(NotifierError, match="not a regular file"):
        notifier.announce(1)
    assert notifier.mark().revision is None


def test_missing_folder_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    notifier = FileNotifier(tmp_path / "nowhere" / "waffle.watch")
    for announce in (notifier.ensure, lambda: notifier.announce(1)):
        with pytest.raises(NotifierError, match=r"No such file.*WAFFLE_WATCHER_FILE"):
            announce()
    assert notifier.signature() is None


def test_file_that_is_not_writable_is_an_error_that_names_the_key(open_folder: Path) -> None:
    notifier = FileNotifier(open_folder / "waffle.watch")
    with ordinary_user():
        notifier.ensure()
        notifier.path.chmod(0o440)
        with pytest.raises(NotifierError, match=r"Permission denied.*WAFFLE_WATCHER_FILE"):
            notifier.announce(1)


@pytest.mark.parametrize(
    ("number", "reason", "fix"),
    [
        (errno.ENOSPC, "No space left on device", "make room on its disk"),
        (errno.EMFILE, "Too many open files", "raise the limit of open files of this process"),
        (errno.EROFS, "Read-only file system", "make it and its folder writable"),
    ],
)
def test_error_says_what_helps_against_its_reason(
    notifier: FileNotifier,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    reason: str,
    fix: str,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number), os.fspath(path))

    for verb, call in (("created", notifier.ensure), ("written", lambda: notifier.announce(1))):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(NotifierError) as caught:
                call()
        assert f"the watch file {path} can't be {verb} ({reason}): {fix}" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_user_who_may_write_but_does_not_own_the_file_can_announce(open_folder: Path) -> None:
    notifier = FileNotifier(open_folder / "waffle.watch")
    notifier.announce(1)
    notifier.path.chmod(0o666)
    with ordinary_user():
        signatures = {notifier.signature()}
        for revision in range(2, 7):
            notifier.announce(revision)
            signatures.add(notifier.signature())
            assert notifier.mark().revision == revision
    assert len(signatures) == 6


def test_other_owner_can_announce_also_with_an_mtime_ahead_and_a_clock_set_back(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_ns = time.time_ns() + 3600 * 10**9
    os.utime(path, ns=(ahead_ns, ahead_ns))
    utime = os.utime

    def only_now(target: Any, ns: tuple[int, int] | None = None) -> None:
        if ns is not None:
            raise PermissionError(1, "Operation not permitted")
        utime(target)

    monkeypatch.setattr(os, "utime", only_now)
    before = notifier.signature()
    notifier.announce(7)
    assert notifier.signature() != before
    assert notifier.mark().revision == 7


@pytest.mark.slow
def test_lock_held_by_another_process_is_a_bounded_error(
    notifier: FileNotifier, path: Path
) -> None:
    # Another open file is as good as another process; one that only reads may hold it shared.
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        started = time.monotonic()
        with pytest.raises(NotifierError, match=r"can't be written.*WAFFLE_WATCHER_FILE"):
            notifier.announce(1)
        assert time.monotonic() - started < 3.0
    notifier.announce(1)


def test_lock_is_left_free(notifier: FileNotifier, path: Path) -> None:
    notifier.announce(1)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_child_that_is_forked_within_an_announcement_keeps_no_lock(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier.announce(1)
    with contextlib.ExitStack() as stack:
        written = module._write_later

        def fork_and_write(*arguments: Any) -> Any:
            stack.enter_context(child_that(lambda: None))
            return written(*arguments)

        monkeypatch.setattr(module, "_write_later", fork_and_write)
        notifier.announce(2)
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_file_replaced_while_waiting_for_the_lock_is_announced_in_the_new_one(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileNotifier._lock

    def replaced(self: FileNotifier, *args: Any) -> None:
        monkeypatch.undo()
        lock(self, *args)
        other = path.with_suffix(".new")
        other.write_text("")
        other.replace(path)

    monkeypatch.setattr(FileNotifier, "_lock", replaced)
    notifier.announce(7)
    assert notifier.mark().revision == 7


def test_machine_that_stands_still_while_the_file_is_made_delays_the_announcement_only(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink(missing_ok=True)
    # Each look at the clock is later than all of the time for the lock.
    times = itertools.count(0.0, 2.0)
    clock = {**vars(time), "monotonic": lambda: next(times)}
    monkeypatch.setattr(module, "time", SimpleNamespace(**clock))
    notifier.announce(7)
    monkeypatch.undo()
    assert notifier.mark().revision == 7


@pytest.mark.slow
def test_file_that_seems_replaced_for_ever_is_a_bounded_error(
    notifier: FileNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a file system whose lstat and fstat tell different inode numbers.
    monkeypatch.setattr(notifier, "signature", lambda: (-5, 0, 0))
    started = time.monotonic()
    with pytest.raises(NotifierError, match="again and again"):
        notifier.announce(1)
    assert time.monotonic() - started < 5.0


def test_no_descriptor_is_left_open(notifier: FileNotifier, path: Path) -> None:
    for _ in range(5):
        notifier.announce(1)
        notifier.mark()
        notifier.ensure()
    path.unlink()
    path.mkdir()
    for _ in range(5):
        notifier.mark()
        with pytest.raises(NotifierError):
            notifier.announce(1)
    if sys.platform == "linux":
        assert not open_descriptors(path)


def test_repr_names_the_file(notifier: FileNotifier, path: Path) -> None:
    assert repr(notifier) == f"<FileNotifier {path}>"


def test_hard_link_is_refused_and_its_other_name_is_left_alone(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    os.link(target, path)
    notifier = FileNotifier(path)
    with pytest.raises(NotifierError, match="hard link"):
        notifier.ensure()
    with pytest.raises(NotifierError, match="hard link"):
        notifier.announce(7)
    assert target.read_text() == "precious"
    target.unlink()
    notifier.announce(8)
    assert notifier.mark().revision == 8


# --- its bounds, by a clock of the test -----------------------------------------------------------


class Time:
    """Stands for the module: who sleeps advances it, and a look at it takes a little."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        self.now += 0.0001
        return self.now

    def time_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_lock_is_waited_for_by_sleeping_for_one_second(
    notifier: FileNotifier, path: Path, clock: Time
) -> None:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(NotifierError):
            notifier.announce(1)
    assert 1.0 <= clock.now - 1000.0 < 1.1
    assert sum(clock.pauses) > 0.5


def test_other_owner_waits_for_the_next_tick_of_the_clock_and_no_longer_than_a_second(
    notifier: FileNotifier, path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier.announce(1)
    utime, put = os.utime, module._put
    ticks: list[int] = []

    def put_within_a_tick(descriptor: int, text: bytes, size: int) -> None:
        before = os.fstat(descriptor)
        put(descriptor, text, size)
        utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))

    def only_now(target: Any, ns: tuple[int, int] | None = None) -> None:
        if ns is not None:
            raise PermissionError(1, "Operation not permitted")
        ticks.append(1)
        if len(ticks) == 3:
            utime(target)

    monkeypatch.setattr(module, "_put", put_within_a_tick)
    monkeypatch.setattr(os, "utime", only_now)
    before = notifier.signature()
    notifier.announce(2)
    assert notifier.signature() != before
    assert len(ticks) == len(clock.pauses) == 3
    began = clock.now
    with pytest.raises(NotifierError, match="mtime can't be changed"):
        notifier.announce(3)
    assert 1.0 <= clock.now - began < 1.1


# --- what it writes and reads ---------------------------------------------------------------------


def test_announcement_is_written_once_and_not_read_again(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    pwrite = os.pwrite

    def counted(descriptor: int, text: bytes, offset: int) -> int:
        writes.append(text)
        return pwrite(descriptor, text, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    notifier.announce(12345)
    notifier.announce(7)
    assert len(writes) == 2
    # Nothing of the longer one is left.
    assert path.read_bytes() == writes[1]
    monkeypatch.setattr(FileNotifier, "_opened", lambda *_: pytest.fail("it was opened"))
    assert notifier.mark().revision == 7


def test_thing_that_can_not_be_read_has_a_signature_all_the_same(path: Path) -> None:
    path.mkdir()
    notifier = FileNotifier(path)
    assert notifier.mark() == Mark(notifier.signature(), None, path.stat().st_mtime_ns)


def test_file_that_comes_within_a_look_is_seen_by_the_next(
    notifier: FileNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    FileNotifier(notifier.path).announce(7)
    with monkeypatch.context() as patch:
        patch.setattr(notifier, "signature", lambda: None)
        assert notifier.mark() == Mark(None, 7, None)
    assert notifier.mark().revision == 7


def test_file_removed_while_waiting_for_the_lock_is_announced_in_a_new_one(
    notifier: FileNotifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileNotifier._lock

    def removed(self: FileNotifier, *args: Any) -> None:
        monkeypatch.undo()
        lock(self, *args)
        path.unlink()

    monkeypatch.setattr(FileNotifier, "_lock", removed)
    notifier.announce(7)
    assert notifier.mark().revision == 7


def test_file_is_no_ear(notifier: FileNotifier) -> None:
    assert notifier.is_ear is False
