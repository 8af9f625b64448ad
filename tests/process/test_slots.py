"""The slots of a host: who serves, who is dead, and how each does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from uwsgi_waffle.forking import HAS_OFD, PerProcess
from uwsgi_waffle.process.slots import NONE_HELD, UNKNOWN_HELD, Slots, _Files
from uwsgi_waffle.process.tickets import Tickets
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Delta, advance, initial_snapshot
from uwsgi_waffle.testing.forked import children, in_processes

from ..support.children import child_that
from ..support.rig import wait_until


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path / "shop.page")


def pids(slots: Slots) -> list[int]:
    return sorted(slot.pid for slot in slots.living())


def test_nobody_lives_where_there_is_no_file_and_none_is_made(slots: Slots) -> None:
    assert slots.living() == []
    assert not slots.path.exists()


def test_slot_shows_who_has_it_and_how_it_does(slots: Slots) -> None:
    slot = slots.take("shop", 3)
    slot.show(failing=True, uses_page=False, identity=b"12345678", revision=7)
    (found,) = slots.living()
    assert (found.host, found.app) == (os.uname().nodename, "shop")
    assert (found.pid, found.worker, found.revision) == (os.getpid(), 3, 7)
    assert (found.failing, found.uses_page, found.identity) == (True, False, b"12345678")
    slot.show(failing=False, uses_page=True, identity=b"87654321", revision=8)
    (found,) = slots.living()
    assert (found.failing, found.uses_page, found.revision) == (False, True, 8)


def test_two_apps_of_one_process_have_a_slot_each_and_leave_each_for_itself(slots: Slots) -> None:
    shop, blog = slots.take("shop", 1), Slots(slots.path.with_suffix("")).take("blog", 1)
    assert [slot.app for slot in slots.living()] == ["shop", "blog"]
    del shop
    assert [slot.app for slot in slots.living()] == ["blog"]
    assert slots.take("third", 0).number == 0
    assert blog.number == 1


@pytest.mark.skipif(not HAS_OFD, reason="its own locks are not shown to a process here")
def test_two_interpreters_of_one_process_have_a_slot_each_and_see_each_other(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = slots.take("shop", 1)
    # All that an interpreter has for itself.
    monkeypatch.setattr("uwsgi_waffle.process.slots._files", PerProcess(_Files))
    blog = slots.take("blog", 1)
    assert [slot.app for slot in slots.living()] == ["shop", "blog"]
    assert shop.is_there
    assert blog.is_there
    del blog
    assert [slot.app for slot in slots.living()] == ["shop"]
    with child_that(lambda: slots.take("third", 2)):
        assert [slot.app for slot in slots.living()] == ["shop", "third"]
    assert [slot.app for slot in slots.living()] == ["shop"]


def test_process_that_is_killed_is_struck_out_at_once(slots: Slots) -> None:
    own = slots.take("shop", 1)

    def hold(number: int) -> None:
        slot = slots.take("shop", number + 2)
        while slot.is_there:
            signal.pause()

    with children(3, hold) as found:
        everyone = sorted([os.getpid(), *(pid for pid, _ in found)])
        wait_until(lambda: pids(slots) == everyone, "four slots")
        for pid, _ in found:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            everyone.remove(pid)
            assert pids(slots) == everyone
    assert own.number == 0


def test_child_has_none_of_its_parents_slots_and_ends_none_of_them(slots: Slots) -> None:
    own = slots.take("shop", 1)
    # The child keeps what the function returns.
    with child_that(lambda: slots.take("shop", 2)) as kill:
        assert len(pids(slots)) == 2
        kill()
        assert pids(slots) == [os.getpid()]
    assert own.is_there


def test_slot_of_a_stopped_process_stays(slots: Slots) -> None:
    with child_that(lambda: slots.take("shop", 2)):
        (pid,) = pids(slots)
        os.kill(pid, signal.SIGSTOP)
        assert pids(slots) == [pid]


def test_file_that_was_removed_is_noticed_and_made_again(slots: Slots) -> None:
    held = [slots.take("shop", 1)]
    assert [slot.is_there for slot in held] == [True]
    slots.path.unlink()
    assert [slot.is_there for slot in held] == [False]
    assert slots.living() == []
    again = slots.take("shop", 1)
    assert again.is_there
    held.clear()
    assert pids(slots) == [os.getpid()]


def test_file_that_was_truncated_has_no_slot_any_more(slots: Slots) -> None:
    held = [slots.take("shop", worker) for worker in (1, 2)]
    os.truncate(slots.path, slots.path.stat().st_size - 1)
    assert [slot.is_there for slot in held] == [True, False]
    os.truncate(slots.path, 0)
    assert [slot.is_there for slot in held] == [False, False]
    held = [slots.take("shop", worker) for worker in (1, 2)]
    assert [slot.is_there for slot in held] == [True, True]
    assert [each.worker for each in slots.living()] == [1, 2]


def test_file_that_was_truncated_and_has_grown_again_has_the_new_slots_only(slots: Slots) -> None:
    held = [slots.take("shop", worker) for worker in (1, 2, 3)]
    os.truncate(slots.path, 0)
    # The last one finds it first, and has the file grow over the places of the others.
    for worker in (3, 2, 1):
        assert not held[worker - 1].is_there
        held[worker - 1] = slots.take("shop", worker)
        assert held[worker - 1].is_there
    assert sorted(each.worker for each in slots.living()) == [1, 2, 3]


def test_damaged_file_harms_nobody(slots: Slots) -> None:
    slots.path.write_bytes(os.urandom(1000))
    assert slots.living() == []
    slot = slots.take("shöp", 1)
    (found,) = slots.living()
    assert (found.app, slot.number) == ("shöp", 0)


def test_file_with_another_name_and_what_is_no_file_are_refused(slots: Slots) -> None:
    other = slots.path.with_name("other")
    other.write_bytes(b"precious")
    os.link(other, slots.path)
    with pytest.raises(OSError, match="something else"):
        slots.take("shop", 1)
    slots.path.unlink()
    slots.path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        slots.take("shop", 1)
    slots.path.unlink()
    os.mkfifo(slots.path)
    with pytest.raises(OSError, match="something else"):
        slots.take("shop", 1)
    assert other.read_bytes() == b"precious"


def test_answer_names_the_question_and_the_oldest_revision(slots: Slots) -> None:
    slot = slots.take("shop", 1)
    slot.answer(b"question", 5)
    (found,) = slots.living()
    assert found.answered == slot.answered == b"question"
    assert (found.host, found.app) == (os.uname().nodename, "shop")
    assert slots.oldest(slot.number) == 5


def test_oldest_revision_is_that_of_the_requests_that_run() -> None:
    tickets = Tickets()
    assert tickets.oldest(newest=9) == NONE_HELD
    declarations = declare({})
    start = initial_snapshot(declarations)
    held = []
    for revision in (9, 7, 8):
        ticket = tickets.issue()
        ticket.snapshot = advance(start, Delta(revision, "e", (), complete=True), declarations)
        held.append(ticket)
    assert tickets.oldest(newest=9) == 7
    assert tickets.oldest(newest=9, but=held[1]) == 8
    # One from before a backup was restored.
    assert tickets.oldest(newest=8) == UNKNOWN_HELD
    looking = tickets.issue()
    assert tickets.oldest(newest=9) == UNKNOWN_HELD
    del looking, ticket
    held.clear()
    assert tickets.oldest(newest=9) == NONE_HELD
    # Whatever the revision of this process is.
    assert tickets.oldest(newest=0) == NONE_HELD
    shared = tickets.issue()
    shared.snapshot = start
    tickets.share(shared, shared.view, b"", time.monotonic())
    del shared
    assert tickets.oldest(newest=9) == NONE_HELD, "no request holds the one that is shared"


def test_slot_that_was_just_taken_shows_nothing_yet(slots: Slots) -> None:
    slot = slots.take("shop", 3)
    (found,) = slots.living()
    assert (found.failing, found.uses_page, found.ear) == (False, True, False)
    assert (found.identity, found.revision, found.answered) == (bytes(8), 0, bytes(8))
    assert slots.oldest(slot.number) == UNKNOWN_HELD


@pytest.mark.parametrize("failing", [True, False])
@pytest.mark.parametrize("uses_page", [True, False])
@pytest.mark.parametrize("ear", [True, False])
def test_each_state_is_shown_for_itself(
    slots: Slots, failing: bool, uses_page: bool, ear: bool
) -> None:
    slot = slots.take("shop", 3)
    slot.show(failing=failing, uses_page=uses_page, identity=bytes(8), revision=7, ear=ear)
    (found,) = slots.living()
    assert (found.failing, found.uses_page, found.ear) == (failing, uses_page, ear)


def test_slot_is_written_only_with_what_is_new(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slots.take("shop", 3)
    writes: list[int] = []
    pwrite = os.pwrite

    def counted(descriptor: int, text: bytes, offset: int) -> int:
        writes.append(offset)
        return pwrite(descriptor, text, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    for revision in (7, 7, 8):
        slot.show(failing=False, uses_page=True, identity=bytes(8), revision=revision)
    assert len(writes) == 2


def test_slot_that_could_not_be_written_is_free(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "no room on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(OSError, match="no room"):
            slots.take("shop", 1)
    assert slots.living() == []
    assert slots.take("shop", 1).number == 0


def test_lock_that_other_code_of_the_process_has_dropped_is_taken_again(slots: Slots) -> None:
    held = [slots.take("shop", 1)]
    # As a backup does that is made in a worker.
    slots.path.read_bytes()
    assert in_processes(1, lambda _: len(slots.living())) == [0]
    assert [slot.is_there for slot in held] == [True]
    assert in_processes(1, lambda _: len(slots.living())) == [1]

    slots.path.read_bytes()
    with child_that(lambda: slots.take("shop", 2)):
        assert [slot.is_there for slot in held] == [False]
        held.clear()
        assert [found.worker for found in slots.living()] == [2]


def test_slot_that_was_left_is_taken_by_another_process(slots: Slots) -> None:
    slot = slots.take("shop", 1)
    kept = slots.take("blog", 1)
    del slot
    with child_that(lambda: slots.take("shop", 2)):
        assert [found.number for found in slots.living()] == [0, kept.number]


def test_long_names_are_cut(slots: Slots) -> None:
    slot = slots.take("ä" * 100, 1)
    (found,) = slots.living()
    assert (found.app, slot.number) == ("ä" * 32, 0)


def test_nobody_holds_anything_where_there_is_no_file(slots: Slots) -> None:
    with pytest.raises(FileNotFoundError):
        slots.oldest(0)
    assert not slots.path.exists()
