"""The slot of a process that serves: its manager takes it, keeps it, and shows how it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import StoreUnavailable
from uwsgi_waffle.process.kept_slot import SLOT
from uwsgi_waffle.process.slots import Slot, Slots, SlotState

from ..support.rig import Rig


def shown(rig: Rig) -> SlotState:
    (state,) = rig.manager.slots.living()
    return state


@pytest.fixture
def serving(rig: Rig) -> Rig:
    rig.manager.serve_as("shop", 3)
    rig.begin_request()
    return rig


def test_process_that_serves_shows_what_it_has_read(serving: Rig) -> None:
    assert serving.manager.slot.serves
    state = shown(serving)
    assert (state.app, state.worker, state.number) == ("shop", 3, serving.manager.slot.number)
    assert (state.failing, state.uses_page, state.revision) == (False, True, 0)
    serving.changed_elsewhere(LIMIT=7)
    serving.begin_request()
    state = shown(serving)
    assert (state.revision, state.identity) == (1, serving.manager.identity)


def test_process_takes_one_slot_and_gives_it_back_once(serving: Rig) -> None:
    serving.manager.serve_as("other", 4)
    assert shown(serving).app == "shop"
    serving.manager.slot.leave()
    assert not serving.manager.slot.serves
    assert serving.manager.slot.number is None
    assert serving.manager.slots.living() == []
    # Nor does its watcher take another, or a request that it serves while it ends.
    serving.manager.follow(None)
    serving.manager.serve_as("shop", 3)
    assert not serving.manager.slot.serves
    assert serving.manager.slots.living() == []


def test_process_that_leaves_while_its_watcher_takes_a_slot_keeps_none(
    serving: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, take = serving.manager, serving.manager.slots.take

    def leave_and_take(app: str, worker: int) -> Slot:
        manager.slot.leave()
        return take(app, worker)

    manager.slots.path.unlink()
    monkeypatch.setattr(manager.slots, "take", leave_and_take)
    manager.follow(None)
    assert manager.slot.number is None
    assert manager.slots.living() == []


def test_process_that_only_reads_takes_no_slot(rig: Rig) -> None:
    rig.manager.page.may_make = False
    rig.manager.serve_as("shop", 3)
    assert not rig.manager.slot.serves
    assert rig.manager.slots.living() == []


def test_slot_whose_folder_was_away_for_a_while_is_no_failure_any_more(serving: Rig) -> None:
    health, folder = serving.manager.health, serving.watch_file.path.parent
    away = folder.rename(folder.with_name("away"))
    serving.manager.follow(None)
    assert SLOT in health.failing()
    away.rename(folder)
    serving.manager.follow(None)
    assert SLOT not in health.failing()
    assert shown(serving).worker == 3


def test_slot_that_can_not_be_written_for_a_while_shows_what_is_new_after_it(
    serving: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Slot, "show", refuse)
        serving.changed_elsewhere(LIMIT=7)
        serving.begin_request()
        assert "make room on its disk" in serving.manager.health.failing()[SLOT]
    serving.manager.follow(None)
    assert SLOT not in serving.manager.health.failing()
    assert shown(serving).revision == 1


def test_slot_shows_whether_the_store_fails(serving: Rig) -> None:
    serving.changed_elsewhere(LIMIT=7)
    serving.memory.error = StoreUnavailable("down")
    serving.begin_request()
    assert shown(serving).failing
    serving.memory.error = None
    serving.clock.advance(10)
    serving.begin_request()
    assert not shown(serving).failing


def test_slot_shows_whether_the_page_can_be_used(serving: Rig) -> None:
    path = serving.manager.page.path
    path.unlink()
    path.mkdir()
    serving.manager.refresh()
    assert not shown(serving).uses_page


@pytest.mark.parametrize("how", ["removed", "never there"])
def test_watcher_takes_a_slot_where_there_is_none(
    rig: Rig, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "removed":
        rig.manager.serve_as("shop", 3)
        Path(slots_path(rig)).unlink()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(Slots, "take", refuse)
            rig.manager.serve_as("shop", 3)
        assert "make room on its disk, so that wait() knows" in rig.manager.health.failing()[SLOT]
        # Its settings are current all the same.
        rig.begin_request()
        assert rig.manager.health.state == "VALID"
    assert rig.manager.slots.living() == []
    rig.manager.follow(None)
    assert shown(rig).worker == 3
    assert SLOT not in rig.manager.health.failing()


def test_watcher_keeps_a_slot_that_is_there(serving: Rig) -> None:
    slot = serving.manager.slot._slot
    for _ in range(3):
        serving.manager.follow(None)
    assert serving.manager.slot._slot is slot


def test_watcher_answers_each_question_once_with_the_oldest_revision_that_is_held(
    serving: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[bytes, int]] = []
    answer = Slot.answer

    def noted(self: Slot, question: bytes, oldest: int) -> None:
        answers.append((question, oldest))
        answer(self, question, oldest)

    monkeypatch.setattr(Slot, "answer", noted)
    serving.manager.follow(None)
    # Nobody has asked yet.
    assert answers == []
    held: dict[str, Any] = {}
    serving.manager.admit(held, "ticket")
    serving.changed_elsewhere(LIMIT=7)
    question = serving.manager.page.ask()
    for _ in range(3):
        serving.manager.follow(None)
    assert answers == [(question, 0)]
    assert shown(serving).answered == question


@pytest.mark.parametrize("method", ["show", "answer"])
def test_slot_that_can_not_be_written_is_reported_and_harmless(
    serving: Rig, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(Slot, method, refuse)
    serving.manager.page.ask()
    serving.changed_elsewhere(LIMIT=7)
    serving.manager.follow(None)
    assert serving.config["LIMIT"] == 7
    assert "disk" in serving.manager.health.failing()[SLOT]
    assert serving.manager.health.state == "VALID"


def slots_path(rig: Rig) -> str:
    (path,) = [
        path
        for path in rig.manager.page.path.parent.iterdir()
        if path.name.startswith(f"{rig.manager.page.path.name}.") and "said" not in path.name
    ]
    return str(path)


def refuse(*args: object, **more: object) -> None:
    raise OSError(28, "no room on the disk")


def test_slot_shows_which_process_hears_for_its_host(serving: Rig) -> None:
    ears = [shown(serving).ear]
    for ear in (True, True, False):
        serving.manager.watch(on=True, ear=ear)
        ears.append(shown(serving).ear)
    assert ears == [False, True, True, False]


def test_slot_shows_that_a_read_of_another_thread_hangs(serving: Rig) -> None:
    serving.changed_elsewhere(LIMIT=7)
    with serving.manager._refresher._lock:
        serving.begin_request()
    assert shown(serving).failing


def test_process_that_takes_a_slot_shares_no_ticket_from_before(rig: Rig) -> None:
    rig.begin_request()
    rig.manager.current()
    shared = rig.manager.tickets.shared
    assert shared.until > 0
    rig.manager.serve_as("shop", 3)
    # The first request looks for itself, with the slot that the barrier looks at.
    assert shared.until == 0


def test_process_that_begins_to_serve_shows_at_once_what_it_has_read(rig: Rig) -> None:
    rig.changed_elsewhere(LIMIT=7)
    rig.begin_request()
    rig.manager.serve_as("shop", 3)
    state = shown(rig)
    assert (state.revision, state.identity) == (1, rig.manager.identity)
