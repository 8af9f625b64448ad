"""No order of the steps of several processes, and no death, makes a request step back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgi_waffle.process import refresher as refresher_module
from uwsgi_waffle.process.page import Page
from uwsgi_waffle.process.page_file import PageFile

from ..support.hypothesis_profiles import effort
from ..support.interleaving import SteppedBackError, Turn, explore

TURNS = st.lists(
    st.builds(
        Turn,
        who=st.integers(0, 11),
        steps=st.integers(1, 12),
        dies=st.sampled_from([False] * 9 + [True]),
    ),
    max_size=40,
)
WORKS = st.lists(st.text("rrrwcfx", min_size=1, max_size=4), min_size=2, max_size=4)


@given(WORKS, TURNS)
@effort(150)
@pytest.mark.slow
def test_no_request_sees_less_than_anyone_had_seen_before_it(
    works: list[str], turns: list[Turn]
) -> None:
    explore(works, turns)


# --- rules reversed, so that the scheduler shows that it would find such a fault ----------------


def _identity_first(
    page: Page, identity: bytes, revision: int, *, epoch: str = "", within_change: bool = False
) -> None:
    page._file.put(32, identity)
    if not within_change:
        page._file.put(24, os.urandom(8))


def _forgets_seq_order() -> contextlib.AbstractContextManager[object]:
    return mock.patch.object(Page, "mark", _identity_first)


def _shares_while_open() -> contextlib.AbstractContextManager[object]:
    return mock.patch.object(refresher_module, "is_open", return_value=False)


def _closes_unasked() -> contextlib.AbstractContextManager[object]:
    return mock.patch.object(PageFile, "is_locked", return_value=False)


# For each rule: what the processes do, and their turns, with each place to stop in the first of
# them that is not named by a pause.
SEQ = (
    ["rrr.r", "xr", "rr"],
    [[Turn(0, 0), Turn(1, stop), Turn(2, 0), Turn(0, 0)] for stop in range(1, 40)],
)
LOCK = (
    ["w", "rrr.r"],
    [[Turn(0, stop), Turn(1, 0), Turn(0, 0), Turn(1, 0)] for stop in range(1, 40)],
)
OPEN = (
    ["w", "rrr.r", "r"],
    [
        [Turn(0, first), Turn(1, 0), Turn(0, stop), Turn(2, 0), Turn(1, 0)]
        for first in range(2, 5)
        for stop in range(1, 30)
    ],
)
DEATH = (
    ["w", "rrr.r", "rr", "w"],
    [
        [Turn(1, 0), Turn(0, stop, dies=True), Turn(who, 0), Turn(1, 0), Turn(3, 0), Turn(1, 0)]
        for stop in range(1, 40)
        for who in (2, 3)
    ],
)
Walk = tuple[list[str], list[list[Turn]]]


@pytest.mark.parametrize("walk", [SEQ, LOCK, OPEN, DEATH], ids=["seq", "lock", "open", "death"])
def test_stop_at_any_step_makes_no_request_step_back(walk: Walk) -> None:
    works, schedules = walk
    for turns in schedules:
        explore(works, turns)


@pytest.mark.parametrize(
    ("reverse", "walk"),
    [(_forgets_seq_order, SEQ), (_shares_while_open, OPEN), (_closes_unasked, LOCK)],
    ids=["seq after identity", "share while open", "close unasked"],
)
def test_reversed_rule_is_found(
    reverse: Callable[[], contextlib.AbstractContextManager[object]], walk: Walk
) -> None:
    def explore_all() -> None:
        works, schedules = walk
        for turns in schedules:
            explore(works, turns)

    with reverse(), pytest.raises(SteppedBackError):
        explore_all()


def test_same_schedule_makes_the_same_run() -> None:
    runs = set()
    for _ in range(3):
        turns = LOCK[1][2]
        with _closes_unasked(), pytest.raises(SteppedBackError) as stepped:
            explore(LOCK[0], turns)
        runs.add(str(stepped.value))
    assert runs == {"'r' saw 0 after 1"}
