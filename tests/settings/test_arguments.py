"""Arguments that are no settings: refused by a sentence, and before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from uwsgi_waffle import InvalidValueError

from ..support.rig import Worker

NAN = float("nan")
TEXT = "it must be text that UTF-8 can write, without a NUL character"
SECONDS = "it must be a number of seconds"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"author": 5}, "author: it must be a string, got int"),
        ({"reason": b"x"}, "reason: it must be a string, got bytes"),
        ({"author": "a\0b"}, f"author: {TEXT}"),
        ({"reason": "half \ud83d"}, f"reason: {TEXT}"),
        ({"expected_revision": "0"}, "expected_revision: it must be an int, got str"),
        ({"expected_revision": False}, "expected_revision: it must be an int, got bool"),
        ({"wait_s": "5"}, f"wait_s: {SECONDS}, got str"),
        ({"wait_s": True}, f"wait_s: {SECONDS}, got bool"),
        ({"wait_s": NAN}, f"wait_s: {SECONDS} that a clock can count"),
        ({"wait_s": 10**400}, f"wait_s: {SECONDS} that a clock can count"),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        lambda waffle, given: waffle.update({"LIMIT": 7}, **given),
        lambda waffle, given: waffle.reset("LIMIT", **given),
        lambda waffle, given: waffle.rollback(0, **given),
    ],
    ids=["update", "reset", "rollback"],
)
def test_change_with_an_argument_that_does_not_fit_is_not_made(
    make_worker: Callable[..., Worker],
    change: Callable[[Any, dict[str, Any]], object],
    given: dict[str, Any],
    message: str,
) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 5})
    with pytest.raises(InvalidValueError) as caught:
        change(worker.waffle, given)
    assert str(caught.value) == message
    assert worker.waffle.refresh() == 1


@pytest.mark.parametrize("values", [None, "LIMIT", [("LIMIT", 7)], 7])
def test_values_are_given_by_name(make_worker: Callable[..., Worker], values: Any) -> None:
    with pytest.raises(InvalidValueError, match="values: it must be a mapping of setting name"):
        make_worker().waffle.update(values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda waffle: waffle.wait(timeout_s=NAN), f"timeout_s: {SECONDS} that a clock can count"),
        (lambda waffle: waffle.wait(timeout_s=None), f"timeout_s: {SECONDS}, got NoneType"),
        (lambda waffle: waffle.wait("7"), "revision: it must be an int, got str"),
        (lambda waffle: waffle.rollback(0.5), "revision: it must be an int, got float"),
        (lambda waffle: waffle.history(limit="7"), "limit: it must be an int, got str"),
    ],
)
def test_question_that_does_not_fit_is_refused(
    make_worker: Callable[..., Worker], call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        call(make_worker().waffle)
    assert str(caught.value) == message


@pytest.mark.parametrize(("limit", "found"), [(10**30, 1), (-1, 0), (0, 0)])
def test_history_has_as_many_entries_as_there_are(
    make_worker: Callable[..., Worker], limit: int, found: int
) -> None:
    waffle = make_worker().waffle
    waffle.update({"LIMIT": 7})
    assert len(waffle.history(limit=limit)) == found


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_number_that_json_does_not_have_is_named(
    make_worker: Callable[..., Worker], value: float
) -> None:
    worker = make_worker(confs={"RATE": {"desc": "Rate", "default": 0.5}})
    with pytest.raises(InvalidValueError, match="RATE: it must be a finite number: JSON has"):
        worker.waffle.update({"RATE": value})


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("bounds", [{}, {"min": Decimal(0), "max": Decimal(100)}])
def test_decimal_that_is_no_number_is_refused_with_and_without_bounds(
    make_worker: Callable[..., Worker], bounds: dict[str, Decimal], value: str
) -> None:
    worker = make_worker(confs={"RATE": {"desc": "Rate", "default": Decimal(1), **bounds}})
    with pytest.raises(InvalidValueError, match=r"^RATE: it must be a finite number$"):
        worker.waffle.update({"RATE": Decimal(value)})
    assert worker.waffle.update({"RATE": Decimal("1E+2")}) == 1
