"""Refusals are in plain words, and name what is wrong where."""

from __future__ import annotations

import enum
import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from uwsgi_waffle import InvalidValueError
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.settings.wording import explained, written


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(msgspec.Struct, forbid_unknown_fields=True):
    width: int = 1


LONG = Annotated[str, msgspec.Meta(min_length=3)]
SHORT = Annotated[str, msgspec.Meta(max_length=1)]
FILLED = Annotated[list[int], msgspec.Meta(min_length=1)]
LAST_DAY = date(2026, 1, 31)


def refusal(type_: Any, value: object, default: object, **more: Any) -> str:
    spec = {"X": {"desc": "d", "default": default, "type": type_, **more}}
    with pytest.raises(InvalidValueError) as caught:
        declare(spec).encode({"X": value})
    return caught.value.problems["X"]


@pytest.mark.parametrize(
    ("type_", "value", "default", "text"),
    [
        (int, "a", 1, "it must be an int, got a string"),
        (int, 1.5, 1, "it must be an int, got a float"),
        (str, 1, "a", "it must be a string, got an int"),
        (bool, "x", True, "it must be true or false, got a string"),
        (float, None, 1.0, "it must be a float, got null"),
        (int | None, "x", 1, "it must be an int or null, got a string"),
        (list[int], {}, [], "it must be a list, got an object"),
        (dict[str, int], [], {}, "it must be an object, got a list"),
        (list[int], [1, "a"], [], "[1]: it must be an int, got a string"),
        (dict[str, list[int]], {"a": [1, "x"]}, {}, "[...][1]: it must be an int, got a string"),
        (list[Size], [{"width": "x"}], [], "[0].width: it must be an int, got a string"),
        (dict[int, int], {"a": 1}, {}, "one of its keys: it must be an int, got a string"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, 1, "it must be at least 1"),
        (Annotated[int, msgspec.Meta(le=5)], 9, 1, "it must be at most 5"),
        (Annotated[float, msgspec.Meta(gt=1)], 1.0, 2.0, "it must be more than 1.0"),
        (Annotated[float, msgspec.Meta(lt=1)], 2.0, 0.5, "it must be less than 1.0"),
        (Annotated[int, msgspec.Meta(multiple_of=5)], 3, 5, "it must be a multiple of 5"),
        (
            Annotated[str, msgspec.Meta(min_length=3)],
            "a",
            "abc",
            "it must have at least 3 characters",
        ),
        (
            Annotated[str, msgspec.Meta(max_length=1)],
            "ab",
            "a",
            "it must have at most 1 character",
        ),
        (
            Annotated[list[int], msgspec.Meta(min_length=1)],
            [],
            [1],
            "it must have at least 1 item",
        ),
        (Annotated[str, msgspec.Meta(pattern="^a$")], "b", "a", "it must match the pattern '^a$'"),
        (tuple[int, int], [1], [1, 2], "it must have 2 items, got 1"),
        (tuple[int], [], [1], "it must have 1 item, got 0"),
        (Color, "green", Color.RED, 'it must be one of "red", "blue", got "green"'),
        (Literal[1, 2], 3, 1, "it must be one of 1, 2, got 3"),
        (list[Color], ["green"], [], '[0]: it must be one of its choices, got "green"'),
        (timedelta, "soon", timedelta(1), "it must be a duration, such as 30m, 8h or PT30M"),
        (date, "soon", date(2026, 1, 1), "it must be a date, such as 2026-01-31"),
        (time, "soon", time(1), "it must be a time, such as 14:30:00"),
        (UUID, "x", UUID(int=1), "it must be a UUID"),
        (Decimal, "x", Decimal(1), "it must be a decimal number, such as 9.90"),
        (bytes, "*", b"", "it must be base64"),
        (Size, {"height": 1}, Size(), "the field height is unknown"),
    ],
)
def test_refusal_is_in_plain_words(type_: Any, value: object, default: object, text: str) -> None:
    assert refusal(type_, value, default) == text


@pytest.mark.parametrize(
    ("value", "bounds", "text"),
    [
        (Decimal("0.5"), {"min": Decimal(1)}, "it must be at least 1, got 0.5"),
        (Decimal(19), {"max": Decimal(2)}, "it must be at most 2, got 19"),
        (timedelta(days=2), {"max": timedelta(hours=8)}, "it must be at most 8h, got 2d"),
        (
            date(2027, 1, 1),
            {"max": date(2026, 1, 31)},
            "it must be at most 2026-01-31, got 2027-01-01",
        ),
        ("c", {"choices": ["a", "b"]}, 'it must be one of "a", "b", got "c"'),
    ],
)
def test_bounds_and_choices_are_written_as_people_write_them(
    value: Any, bounds: dict[str, Any], text: str
) -> None:
    default = next(iter(bounds.values()))
    default = default[0] if isinstance(default, list) else default
    assert refusal(type(value), value, default, **bounds) == text


def test_many_choices_are_not_all_listed() -> None:
    text = refusal(int, 100, 0, choices=range(50))
    assert text.endswith("18, 19, … (50 in all), got 100")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(hours=1, minutes=30), "1h30m"),
        (timedelta(days=-1), "-1d"),
        (timedelta(0), "0s"),
        (timedelta(milliseconds=1500), "1.5s"),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 31, 14, 30, tzinfo=timezone.utc), "2026-01-31T14:30:00Z"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Color.RED, '"red"'),
        ({"b", "a"}, '["a","b"]'),
        (True, "true"),
        (None, "null"),
        (1j, "1j"),
    ],
)
def test_value_is_written_as_people_write_it(value: object, text: str) -> None:
    assert written(value) == text


def test_unknown_message_stays_as_it_is() -> None:
    assert explained("Something new - at `$.a`") == ".a: Something new"


@pytest.mark.parametrize(
    ("default", "typed", "text"),
    [
        (1.0, "1e400", "the number is too large"),
        (1, "9" * 5000, "the number is too large"),
        ([1.0], "[1e400]", "[0]: the number is too large"),
        (Decimal(1), "NaN", "it must be a finite number"),
        (Decimal(1), "sNaN", "it must be a finite number"),
        (Decimal(1), "-Infinity", "it must be a finite number"),
    ],
)
def test_number_that_can_not_be_kept_is_named_in_plain_words(
    default: Any, typed: str, text: str
) -> None:
    declaration = declare({"A": {"desc": "d", "default": default}})["A"]
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        declaration.parse(typed)
