"""A wait for the watch file ends when a file changes, not at the next look."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uwsgi_waffle.notifiers import Notice, Notifier, inotify
from uwsgi_waffle.notifiers.file import FileNotifier, Signature
from uwsgi_waffle.notifiers.inotify import Inotify
from uwsgi_waffle.testing.forked import in_processes

from ..support.descriptors import open_descriptors
from ..support.notifier_contract import NotifierContract

pytestmark = pytest.mark.skipif(
    not hasattr(os, "eventfd"), reason="this system, or this Python, has no eventfd"
)

#: no test gets as far as this by waiting for it
LONG_S = 60.0

_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import os, sys, threading
import gevent
from uwsgi_waffle.notifiers.file import FileNotifier

notifier = FileNotifier(sys.argv[1], poll_interval_s=60.0)
notifier.ensure()
while notifier.wait(0.05) is not None: pass
heard = []
# A greenlet, as the watcher is under early patching.
watcher = threading.Thread(target=lambda: heard.append(notifier.wait(60.0)))
watcher.start()
gevent.sleep(0.1)
assert not heard
notifier.announce(7)
watcher.join(30)
print(heard[0].revision)
closing = threading.Thread(target=notifier.wait, args=(60.0,))
closing.start()
gevent.sleep(0.1)
notifier.close()
closing.join(30)
print(closing.is_alive())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "waffle.watch"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "waffle.page"
    page.write_bytes(bytes(64))
    return page


@pytest.fixture
def notifier(path: Path, page: Path) -> Iterator[FileNotifier]:
    notifier = FileNotifier(path, poll_interval_s=LONG_S, also=[page])
    notifier.ensure()
    settle(notifier)
    yield notifier
    notifier.close()


def settle(notifier: FileNotifier) -> None:
    while notifier.wait(0.05) is not None:
        pass


def put(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text, 0)
    finally:
        os.close(descriptor)


def listening() -> set[str]:
    """Return the open descriptors of inotify and its wake-ups."""
    return open_descriptors("inotify") | open_descriptors("eventfd")


class Waiting:
    """A wait in its own thread."""

    def __init__(self, notifier: FileNotifier) -> None:
        self.heard: list[Notice | None] = []
        self._thread = threading.Thread(target=lambda: self.heard.append(notifier.wait(LONG_S)))
        self._thread.start()

    def end(self) -> Notice | None:
        self._thread.join(LONG_S / 2)
        assert self.heard, "the wait goes on"
        return self.heard[0]


@contextlib.contextmanager
def waiting(notifier: FileNotifier) -> Iterator[Waiting]:
    """Give a wait that is most likely under way; what a test says holds if it is not, too."""
    wait = Waiting(notifier)
    time.sleep(0.05)
    try:
        yield wait
    finally:
        if not wait.heard:
            notifier.close()
        wait._thread.join()


class TestFileNotifierByEvents(NotifierContract):
    @pytest.fixture
    def make(self, path: Path) -> Callable[[], Notifier]:
        return lambda: FileNotifier(path, poll_interval_s=LONG_S)


class TestFileNotifierByPolling(NotifierContract):
    @pytest.fixture
    def make(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Notifier]:
        monkeypatch.setattr(inotify, "Inotify", refused)
        return lambda: FileNotifier(path, poll_interval_s=0.005)


def refused(paths: object) -> Inotify:
    raise OSError(24, "Too many open files")


def test_announcement_ends_a_wait(notifier: FileNotifier) -> None:
    with waiting(notifier) as wait:
        notifier.announce(7)
        assert wait.end() == Notice(7)


@pytest.mark.parametrize("how", ["touched", "replaced", "removed", "made"])
def test_file_that_changes_otherwise_ends_a_wait(
    notifier: FileNotifier, path: Path, how: str
) -> None:
    if how == "made":
        path.unlink()
        settle(notifier)
    with waiting(notifier) as wait:
        if how == "touched":
            path.touch()
        elif how == "replaced":
            other = path.with_name("other")
            other.write_text("9\n")
            other.replace(path)
        elif how == "removed":
            path.unlink()
        else:
            path.write_text("9\n")
        assert wait.end() is not None


def test_file_that_was_replaced_is_watched_on(notifier: FileNotifier, path: Path) -> None:
    for revision in (7, 8):
        path.unlink()
        notifier.ensure()
        settle(notifier)
        with waiting(notifier) as wait:
            notifier.announce(revision)
            assert wait.end() == Notice(revision)


def test_write_to_another_file_ends_a_wait_without_a_notice(
    notifier: FileNotifier, page: Path
) -> None:
    with waiting(notifier) as wait:
        put(page, b"x")
        assert wait.end() is None
    # Also if it came between two waits; and it is taken once.
    put(page, b"y")
    with waiting(notifier) as wait:
        assert wait.end() is None
    began = time.monotonic()
    assert notifier.wait(0.2) is None
    assert time.monotonic() - began >= 0.2


def test_other_files_of_the_folder_wake_nobody(notifier: FileNotifier, path: Path) -> None:
    with waiting(notifier) as wait:
        for number in range(20):
            path.with_name("waffle.db-wal").write_text(str(number))
            path.with_name("waffle.watch.new").write_text(str(number))
        time.sleep(0.1)
        assert not wait.heard
        notifier.announce(7)
        assert wait.end() == Notice(7)


def test_reading_the_file_wakes_nobody(path: Path) -> None:
    path.write_text("7")
    events = Inotify([path])
    events.arm()
    assert path.read_text() == "7"
    assert list(path.parent.iterdir()) != []
    assert not events.wait(0.0)
    path.write_text("8")
    assert events.wait(10.0)


def test_many_changes_are_one_notice(notifier: FileNotifier, page: Path) -> None:
    for revision in range(1, 51):
        put(page, b"%d" % revision)
        notifier.announce(revision)
    assert notifier.wait(LONG_S) == Notice(50)
    # What is left of the events costs one look at most.
    notifier.wait(0.0)
    began = time.monotonic()
    notifier.wait(0.2)
    assert notifier.wait(0.2) is None
    assert time.monotonic() - began >= 0.2


def test_wait_goes_on_while_more_is_to_come(path: Path, page: Path) -> None:
    open_changes = [1]
    notifier = FileNotifier(
        path, poll_interval_s=LONG_S, also=[page], quiet=lambda: bool(open_changes)
    )
    notifier.ensure()
    notifier.wait(0.0)
    with waiting(notifier) as wait:
        put(page, b"opened")
        time.sleep(0.1)
        assert not wait.heard
        open_changes.clear()
        put(page, b"closed")
        assert wait.end() is None
    notifier.close()


def test_end_of_a_change_that_is_no_event_ends_a_wait(path: Path) -> None:
    looks: list[int] = []

    def quiet() -> bool:
        looks.append(1)
        return len(looks) < 5

    notifier = FileNotifier(path, poll_interval_s=LONG_S, quiet=quiet)
    notifier.ensure()
    notifier.wait(0.0)
    with waiting(notifier) as wait:
        FileNotifier(path).announce(7)
        assert wait.end() == Notice(7)
    assert len(looks) == 5
    notifier.close()


def test_writes_of_one_change_wake_a_process_once(
    path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_changes = [1]
    notifier = FileNotifier(
        path, poll_interval_s=LONG_S, also=[page], quiet=lambda: bool(open_changes)
    )
    notifier.ensure()
    notifier.wait(0.0)
    waits: list[float] = []
    wait = Inotify.wait

    def counted(self: Inotify, timeout_s: float) -> bool:
        waits.append(timeout_s)
        return wait(self, timeout_s)

    def go_on_with_the_change(_: float) -> None:
        for text in (b"identity", b"closed"):
            put(page, text)
        open_changes.clear()

    put(page, b"opened")
    monkeypatch.setattr(Inotify, "wait", counted)
    monkeypatch.setattr("uwsgi_waffle.notifiers.file.time.sleep", go_on_with_the_change)
    assert notifier.wait(LONG_S) is None
    assert len(waits) == 1
    notifier.close()


def test_change_that_stays_open_delays_a_wait_by_one_interval_at_most(
    path: Path, page: Path
) -> None:
    notifier = FileNotifier(path, poll_interval_s=0.2, also=[page], quiet=lambda: True)
    notifier.ensure()
    notifier.wait(0.0)
    put(page, b"opened")
    began = time.monotonic()
    notifier.wait(LONG_S)
    assert 0.2 <= time.monotonic() - began < LONG_S / 2
    notifier.close()


def test_lost_event_costs_one_interval_at_most(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inotify, "_add", lambda self, path, mask: -1)
    notifier = FileNotifier(path, poll_interval_s=0.1)
    notifier.ensure()
    settle(notifier)
    with waiting(notifier) as wait:
        notifier.announce(7)
        assert wait.end() == Notice(7)
    notifier.close()


def test_folder_that_was_replaced_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    folder.mkdir()
    notifier = FileNotifier(folder / "waffle.watch", poll_interval_s=0.1)
    notifier.ensure()
    settle(notifier)
    folder.rename(tmp_path / "aside")
    settle(notifier)
    folder.mkdir()
    notifier.ensure()
    settle(notifier)
    with waiting(notifier) as wait:
        notifier.announce(7)
        assert wait.end() == Notice(7)
    notifier.close()


def test_close_ends_a_wait_at_once_and_leaves_nothing_open(path: Path) -> None:
    before = listening()
    notifier = FileNotifier(path, poll_interval_s=LONG_S)
    notifier.ensure()
    settle(notifier)
    assert len(listening() - before) == 2
    with waiting(notifier) as wait:
        notifier.close()
        assert wait.end() is None
    gc.collect()
    assert listening() <= before


def test_wait_looks_once_and_then_sleeps(
    notifier: FileNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Signature | None] = []

    def look() -> Signature | None:
        looks.append(notifier._awaited)
        return looks[-1]

    monkeypatch.setattr(notifier, "signature", look)
    assert notifier.wait(0.5) is None
    assert len(looks) <= 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork() with threads
def test_child_takes_no_event_from_its_parent_and_has_its_own(notifier: FileNotifier) -> None:
    def listen(number: int) -> int | None:
        settle(notifier)
        with waiting(notifier) as wait:
            notifier.announce(5)
            notice = wait.end()
        notifier.close()
        return None if notice is None else notice.revision

    assert in_processes(1, listen) == [5]
    # That one is heard here, too; and the child's close ended nothing here.
    assert notifier.wait(LONG_S) == Notice(5)
    settle(notifier)
    with waiting(notifier) as wait:
        notifier.announce(7)
        assert wait.end() == Notice(7)


@pytest.mark.slow
def test_greenlets_are_woken_and_others_run_meanwhile(path: Path) -> None:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == ["7", "False"], done.stderr


# --- without events, and what events cost ---------------------------------------------------------


def test_process_that_gets_no_events_asks_for_them_once_and_polls(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []
    looks: list[int] = []

    def refuse(paths: object) -> Inotify:
        asked.append(paths)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(inotify, "Inotify", refuse)
    notifier = FileNotifier(path, poll_interval_s=0.1)
    notifier.ensure()
    notifier.wait(0.0)
    signature = notifier.signature

    def look() -> Signature | None:
        looks.append(1)
        return signature()

    monkeypatch.setattr(notifier, "signature", look)
    began = time.monotonic()
    with caplog.at_level("INFO", "uwsgi_waffle"):
        assert notifier.wait(0.3) is None
        notifier.wait(0.0)
    assert time.monotonic() - began >= 0.3
    assert len(asked) == 1
    assert len(looks) <= 6, "it looks at each interval, and sleeps between"


def test_process_that_gets_no_events_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inotify, "Inotify", refused)
    with caplog.at_level("INFO", "uwsgi_waffle"):
        for _ in range(3):
            FileNotifier(path, poll_interval_s=0.1).wait(0.0)
    assert len(caplog.messages) == 3
    assert caplog.messages[0].endswith("looks every 0.1 s: [Errno 24] Too many open files")


def test_wait_lasts_as_long_as_it_is_asked_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Inotify([path])
    waits: list[float] = []

    class Poll:
        def poll(self, timeout_ms: float) -> list[object]:
            waits.append(timeout_ms)
            return []

    monkeypatch.setattr(events, "_poll", Poll())
    for seconds in (-1.0, 0.0, 0.25):
        assert not events.wait(seconds)
    assert waits == [0.0, 0.0, 250.0]


def test_wake_ends_one_wait_and_is_no_change(path: Path) -> None:
    events = Inotify([path])
    events.arm()
    began = time.monotonic()
    assert not events.wait(0.1)
    assert time.monotonic() - began >= 0.1
    events.wake()
    assert not events.wait(LONG_S)
    began = time.monotonic()
    assert not events.wait(0.1)
    assert time.monotonic() - began >= 0.1


def test_end_of_a_change_on_the_page_is_waited_for_by_its_event(
    path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [True, True]
    notifier = FileNotifier(
        path, poll_interval_s=LONG_S, also=[page], quiet=lambda: bool(answers and answers.pop())
    )
    notifier.ensure()
    notifier.wait(0.0)
    waits: list[float] = []
    pauses: list[float] = []

    def wait(self: Inotify, timeout_s: float) -> bool:
        waits.append(timeout_s)
        return True

    monkeypatch.setattr(Inotify, "wait", wait)
    monkeypatch.setattr("uwsgi_waffle.notifiers.file.time.sleep", pauses.append)
    assert notifier.wait(LONG_S) is None
    assert (len(waits), pauses) == (2, [0.001])
    notifier.close()


def test_end_of_a_change_that_is_no_event_is_looked_for_ever_more_rarely(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [True] * 4
    notifier = FileNotifier(
        path, poll_interval_s=LONG_S, quiet=lambda: bool(answers and answers.pop())
    )
    notifier.ensure()
    notifier.wait(0.0)
    pauses: list[float] = []
    monkeypatch.setattr("uwsgi_waffle.notifiers.file.time.sleep", pauses.append)
    FileNotifier(path).announce(7)
    notifier._awaited = notifier.signature()
    assert notifier.wait(LONG_S) is None
    assert pauses == pytest.approx([0.001, 0.002, 0.004, 0.008])
    notifier.close()


def test_system_without_events_is_an_error_that_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "eventfd")
    with pytest.raises(OSError, match="no inotify here"):
        Inotify([path])
    gc.collect()


def test_error_names_what_the_system_lacks(path: Path) -> None:
    def fail(_: int) -> int | None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        try:
            Inotify([path])
        except OSError as exc:
            return exc.errno
        return None

    assert in_processes(1, fail) == [errno.EMFILE]


def test_events_may_have_the_first_descriptor_of_a_process_that_closed_its_input(
    path: Path,
) -> None:
    def use(_: int) -> list[bool]:
        os.close(0)
        events = Inotify([path])
        events.arm()
        path.touch()
        found = [os.path.exists("/proc/self/fd/0"), events.wait(LONG_S)]
        del events
        return [*found, os.path.exists("/proc/self/fd/0")]

    assert in_processes(1, use) == [[True, True, False]]


def test_other_file_that_is_made_ends_a_wait(notifier: FileNotifier, page: Path) -> None:
    page.unlink()
    for _ in range(3):
        settle(notifier)
    with waiting(notifier) as wait:
        page.write_bytes(b"made")
        assert wait.end() is None
