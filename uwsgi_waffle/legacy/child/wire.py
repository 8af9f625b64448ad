"""Plain values as JSON and back: what the child answers is data, never a pickle."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

# Mapping of each type that JSON lacks to what is sent in its place, and how it is made again.
_TYPES: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    # JSON has neither NaN nor the infinities.
    float: (repr, float),
    bytes: (lambda value: base64.b64encode(value).decode(), base64.b64decode),
    bytearray: (
        lambda value: base64.b64encode(value).decode(),
        lambda text: bytearray(base64.b64decode(text)),
    ),
    tuple: (list, tuple),
    set: (list, set),
    frozenset: (list, frozenset),
    dict: (lambda value: [list(pair) for pair in value.items()], dict),
    # The zone apart: the ISO format has no room for its name, and none for "fold".
    datetime: (
        lambda value: [value.replace(tzinfo=None, fold=0).isoformat(), value.tzinfo, value.fold],
        lambda parts: datetime.fromisoformat(parts[0]).replace(tzinfo=parts[1], fold=parts[2]),
    ),
    time: (
        lambda value: [value.replace(tzinfo=None, fold=0).isoformat(), value.tzinfo, value.fold],
        lambda parts: time.fromisoformat(parts[0]).replace(tzinfo=parts[1], fold=parts[2]),
    ),
    date: (date.isoformat, date.fromisoformat),
    timedelta: (
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    timezone: (lambda value: list(value.__getinitargs__()), lambda parts: timezone(*parts)),
    Decimal: (str, Decimal),
    uuid.UUID: (str, uuid.UUID),
}
_BY_NAME = {kind.__name__: unpacked for kind, (_, unpacked) in _TYPES.items()}


def pack(value: Any) -> Any:
    """Return a plain value as JSON has it: lists stay lists, other types name themselves."""
    kind = type(value)
    if kind is list:
        return [pack(item) for item in value]
    if kind not in _TYPES:
        return value
    return {kind.__name__: pack(_TYPES[kind][0](value))}


def unpack(packed: Any) -> Any:
    """Return the value that :func:`pack` was given.

    :raises Exception: of any kind, if it is not what that function returns.
    """
    if type(packed) is list:
        return [unpack(item) for item in packed]
    if type(packed) is not dict:
        return packed
    ((name, parts),) = packed.items()
    return _BY_NAME[name](unpack(parts))
