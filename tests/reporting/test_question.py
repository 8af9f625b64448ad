"""A question to the processes of a host, and their answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from uwsgi_waffle.process.page import Page
from uwsgi_waffle.process.slots import Slots
from uwsgi_waffle.reporting.question import Question

from ..support.rig import Clock


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path / "shop.page")


def test_question_is_asked_again_only_after_a_while(page: Page) -> None:
    slots, clock = Slots(page.path), Clock()
    question = Question(slots, page, least_s=0.5, clock=clock)
    asked = []
    for seconds in (0.0, 0.0, 0.25, 0.25, 0.5):
        clock.advance(seconds)
        question.ask()
        asked.append(page.asked)
    first, _, _, second, third = asked
    assert asked == [first, first, first, second, third]
    slot = slots.take("shop", 1)
    answers = [question.oldest(slots.living()[0])]
    for number, word in enumerate((first, third, b"another!")):
        slot.answer(word, 5 + number)
        answers.append(question.oldest(slots.living()[0]))
    assert answers == [None, 5, 6, None]


def test_later_question_of_another_takes_the_place_of_the_own(page: Page) -> None:
    slots, clock = Slots(page.path), Clock()
    slot = slots.take("shop", 1)
    question, other = (Question(slots, page, clock=clock) for _ in range(2))

    def answer(oldest: int) -> int | None:
        slot.answer(page.asked, oldest)
        return question.oldest(slots.living()[0])

    other.ask()
    question.follow()
    assert answer(4) is None
    question.ask()
    assert answer(5) == 5
    own = page.asked
    other.ask()
    assert page.asked == own
    clock.advance(1)
    other.ask()
    theirs = page.asked
    assert answer(6) is None
    question.ask()
    assert page.asked == theirs
    assert answer(6) == 6
    clock.advance(1)
    question.ask()
    assert page.asked != theirs
    assert answer(7) == 7


def test_page_that_was_made_anew_has_no_question(page: Page) -> None:
    slots, clock = Slots(page.path), Clock()
    slot = slots.take("shop", 1)
    question = Question(slots, page, clock=clock)
    question.ask()
    page.path.unlink()
    page.follow_path()
    question.follow()
    assert not any(slot.answered)
    assert question.oldest(slots.living()[0]) is None
