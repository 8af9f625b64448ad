"""One ear per host: who hears, and who takes over."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from uwsgi_waffle import NotifierError
from uwsgi_waffle.notifiers import Notice, Notifier
from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process import ear as ear_module
from uwsgi_waffle.process.ear import RANKS, Ear, Succession
from uwsgi_waffle.process.page import Page, is_open

from ..support.children import child_that
from ..support.descriptors import open_descriptors
from ..support.rig import Clock, StubNotifier, ordinary_user, wait_until

SILENT_S = 1.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "waffle.watch.page.ear"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def line(path: Path, clock: Clock) -> Succession:
    return Succession(path, silent_s=SILENT_S, clock=clock)


def child_in(path: Path, clock: Clock) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """Hold a place in another process, with a heartbeat of the clock's time."""

    def hold() -> Succession:
        succession = line(path, clock)
        succession.hears()
        succession.beat()
        return succession

    return child_that(hold)


def test_first_process_hears(path: Path, clock: Clock) -> None:
    assert line(path, clock).hears()


def test_second_process_does_not_hear(path: Path, clock: Clock) -> None:
    with child_in(path, clock):
        second = line(path, clock)
        assert not second.hears()
        clock.advance(SILENT_S)
        assert not second.hears(), "not before it is late"


def test_one_that_has_just_become_the_ear_has_a_second_to_subscribe(
    path: Path, clock: Clock
) -> None:
    with child_in(path, clock) as kill, child_that(lambda: _not_hearing(path, clock)):
        third = line(path, clock)
        assert not third.hears()
        clock.advance(SILENT_S + 0.01)
        kill()
    assert third.hears()
    with child_that(lambda: _not_hearing(path, clock)):
        pass


def test_deputy_hears_beside_an_ear_that_is_silent(path: Path, clock: Clock) -> None:
    with child_in(path, clock):
        second = line(path, clock)
        assert not second.hears()
        clock.advance(SILENT_S + 0.01)
        assert second.hears()


def test_deputy_hears_no_longer_when_the_ear_is_back(path: Path, clock: Clock) -> None:
    with child_in(path, clock):
        second = line(path, clock)
        clock.advance(SILENT_S + 0.01)
        assert second.hears()
        with open(path, "r+b", buffering=0) as beat:
            beat.write(int(clock() * 1e9).to_bytes(8, "little"))
        assert not second.hears()


def test_deputys_deputy_hears_only_when_both_are_silent(path: Path, clock: Clock) -> None:
    with child_in(path, clock), child_in(path, clock):
        third = line(path, clock)
        assert not third.hears()
        clock.advance(SILENT_S + 0.01)
        with open(path, "r+b", buffering=0) as beats:
            beats.seek(8)
            beats.write(int(clock() * 1e9).to_bytes(8, "little"))
        assert not third.hears(), "the deputy hears"
        clock.advance(SILENT_S + 0.01)
        assert third.hears()


def test_heartbeat_is_shown_ten_times_a_second_by_who_has_a_place(path: Path, clock: Clock) -> None:
    began = clock.now
    first = line(path, clock)
    first.beat()
    assert not path.exists()
    assert first.hears()
    beats = []
    for seconds in (0.0, 0.05, 0.04, 0.02, 0.05):
        clock.advance(seconds)
        first.beat()
        beats.append(int.from_bytes(path.read_bytes(), "little") / 1e9 - began)
    assert beats == pytest.approx([0.0, 0.0, 0.0, 0.11, 0.11], abs=1e-5)
    left = path.read_bytes()
    first.leave()
    clock.advance(1.0)
    first.beat()
    assert path.read_bytes() == left


def test_place_that_is_dropped_or_fails_leaves_no_descriptor_open(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bool:
        raise OSError(5, "a broken disk")

    first = line(path, clock)
    assert first.hears()
    assert len(open_descriptors(path)) == 1
    del first
    assert open_descriptors(path) == set()
    second = line(path, clock)
    monkeypatch.setattr(ear_module, "lock_byte", fail)
    assert second.hears()
    assert open_descriptors(path) == set()


def test_death_of_the_ear_makes_the_next_one_the_ear(path: Path, clock: Clock) -> None:
    with child_that(lambda: _hearing(path, clock)) as kill:
        second = line(path, clock)
        assert not second.hears()
        kill()
        assert second.hears()


def test_child_of_the_ear_has_no_place(path: Path, clock: Clock) -> None:
    first = line(path, clock)
    assert first.hears()
    first.beat()

    def is_second() -> Succession:
        own = line(path, clock)
        assert not own.hears()
        return own

    with child_that(is_second):
        assert first.hears()


def test_place_that_was_given_back_is_the_next_ones(path: Path, clock: Clock) -> None:
    first = line(path, clock)
    assert first.hears()
    first.leave()
    with child_that(lambda: _hearing(path, clock)):
        assert not first.hears()


def _hearing(path: Path, clock: Clock) -> Succession:
    succession = line(path, clock)
    assert succession.hears()
    succession.beat()
    return succession


def test_heartbeat_of_an_earlier_boot_is_none(path: Path, clock: Clock) -> None:
    later = Clock()
    later.advance(5_000)
    with child_in(path, later):
        assert line(path, clock).hears()


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_all_stand_in_line_anew_where_the_file_was(
    path: Path, clock: Clock, replaced: bool
) -> None:
    with child_that(lambda: _hearing(path, clock)):
        second = line(path, clock)
        assert not second.hears()
        path.unlink()
        if replaced:
            path.write_bytes(b"")
        assert second.hears(), "as the first at the new file"
        with child_that(lambda: _not_hearing(path, clock)):
            assert second.hears()
    assert len(open_descriptors(path)) == 1


def test_each_hears_by_itself_while_the_folder_is_away(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "page.ear"
    with child_that(lambda: _hearing(path, clock)):
        second = line(path, clock)
        assert not second.hears()
        path.unlink()
        folder.rmdir()
        assert second.hears()
        folder.mkdir()
        with child_that(lambda: _hearing(path, clock)):
            assert not second.hears(), "another was first at the new file"


def test_those_behind_the_line_only_follow(path: Path, clock: Clock) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(RANKS):
            stack.enter_context(child_in(path, clock))
        last = line(path, clock)
        clock.advance(10 * SILENT_S)
        assert not last.hears()


def test_process_that_can_not_use_the_file_hears_by_itself(open_folder: Path) -> None:
    path = open_folder / "page.ear"
    path.write_text("")
    path.chmod(0o600)
    os.chown(path, 0, 0) if os.geteuid() == 0 else path.chmod(0)
    with ordinary_user():
        assert line(path, Clock()).hears()


def test_file_that_is_another_by_a_second_name_is_not_written(path: Path, clock: Clock) -> None:
    other = path.with_name("other")
    other.write_text("of another user")
    os.link(other, path)
    assert line(path, clock).hears(), "as one that can't use the file"
    assert other.read_text() == "of another user"


def test_lock_that_another_app_of_the_process_has_dropped_is_taken_again(
    path: Path, clock: Clock
) -> None:
    first, of_another_app = line(path, clock), line(path, clock)
    assert first.hears()
    assert of_another_app.hears(), "two ears in one process do no harm"
    of_another_app.leave()
    assert first.hears()
    first.beat()
    with child_that(lambda: _not_hearing(path, clock)):
        assert first.hears()


def _not_hearing(path: Path, clock: Clock) -> Succession:
    succession = line(path, clock)
    assert not succession.hears()
    return succession


class Hearing:
    """An ear whose channel is a stub."""

    def __init__(self, folder: Path) -> None:
        FileNotifier(folder / "waffle.watch").ensure()
        self.page = Page(folder / "waffle.watch.page")
        self.watch_file = FileNotifier(folder / "waffle.watch", also=[self.page.path])
        self.channels: list[StubNotifier] = []
        self.ear = Ear("stub", self._make, self.watch_file, self.page, poll_interval_s=0.02)

    def _make(self) -> Notifier:
        self.channels.append(StubNotifier())
        self.channels[-1].put(Notice(None))
        return self.channels[-1]


@pytest.fixture
def hearing(tmp_path: Path) -> Iterator[Hearing]:
    made = Hearing(tmp_path)
    yield made
    made.ear.close()


def test_channel_is_made_by_the_process_that_hears_only(hearing: Hearing, tmp_path: Path) -> None:
    ear_file = tmp_path / "waffle.watch.page.ear"
    with child_that(lambda: _beating(ear_file)):
        assert hearing.ear.wait(0.01) is None
        assert not hearing.ear.is_ear
    assert hearing.channels == []
    assert hearing.ear.wait(0.01) == Notice(None), "what was missed, only the store can tell"
    assert hearing.ear.is_ear


def _beating(path: Path) -> Succession:
    succession = Succession(path, silent_s=SILENT_S)
    succession.hears()
    succession.beat()
    return succession


def test_process_that_stops_to_hear_ends_its_subscription(hearing: Hearing, tmp_path: Path) -> None:
    assert hearing.ear.wait(0.01) == Notice(None)
    hearing.ear._succession.leave()
    with child_that(lambda: _beating(tmp_path / "waffle.watch.page.ear")):
        assert hearing.ear.wait(0.01) == Notice(None)
        assert hearing.channels[0].closed
        assert not hearing.ear.is_ear
        assert hearing.ear.wait(0.01) is None


def test_one_that_follows_sees_a_change_of_its_host_at_once(
    hearing: Hearing, tmp_path: Path
) -> None:
    with child_that(lambda: _beating(tmp_path / "waffle.watch.page.ear")):
        assert hearing.ear.wait(0.01) is None
        FileNotifier(hearing.watch_file.path).announce(7)
        assert hearing.ear.wait(10.0) == Notice(7)


def test_one_that_follows_is_woken_by_a_question_and_not_by_a_mark(
    hearing: Hearing, tmp_path: Path
) -> None:
    other = Page(hearing.page.path)
    with child_that(lambda: _beating(tmp_path / "waffle.watch.page.ear")):
        assert hearing.ear.wait(0.01) is None
        other.mark(b"12345678", 7)
        began = time.monotonic()
        assert hearing.ear.wait(0.2) is None
        assert time.monotonic() - began >= 0.2
        asking = threading.Timer(0.05, other.ask)
        asking.start()
        assert hearing.ear.wait(20.0) is None
        asking.join()
        assert time.monotonic() - began < 15.0


def test_notice_is_passed_on_when_the_change_of_this_host_is_over(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hearing.ear.wait(0.01) == Notice(None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hearing.page.change()).open()
        hearing.channels[0].put(Notice(7))
        monkeypatch.setattr("uwsgi_waffle.process.ear.time.sleep", lambda _: stack.close())
        assert hearing.ear.wait(10.0) == Notice(7)
        # A read before that would have to be made again.
        assert not is_open(hearing.page.words())


def test_change_that_does_not_end_keeps_no_notice_back(hearing: Hearing) -> None:
    assert hearing.ear.wait(0.01) == Notice(None)
    with hearing.page.change() as change:
        change.open()
        hearing.channels[0].put(Notice(7))
        assert hearing.ear.wait(10.0) == Notice(7)
        assert is_open(hearing.page.words())


def test_change_that_goes_on_is_looked_at_ever_more_rarely_for_a_moment(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hearing.ear.wait(0.01) == Notice(None)
    clock = Clock()
    monkeypatch.setattr(ear_module, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    with hearing.page.change() as change:
        change.open()
        hearing.channels[0].put(Notice(7))
        assert hearing.ear.wait(10.0) == Notice(7)
    assert clock.slept == pytest.approx([0.001, 0.002, 0.004, 0.008, 0.016])


def test_process_without_a_page_hears_by_itself(hearing: Hearing, tmp_path: Path) -> None:
    with child_that(lambda: _beating(tmp_path / "waffle.watch.page.ear")):
        hearing.page.problem = "can't be opened"
        assert hearing.ear.wait(0.01) == Notice(None)
        assert hearing.ear.is_ear


def test_ear_whose_channel_fails_shows_no_heartbeat(hearing: Hearing, tmp_path: Path) -> None:
    ear = hearing.ear
    assert ear.wait(0.01) == Notice(None)
    path = tmp_path / "waffle.watch.page.ear"
    channel = hearing.channels[0]
    ear._succession._beaten_at = float("-inf")
    channel.put(NotifierError("gone"))
    before = path.read_bytes()
    with pytest.raises(NotifierError):
        ear.wait(0.01)
    assert ear.wait(0.01) is None, "it does not try again yet"
    assert path.read_bytes() == before
    assert not ear.is_ear, "it hears nothing"
    channel.put(Notice(None))
    assert ear.wait(0.01) == Notice(None)
    assert path.read_bytes() != before
    assert ear.is_ear


def test_close_ends_a_wait_and_gives_the_place_back(hearing: Hearing, tmp_path: Path) -> None:
    assert hearing.ear.wait(0.01) == Notice(None)
    heard: list[Notice | None] = []
    thread = threading.Thread(target=lambda: heard.append(hearing.ear.wait(60.0)))
    thread.start()
    hearing.ear.close()
    wait_until(lambda: not thread.is_alive(), "the wait is over")
    assert hearing.channels[0].closed
    with child_that(lambda: _sole(tmp_path / "waffle.watch.page.ear")):
        assert hearing.ear.wait(0.01) is None


def _sole(path: Path) -> Succession:
    succession = Succession(path, silent_s=SILENT_S)
    assert succession.hears()
    return succession


def test_ear_file_belongs_to_the_owner_of_its_folder(open_folder: Path) -> None:
    path = open_folder / "page.ear"
    assert line(path, Clock()).hears()
    status, folder = path.stat(), open_folder.stat()
    assert (status.st_uid, status.st_gid) == (folder.st_uid, folder.st_gid)
    assert status.st_mode & 0o777 == 0o660


def test_heartbeat_is_shown_again_after_a_tenth_of_a_second(path: Path, clock: Clock) -> None:
    first = line(path, clock)
    assert first.hears()
    first.beat()
    shown = path.read_bytes()
    clock.advance(0.1)
    first.beat()
    assert path.read_bytes() != shown


def test_place_without_a_heartbeat_is_one_of_a_process_that_does_not_hear(
    path: Path, clock: Clock
) -> None:
    with child_in(path, clock):
        second = line(path, clock)
        assert not second.hears()
        path.write_bytes(b"")
        assert second.hears()


def test_who_moves_up_leaves_its_place_to_the_next(path: Path, clock: Clock) -> None:
    with child_that(lambda: _hearing(path, clock)) as kill:
        second = line(path, clock)
        assert not second.hears()
        kill()
    assert second.hears()
    clock.advance(0.5)
    with child_that(lambda: _not_hearing(path, clock)):
        # The third has shown its first heartbeat in the second place.
        assert int.from_bytes(path.read_bytes()[8:16], "little") == int(clock() * 1e9)


@pytest.mark.parametrize(("poll_interval_s", "silent_s"), [(0.02, 1.0), (0.5, 1.5), (2.0, 6.0)])
def test_ear_is_silent_after_a_second_or_three_polls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poll_interval_s: float, silent_s: float
) -> None:
    given: list[float] = []

    def noted(path: Path, *, silent_s: float) -> None:
        given.append(silent_s)

    monkeypatch.setattr(ear_module, "Succession", noted)
    files = FileNotifier(tmp_path / "waffle.watch")
    Ear(
        "stub",
        StubNotifier,
        files,
        Page(tmp_path / "waffle.page"),
        poll_interval_s=poll_interval_s,
    )
    assert given == [silent_s]


def test_ear_shows_no_heartbeat_before_its_channel_has_worked(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = StubNotifier()
    beats: list[int] = []
    monkeypatch.setattr(hearing.ear, "_make_channel", lambda: channel)
    monkeypatch.setattr(Succession, "beat", lambda self: beats.append(1))
    assert hearing.ear.wait(0.01) is None
    assert beats == []
    channel.put(Notice(None))
    assert hearing.ear.wait(0.01) == Notice(None)
    assert beats == [1]


def test_ear_announces_on_its_host(hearing: Hearing) -> None:
    hearing.ear.announce(7)
    assert hearing.watch_file.mark().revision == 7


def test_close_ends_the_wait_of_one_that_follows(
    hearing: Hearing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    wait = hearing.watch_file.wait

    def noted(timeout_s: float) -> Notice | None:
        begun.set()
        return wait(timeout_s)

    monkeypatch.setattr(hearing.watch_file, "wait", noted)
    with child_that(lambda: _beating(tmp_path / "waffle.watch.page.ear")):
        waiting = threading.Thread(target=hearing.ear.wait, args=(20.0,))
        waiting.start()
        assert begun.wait(10)
        hearing.ear.close()
        wait_until(lambda: not waiting.is_alive(), "the wait is over")


def test_one_that_follows_waits_no_longer_than_it_is_asked_to(
    hearing: Hearing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    clock = Clock()

    def wait(timeout_s: float) -> None:
        waits.append(timeout_s)
        clock.advance(0.25)

    with child_that(lambda: _beating(tmp_path / "waffle.watch.page.ear")):
        assert hearing.ear.wait(0.01) is None
        monkeypatch.setattr(hearing.watch_file, "wait", wait)
        monkeypatch.setattr(ear_module, "time", SimpleNamespace(monotonic=clock))
        assert hearing.ear.wait(0.5) is None
    assert waits == pytest.approx([0.5, 0.25])


def test_notice_is_passed_on_at_once_while_no_change_is_under_way(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hearing.ear.wait(0.01) == Notice(None)
    hearing.channels[0].put(Notice(7))
    monkeypatch.setattr(
        ear_module,
        "time",
        SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: pytest.fail("it slept")),
    )
    assert hearing.ear.wait(10.0) == Notice(7)
