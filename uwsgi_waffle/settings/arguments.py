"""Arguments of a change that are no settings, refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from ..errors import InvalidValueError

_MOST_SECONDS = 2**63


def check_values(values: object) -> None:
    """Check that values of settings are given by name.

    :raises InvalidValueError: they are not.
    """
    if not isinstance(values, Mapping):
        _refuse("values", f"must be a mapping of setting name to value{_got(values)}")


def check_strings(**texts: object) -> None:
    """Check that texts are strings; ``None`` is none.

    :raises InvalidValueError: names the argument that is no string.
    """
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            _refuse(name, f"must be a string{_got(text)}")


def check_texts(**texts: object) -> None:
    """Check that every store can keep texts for the history; ``None`` is none.

    :raises InvalidValueError: names the argument that is no string, or has what a store refuses.
    """
    check_strings(**texts)
    for name, text in texts.items():
        if isinstance(text, str) and not is_storable(text):
            _refuse(name, "must be text that UTF-8 can write, without a NUL character")


def is_storable(text: str) -> bool:
    """Return whether every store can keep a text: PostgreSQL no NUL, and none half a character."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def check_whole(**numbers: object) -> None:
    """Check numbers of revisions; ``None`` is none.

    :raises InvalidValueError: names the argument that is no int.
    """
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            _refuse(name, f"must be an int{_got(number)}")


def check_seconds(**spans: object) -> None:
    """Check lengths of time; ``inf`` is one.

    :raises InvalidValueError: names the argument that is no number of seconds.
    """
    for name, span in spans.items():
        if isinstance(span, bool) or not isinstance(span, int | float):
            _refuse(name, f"must be a number of seconds{_got(span)}")
        # A NaN would never be over; no clock counts to an int that no float holds.
        if span != span or (isinstance(span, int) and abs(span) > _MOST_SECONDS):
            _refuse(name, "must be a number of seconds that a clock can count")


def _got(value: object) -> str:
    return f", got {type(value).__name__}"


def _refuse(name: str, text: str) -> NoReturn:
    raise InvalidValueError({name: f"it {text}"})
