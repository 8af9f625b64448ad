"""What people write on a command line and in forms is read as they mean it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwsgi_waffle import InvalidValueError
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.settings.spelling import duration_text


class Size(msgspec.Struct):
    width: int
    height: int


def parse(type_: Any, text: str, default: Any = None) -> Any:
    spec = {"X": {"desc": "d", "default": default, "type": type_}}
    return declare(spec).parse({"X": text})["X"]


@pytest.mark.parametrize("word", ["yes", "on", "1", "true", "Yes", "ON", "True", " on "])
def test_word_that_means_true_is_true(word: str) -> None:
    assert parse(bool, word, False) is True
    assert parse(bool | None, word) is True


@pytest.mark.parametrize("word", ["no", "off", "0", "false", "No", "OFF", "False"])
def test_word_that_means_false_is_false(word: str) -> None:
    assert parse(bool, word, True) is False


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("8h", 28_800),
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("45s", 45),
        ("1h30m", 5400),
        ("1d 12h", 129_600),
        ("8 h 30 min", 30_600),
        ("2 days, 1 hour", 176_400),
        ("90 seconds", 90),
        ("1Min", 60),
        ("1500 ms", 1.5),
        ("1.5h", 5400),
        ("-30M", -1800),
        ("PT30M", 1800),
        ("1800", 1800),
    ],
)
def test_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse(timedelta, text, timedelta(1)) == timedelta(seconds=seconds)
    assert parse(Annotated[timedelta, msgspec.Meta(title="x")] | None, text).total_seconds() == (
        seconds
    )


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (str | None, "null", None),
        (str | None, "", ""),
        (str | None, "NULL", "NULL"),
        (int | None, "null", None),
        (int | None, "", None),
        (timedelta | None, " ", None),
        (bool | None, "", None),
        (int | str | None, "", ""),
        (int | str | None, "null", None),
        (list[str] | None, "", None),
    ],
)
def test_null_and_nothing_mean_none_where_none_is_a_value(
    type_: Any, text: str, value: object
) -> None:
    assert parse(type_, text) == value


def test_null_is_a_text_where_none_is_not_a_value() -> None:
    assert parse(str, "null", "x") == "null"
    assert parse(str, "", "x") == ""


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        (list[str], '["a", 1]', "X[1]: it must be a string, got an int"),
        (
            list[Size],
            '[{"width": "a", "height": 1}]',
            "X[0].width: it must be an int, got a string",
        ),
        (Size, '{"width": 1}', "X: the field height is missing"),
        (list[str], "a, b", 'X: write a list as JSON, such as ["a", "b"]'),
        (set[int], "a, b", 'X: write a list as JSON, such as ["a", "b"]'),
        (list[str], "[a", "X: it is not JSON: invalid character (byte 1)"),
        (Size, "wide", 'X: write an object as JSON, such as {"a": 1}'),
        (timedelta, "soon", "X: write a duration, such as 30m, 8h, 1d or PT30M"),
        (timedelta, "999999999999d", "X: it is too long for a duration"),
        (int, "many", "X: it must be a whole number, got many"),
        (int, " 1.5 ", "X: it must be a whole number, got 1.5"),
        (int, "x" * 81, "X: it must be a whole number"),
        (float, "1-2", "X: it must be a number, got 1-2"),
        (bool, "maybe", "X: write true or false, yes or no, on or off, 1 or 0"),
        (Literal["a", "b"], "c", 'X: it must be one of "a", "b", got "c"'),
    ],
)
def test_refusal_names_the_wrong_item_or_shows_how_to_write_it(
    type_: Any, text: str, message: str
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse(type_ | None, text)
    assert str(caught.value) == message


def test_typed_value_that_does_not_fit_names_the_wrong_item() -> None:
    declarations = declare({"TAGS": {"desc": "d", "default": ["a"], "type": list[str]}})
    with pytest.raises(InvalidValueError, match=r"^TAGS\[1\]: it must be a string, got an int$"):
        declarations.encode({"TAGS": ["a", 1]})


@given(st.timedeltas())
def test_duration_is_written_as_it_is_read(value: timedelta) -> None:
    text = duration_text(value)
    assert parse(timedelta, text, timedelta()) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(hours=8, minutes=30), "8 h 30 min"),
        (timedelta(), "0 s"),
        (timedelta(days=1, seconds=2.5), "1 day 2.5 s"),
        (timedelta(days=-2), "-2 days"),
    ],
)
def test_duration_is_written_as_people_write_it(value: timedelta, text: str) -> None:
    assert duration_text(value) == text
