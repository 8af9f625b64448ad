"""The words of people for a bool, a duration or nothing, as the reader of types has them."""

from __future__ import annotations

import re
import typing
from datetime import timedelta
from typing import Any

import msgspec

from .shapes import shape_of

#: a text that is longer is not repeated in an error
_SHORT = 80
_BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_UNITS = {
    "weeks": ("w", "week", "weeks"),
    "days": ("d", "day", "days"),
    "hours": ("h", "hr", "hrs", "hour", "hours"),
    "minutes": ("m", "min", "mins", "minute", "minutes"),
    "seconds": ("s", "sec", "secs", "second", "seconds"),
    "milliseconds": ("ms",),
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_PART_TEXT = rf"(\d+(?:\.\d+)?)\s*({'|'.join(sorted(_UNIT_OF, key=len, reverse=True))})"
_PART = re.compile(_PART_TEXT, re.IGNORECASE)
_DURATION = re.compile(rf"([+-]?)\s*((?:{_PART_TEXT}[\s,]*)+)", re.IGNORECASE)


def takes_null(type_: Any) -> bool:
    """Return whether ``None`` is a value of a type."""
    return shape_of(type_).optional


def spelled(text: str, type_: Any) -> str:
    """Return "yes" as "true", "1h30m" as "PT5400S"; any other text as it is.

    :raises ValueError: a duration is too long.
    """
    base = shape_of(type_).base
    if base is bool:
        return _BOOLS.get(text.strip().lower(), text)
    match = _DURATION.fullmatch(text.strip()) if base is timedelta else None
    if match is None:
        return text
    try:
        parts = [
            timedelta(**{_UNIT_OF[unit.lower()]: float(number)})
            for number, unit in _PART.findall(match[2])
        ]
        length = sum(parts, timedelta())
    except OverflowError:
        raise ValueError("it is too long for a duration") from None
    written: str = msgspec.to_builtins(-length if match[1] == "-" else length)
    return written


def duration_text(value: timedelta) -> str:
    """Return a duration as people write it, such as "8 h 30 min"; :func:`spelled` reads it."""
    left = abs(value)
    parts = []
    for unit, length in (
        ("days", timedelta(days=1)),
        ("h", timedelta(hours=1)),
        ("min", timedelta(minutes=1)),
    ):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {'day' if unit == 'days' and count == 1 else unit}")
    if left or not parts:
        seconds = f"{left.seconds}.{left.microseconds:06}".rstrip("0").rstrip(".")
        parts.append(f"{seconds} s")
    return ("-" if value < timedelta() else "") + " ".join(parts)


def no_number(type_: Any, text: str) -> str:
    """Return that a text is no number of a type, in the words of people; empty for other types.

    :param text: what was typed, or an empty text if it may not be shown.
    """
    kind = {int: "a whole number", float: "a number"}.get(shape_of(type_).base)
    if kind is None:
        return ""
    return f"it must be {kind}" + (f", got {text}" if 0 < len(text) <= _SHORT else "")


def hint(type_: Any) -> str:
    """Return how to write a value of a type that has no plain text; empty for most types."""
    base = shape_of(type_).base
    base = typing.get_origin(base) or base
    if base is timedelta:
        return "write a duration, such as 30m, 8h, 1d or PT30M"
    if base is bool:
        return "write true or false, yes or no, on or off, 1 or 0"
    if isinstance(base, type) and issubclass(base, (list, tuple, set, frozenset)):
        return 'write a list as JSON, such as ["a", "b"]'
    if isinstance(base, type) and (issubclass(base, dict) or hasattr(base, "__struct_fields__")):
        return 'write an object as JSON, such as {"a": 1}'
    return ""
