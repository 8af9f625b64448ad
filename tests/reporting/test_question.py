"""A question to the processes of a host, and their answers."""

from __future__ import annotations

from pathlib import Path

from uwsgi_waffle.process.slots import Slots
from uwsgi_waffle.reporting.question import Question

from ..support.rig import Clock


def test_question_is_asked_again_only_after_a_while(tmp_path: Path) -> None:
    slots, clock = Slots(tmp_path / "shop.page"), Clock()
    asked: list[bytes] = []

    def ask() -> bytes:
        asked.append(b"%08d" % len(asked))
        return asked[-1]

    question = Question(slots, ask, least_s=0.5, clock=clock)
    for seconds in (0.0, 0.0, 0.25, 0.25, 0.5):
        clock.advance(seconds)
        question.ask()
    assert len(asked) == 3
    slot = slots.take("shop", 1)
    answers = [question.oldest(slots.living()[0])]
    for number in (0, 2):
        slot.answer(asked[number], 5 + number)
        answers.append(question.oldest(slots.living()[0]))
    slot.answer(b"another!", 9)
    answers.append(question.oldest(slots.living()[0]))
    assert answers == [None, 5, 7, None]
