"""A pickle to plain values, by an unpickler that knows no names but those of plain types.

It runs nothing, but a few bytes can make it take all time or memory: the child that it runs in
has limits (see ``loop``).
"""

from __future__ import annotations

import io
import pickle
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from .admitted import ADMITTED, StoredBytes, StoredUuid
from .limits import MAX_DEPTH, MAX_INTEGER_BITS, MAX_WEIGHT, Refused

_IMMUTABLE = (bool, float, datetime, date, time, timedelta, timezone, Decimal, uuid.UUID)
# The first protocol that only Python 3 writes, and writes bytes as such.
_PYTHON_3 = 3


def decode(data: bytes) -> Any:
    """Return the plain value of a pickle.

    :raises Refused: it is anything else; the message never shows the value.
    """
    stream = io.BytesIO(data)
    try:
        loaded = _Unpickler(stream, encoding="bytes").load()
    except Refused:
        raise
    except MemoryError:
        raise Refused("it takes too much memory") from None
    except Exception as exc:  # a damaged pickle raises almost anything
        raise Refused(f"it can't be read ({type(exc).__name__})") from exc
    if stream.read(1):
        raise Refused("it goes on after its end")
    return _Rebuild(has_old_strings=_protocol(data) < _PYTHON_3).value(loaded, 0)


def _protocol(data: bytes) -> int:
    # Protocols 0 and 1 have no opcode that names them.
    return data[1] if data[:1] == pickle.PROTO else 0


class _Unpickler(pickle.Unpickler):
    """Knows no names but the admitted ones, and gets stand-ins even for those."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ADMITTED[f"{module_name} {global_name}"]
        except KeyError:
            shown = f"{module_name}.{global_name}"[:100]
            raise Refused(f"it refers to {shown}, which is not a plain type") from None

    def persistent_load(self, pid: object) -> Any:
        raise Refused("it refers to an object outside of it")


class _Rebuild:
    """Makes a copy that holds exact plain types only, and nothing twice.

    :param has_old_strings: every exact ``bytes`` was a plain string of Python 2.
    """

    def __init__(self, *, has_old_strings: bool) -> None:
        self._has_old_strings = has_old_strings
        self._left = MAX_WEIGHT

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._spend(1)
        if depth > MAX_DEPTH:
            raise Refused(f"it is nested more than {MAX_DEPTH} levels deep, or holds itself")
        if value is None or kind in _IMMUTABLE:
            return value
        if kind is int:
            if value.bit_length() > MAX_INTEGER_BITS:
                raise Refused(f"it holds an integer of more than {MAX_INTEGER_BITS} bits")
            return value
        if kind in (str, bytes, bytearray, StoredBytes):
            self._spend(len(value))
            if kind is StoredBytes:
                return bytes(value)
            return _text(value) if kind is bytes and self._has_old_strings else value
        if kind is StoredUuid and value.value is not None:
            return value.value
        if kind in (list, tuple, set, frozenset):
            return kind(self.value(item, depth + 1) for item in value)
        if kind is dict:
            return {
                self.value(key, depth + 1): self.value(item, depth + 1)
                for key, item in value.items()
            }
        raise Refused("it holds something that is not a plain value")

    def _spend(self, weight: int) -> None:
        # What the pickle shares is copied here: a few bytes could stand for gigabytes.
        self._left -= weight
        if self._left < 0:
            raise Refused("it holds too much")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused("it holds a string of Python 2 that is not UTF-8") from None
