"""The page: what its words say after each step, and who may close it."""

from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from uwsgi_waffle.process import locks, page_file
from uwsgi_waffle.process import page as page_module
from uwsgi_waffle.process.page import Page, PageChange, identity_of, is_open
from uwsgi_waffle.process.page_file import SIZE, TICKET_S, make
from uwsgi_waffle.snapshot import Snapshot

from ..support.children import child_that
from ..support.rig import Clock, Rig, ordinary_user

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page"


@pytest.fixture
def page(path: Path) -> Page:
    return Page(path)


def words(page: Page) -> tuple[bytes, bytes, bytes]:
    """Return ``opened``, ``closed`` and ``seq``."""
    all_words = page.words()
    return all_words[:8], all_words[8:16], all_words[16:]


# --- what the words say -------------------------------------------------------------------------


def test_new_page_is_closed_and_knows_nothing(page: Page) -> None:
    assert not is_open(page.words())
    assert page.identity == bytes(8)
    assert page.problem == ""


def test_new_page_has_other_words_than_any_page_before_it(page: Page, path: Path) -> None:
    before = page.words()
    path.unlink()
    page.follow_path()
    assert words(page)[0] != before[:8]
    assert words(page)[2] != before[16:]


def test_change_opens_the_page_just_before_it_is_committed_and_closes_it(page: Page) -> None:
    before = page.words()
    with page.change() as change:
        assert not is_open(page.words())
        covers = [change.covers]
        change.open()
        covers.append(change.covers)
        assert is_open(page.words())
        assert covers == [False, True]
    assert not is_open(page.words())
    assert page.words() != before


def test_change_that_was_never_opened_leaves_no_trace(page: Page) -> None:
    before = page.words()
    with page.change():
        pass
    assert page.words() == before


def test_each_attempt_to_commit_opens_with_another_value(page: Page) -> None:
    seen = set()
    with page.change() as change:
        for _ in range(3):
            change.open()
            seen.add(words(page)[0])
    assert len(seen) == 3


def test_change_that_raises_is_closed_too(page: Page) -> None:
    def fails() -> None:
        with page.change() as change:
            change.open()
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        fails()
    assert not is_open(page.words())


def test_mark_writes_seq_then_identity_and_the_revision(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    put = page_file.PageFile.put

    def noting(file: page_file.PageFile, offset: int, word: bytes) -> None:
        assert len(word) == 8
        assert offset % 8 == 0
        order.append(offset)
        put(file, offset, word)

    monkeypatch.setattr(page_file.PageFile, "put", noting)
    before = words(page)
    page.mark(b"identity", 7)
    assert order.index(24) < order.index(32), "seq must be there before the identity"
    assert page.identity == b"identity"
    assert struct.unpack("=q", page.view[40:48]) == (7,)
    opened, closed, seq = words(page)
    assert (opened, closed) == before[:2]
    assert seq != before[2]


def test_mark_within_an_open_change_leaves_seq_alone(page: Page) -> None:
    with page.change() as change:
        change.open()
        before = words(page)
        page.mark(b"identity", 7, within_change=change.covers)
        assert words(page) == before
    assert page.identity == b"identity"


def test_every_mark_has_another_seq(page: Page) -> None:
    seen = set()
    for _ in range(5):
        page.mark(b"identity", 7)
        seen.add(words(page)[2])
    assert len(seen) == 5


def test_all_processes_of_a_folder_see_the_same_words(page: Page, path: Path) -> None:
    other = Page(path)
    with child_that(lambda: Page(path).mark(b"identity", 7)):
        assert page.identity == other.identity == b"identity"
        assert page.words() == other.words()


def test_identity_names_epoch_revision_and_mark() -> None:
    states = [
        ("a", 1, "b"),
        ("a", 1, "c"),
        ("a", 2, "b"),
        ("b", 1, "b"),
        ("a", 11, ""),
        ("", 0, ""),
    ]
    read = [Snapshot(revision, epoch, {}, mark=mark) for epoch, revision, mark in states]
    assert len(set(map(identity_of, read))) == len(states)
    assert len(identity_of(Snapshot(1, "\udcff", {}))) == 8


# --- closing ------------------------------------------------------------------------------------


def _opened_change(path: Path) -> PageChange:
    change = PageChange(Page(path))
    change.open()
    return change


def test_nobody_closes_while_another_process_makes_a_change(page: Page, path: Path) -> None:
    with child_that(lambda: _opened_change(path)) as kill:
        page.close_if_unused()
        assert is_open(page.words())
        kill()
        page.close_if_unused()
        assert not is_open(page.words())


def test_nobody_closes_while_another_thread_makes_a_change(page: Page) -> None:
    with page.change() as first:
        first.open()
        with page.change() as second:
            second.open()
        assert is_open(page.words())
        page.close_if_unused()
        assert is_open(page.words())
    assert not is_open(page.words())


def test_change_that_ends_closes_for_one_that_died(page: Page, path: Path) -> None:
    with child_that(lambda: _opened_change(path)):
        pass
    assert is_open(page.words())
    with page.change() as change:
        change.open()
    assert not is_open(page.words())


def test_late_closing_by_an_old_value_does_not_close_a_newer_change(
    page: Page, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the answer that nobody holds the page and the write, a change begins.
    changes: list[PageChange] = []

    def is_locked(_: page_file.PageFile) -> bool:
        monkeypatch.undo()
        changes.append(_opened_change(path))
        return False

    monkeypatch.setattr(page_file.PageFile, "is_locked", is_locked)
    page.close_if_unused()
    assert is_open(page.words())
    changes[0].end()
    assert not is_open(page.words())


def test_next_look_closes_the_page_of_a_writer_that_was_killed(folder: Path) -> None:
    rig = Rig(folder)
    page = rig.manager.page
    with child_that(lambda: _opened_change(page.path)) as kill:
        for number in range(1, 4):
            # Committed, and not announced: as by the writer, just before it dies.
            rig.changed_silently(LIMIT=number)
            assert rig.begin_request()["LIMIT"] == number
        assert is_open(page.words())
        kill()
    rig.changed_silently(LIMIT=9)
    assert rig.begin_request()["LIMIT"] == 9
    assert not is_open(page.words())
    before = rig.memory.calls["read_since"]
    for _ in range(10):
        rig.begin_request()
    assert rig.memory.calls["read_since"] <= before + 1


# --- replaced, new, not writable ----------------------------------------------------------------


def test_page_that_was_replaced_is_followed(page: Page, path: Path) -> None:
    page.mark(b"identity", 7)
    before, view = page.inode, page.view
    path.rename(path.with_name("old"))
    make(path)
    page.follow_path()
    assert page.inode != before
    assert page.view is not view
    assert page.identity == bytes(8)
    assert view[32:40] == b"identity", "who still reads the old one must be able to"


def test_page_that_is_gone_is_made_again(page: Page, path: Path) -> None:
    path.unlink()
    page.follow_path()
    assert path.stat().st_size == SIZE
    assert page.problem == ""


def test_page_that_is_there_is_not_opened_again(page: Page) -> None:
    view = page.view
    page.follow_path()
    assert page.view is view


def test_replaced_page_is_noticed_by_the_next_look(rig: Rig) -> None:
    rig.begin_request()
    before = rig.manager.page.inode
    # What another process has served meanwhile, and put on the page that is gone.
    rig.changed_silently(LIMIT=7)
    rig.manager.page.path.unlink()
    assert rig.begin_request()["LIMIT"] == 7
    assert rig.manager.page.inode not in (before, None)
    assert rig.manager.page.identity != bytes(8)


@pytest.mark.parametrize("step", ["open", "mark"])
def test_young_page_is_outlasted(step: str, page: Page, path: Path) -> None:
    path.unlink()
    replaced_at = time.monotonic()
    page.follow_path()
    if step == "open":
        page.open()
    else:
        page.mark(b"identity", 7)
    # Who shared a ticket by the old page looks again from here on.
    assert time.monotonic() >= replaced_at + TICKET_S


def test_old_page_is_not_waited_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    page.open()

    def refuse(_: float) -> None:
        raise AssertionError("it slept")

    monkeypatch.setattr(time, "sleep", refuse)
    page.open()
    page.mark(b"identity", 7)


def test_page_that_was_replaced_during_a_change_shows_it_too(page: Page, path: Path) -> None:
    with page.change() as change:
        change.open()
        path.unlink()
        other = Page(path)
        before = other.words()
    assert other.words() != before, "who shares a ticket by the new page must look"
    assert not is_open(other.words())


def test_lock_is_on_the_page_that_the_path_names_now(page: Page, path: Path) -> None:
    path.unlink()
    with page.change() as change:
        change.open()
        other = Page(path)
        other.close_if_unused()
        assert is_open(other.words())


def test_page_that_can_only_be_read_is_followed_and_not_marked(open_folder: Path) -> None:
    path = open_folder / "waffle.page"
    writer = Page(path)
    path.chmod(0o444)
    with ordinary_user():
        reader = Page(path)
    assert "WAFFLE_PAGE_FILE" in reader.problem
    assert "writable for every worker" in reader.problem
    before = writer.view[0:48]
    reader.mark(b"identity", 7)
    reader.open()
    reader.close_if_unused()
    with reader.change() as change:
        change.open()
        assert not change.covers, "a mark must write seq: nobody sees that this one is open"
    assert writer.view[0:48] == before
    writer.mark(b"identity", 7)
    assert reader.identity == b"identity"


def test_page_that_can_not_be_written_any_more_is_a_problem(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    with page.change() as change:
        monkeypatch.setattr(os, "pwrite", refuse)
        change.open()
        assert "No space left" in page.problem
        page.mark(b"identity", 7)
    assert "make room on its disk" in page.problem


# --- what can go wrong --------------------------------------------------------------------------


def _refuse(*_: object) -> int:
    raise OSError(28, os.strerror(28))


def test_question_can_not_be_asked_without_a_page_that_can_be_written(open_folder: Path) -> None:
    path = open_folder / "waffle.page"
    reader = Page(path, may_make=False)
    assert not path.exists()
    assert (reader.problem, reader.inode) == ("", None)
    with pytest.raises(OSError, match="there is no page"):
        reader.ask()
    Page(path)
    path.chmod(0o444)
    with ordinary_user():
        reader.follow_path()
    with pytest.raises(OSError, match="WAFFLE_PAGE_FILE"):
        reader.ask()
    assert reader.mark(b"identity", 7) == b"", "nothing was written"


def test_page_in_whose_place_is_something_else_is_used_no_more(page: Page, path: Path) -> None:
    page.mark(b"identity", 7)
    path.unlink()
    path.mkdir()
    page.follow_path()
    assert (page.words(), page.identity, page.inode) == (bytes(24), bytes(8), None)


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "make room on its disk"),
        (errno.EMFILE, "raise the limit of open files of this process"),
        (errno.ENFILE, "raise the limit of open files of this system"),
        (errno.EPERM, "writable for every worker, or name another in WAFFLE_PAGE_FILE"),
    ],
)
@pytest.mark.parametrize("what", ["lock_shared", "pwrite"])
def test_page_is_used_again_when_what_the_system_lacked_is_there(
    page: Page, monkeypatch: pytest.MonkeyPatch, what: str, number: int, fix: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os if what == "pwrite" else page_module, what, refuse)
        with page.change() as change:
            change.open()
        assert fix in page.problem
        page.follow_path()
        assert fix in page.problem
    # As the watcher does at each turn, and a request that looks.
    page.follow_path()
    assert page.problem == ""
    assert not is_open(page.words())


@pytest.mark.parametrize("what", ["lock_shared", "pwrite"])
def test_problem_of_a_page_is_the_one_that_it_has_now(
    page: Page, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(page_module, "lock_shared", _refuse)
        page.lock()
    assert "make room on its disk" in page.problem

    def refuse(*_: object) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    monkeypatch.setattr(os if what == "pwrite" else page_module, what, refuse)
    page.follow_path()
    verb = "written" if what == "pwrite" else "locked"
    assert f"can't be {verb} (Too many open files in system): raise the limit" in page.problem


def test_page_that_can_not_be_closed_is_a_problem(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    with page.change() as change:
        change.open()
        monkeypatch.setattr(os, "pwrite", _refuse)
    assert "No space left" in page.problem


def test_page_that_can_not_be_locked_is_a_problem_and_stops_no_change(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "lock_shared", _refuse)
    with page.change() as change:
        assert "can't be locked (No space left" in page.problem
        change.open()
        assert not change.covers
    assert not is_open(page.words())


def test_page_that_is_replaced_just_before_its_lock_is_locked_in_its_new_place(
    page: Page, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(name: Path) -> int:
        monkeypatch.undo()
        path.unlink()
        make(path)
        return locks.lock_shared(name)

    monkeypatch.setattr(page_module, "lock_shared", replaced)
    with page.change() as change:
        assert len(locks._held) == 1
        change.open()
        other = Page(path)
        other.close_if_unused()
        assert is_open(other.words())
    assert not locks._held


def test_page_that_is_replaced_again_and_again_is_given_up_after_three_times(
    page: Page, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []

    def replaced(name: Path) -> int:
        times.append(1)
        path.unlink()
        make(path)
        return locks.lock_shared(name)

    monkeypatch.setattr(page_module, "lock_shared", replaced)
    with page.change() as change:
        change.open()
        assert not change.covers
    assert len(times) == 3
    assert not locks._held


def test_young_page_is_outlasted_by_one_sleep(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def monotonic() -> float:
        # As a real one, it goes on by itself.
        clock.advance(0.0001)
        return clock()

    monkeypatch.setattr(page_file, "time", SimpleNamespace(monotonic=monotonic, sleep=clock.sleep))
    page = Page(path)
    page.open()
    page.mark(b"identity", 7)
    assert clock.slept == pytest.approx([0.02], abs=0.002)


def test_page_that_can_not_be_marked_is_a_problem(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", _refuse)
    page.mark(b"identity", 7)
    assert "can't be written (No space left" in page.problem


def test_page_that_was_overwritten_names_no_store(page: Page) -> None:
    page.mark(b"identity", 7, epoch="0123456789abcdef")
    assert page.epoch == "0123456789abcdef"
    with page.path.open("r+b") as file:
        file.write(b"nonsense" * (SIZE // 8))
    assert page.epoch == ""
