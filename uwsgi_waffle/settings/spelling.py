"""The words of people for a bool, a duration or nothing, as the reader of types has them."""

from __future__ import annotations

import re
import typing
from datetime import timedelta
from typing import Any

import msgspec

from .shapes import shape_of

_BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d+)?[wdhms]\s*)+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)([wdhms])", re.IGNORECASE)


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
            timedelta(**{_UNITS[unit.lower()]: float(number)})
            for number, unit in _PART.findall(match[2])
        ]
        length = sum(parts, timedelta())
    except OverflowError:
        raise ValueError("it is too long for a duration") from None
    written: str = msgspec.to_builtins(-length if match[1] == "-" else length)
    return written


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
