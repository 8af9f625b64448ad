"""Refusals in plain words: the reader's errors, and values as a person writes them."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from .raws import dump

_NAMES = {
    "int": "an int",
    "float": "a float",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "bytes": "base64",
    "duration": "a duration",
    "date": "a date",
    "time": "a time",
    "datetime": "a date and time",
    "uuid": "a UUID",
    "decimal": "a decimal number",
}
_PARTS = {
    "str": ("character", "characters"),
    "array": ("item", "items"),
    "object": ("entry", "entries"),
    "bytes": ("byte", "bytes"),
}
_COMPARED = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_FORMATS = {
    "Invalid ISO8601 duration": "it must be a duration, such as 30m, 8h or PT30M",
    "Invalid RFC3339 encoded date": "it must be a date, such as 2026-01-31",
    "Invalid RFC3339 encoded time": "it must be a time, such as 14:30:00",
    "Invalid RFC3339 encoded datetime": "it must be a date and time, such as 2026-01-31T14:30:00Z",
    "Invalid UUID": "it must be a UUID",
    "Number out of range": "the number is too large",
    "Integer value out of range": "the number is too large",
    "Invalid decimal string": "it must be a decimal number, such as 9.90",
    "Invalid base64 encoded string": "it must be base64",
    "Expected `datetime` with a timezone component": "it must have a time zone, such as a Z at its "
    "end",
    "Expected `datetime` with no timezone component": "it must have no time zone",
}
_MOST_CHOICES = 20
_PLACE = re.compile(r"(?s)(.*) - at `(\$|key` in `\$)(.*)`")


def explained(message: str, choices: Iterable[Any] | None = None) -> str:
    """Return an error of msgspec in plain words, with the place of the wrong item in front.

    Source: msgspec 0.18 to 0.20, ``_core.c``: "Expected `int`, got `str` - at `$[1]`".

    :param choices: the only allowed values, if there is a list of them.
    """
    match = _PLACE.fullmatch(message)
    if match is None:
        return _explained(message, choices)
    text = _explained(match[1], None)
    place = match[3]
    if match[2] != "$":
        return f"{place}: a key: {text}" if place else f"one of its keys: {text}"
    return f"{place}: {text}"


def _explained(message: str, choices: Iterable[Any] | None) -> str:
    if message in _FORMATS:
        return _FORMATS[message]
    if match := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", message):
        got = "a bool" if match[2] == "bool" else _named(match[2])
        return f"it must be {_named(match[1])}, got {got}"
    if match := re.fullmatch(r"Expected `(\w+)` of length ([<>]=) (\d+)", message):
        part = _PARTS.get(match[1], _PARTS["array"])[match[3] != "1"]
        return f"it must have {_COMPARED[match[2]]} {match[3]} {part}"
    if match := re.fullmatch(r"Expected `array` of length (\S+), got (\d+)", message):
        return f"it must have {match[1]} {_PARTS['array'][match[1] != '1']}, got {match[2]}"
    if match := re.fullmatch(r"Expected `\w+` ([<>]=?) (\S+)", message):
        return f"it must be {_COMPARED[match[1]]} {match[2]}"
    if match := re.fullmatch(r"Expected `\w+` that's a multiple of (\S+)", message):
        return f"it must be a multiple of {match[1]}"
    if match := re.fullmatch(r"(?s)Expected `str` matching regex (.*)", message):
        return f"it must match the pattern {match[1]}"
    if match := re.fullmatch(r"(?s)Invalid enum value (.*)", message):
        quoted = match[1].startswith("'")
        return f"{one_of(choices)}, got {written(match[1][1:-1]) if quoted else match[1]}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"the field {match[1]} is missing"
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", message):
        return f"the field {match[1]} is unknown"
    return message


def one_of(choices: Iterable[Any] | None) -> str:
    """Return the sentence that a value must be one of some others."""
    if choices is None:
        return "it must be one of its choices"
    shown = list(map(written, choices))
    if len(shown) > _MOST_CHOICES:
        shown = [*shown[:_MOST_CHOICES], f"… ({len(shown)} in all)"]
    return f"it must be one of {', '.join(shown)}"


def written(value: Any) -> str:
    """Return a value as a person writes it: 30m, 2026-01-31, "a string", [1,2]."""
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, Decimal):
        return str(value)
    try:
        builtin = msgspec.to_builtins(value)
        if isinstance(builtin, str) and not isinstance(value, (str, enum.Enum)):
            return builtin
        return dump(value)
    except Exception:  # no JSON knows it, or a declared class runs its own code here
        return repr(value)


def _named(types: str) -> str:
    return " or ".join(_NAMES.get(name, name) for name in types.split(" | "))


def _duration(value: timedelta) -> str:
    whole, seconds = value, value.total_seconds()
    if whole.microseconds or seconds == 0:
        return f"{seconds:g}s"
    left = abs(int(seconds))
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if seconds < 0 else "") + "".join(parts)
