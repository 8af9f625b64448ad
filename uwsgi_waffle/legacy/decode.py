"""Texts of Flask-WaffleConf to plain values."""

from __future__ import annotations

import base64
import binascii
import io
import pickle
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from .admitted import ADMITTED, StoredUuid
from .limits import MAX_DEPTH, MAX_INTEGER_BITS, MAX_TEXT_LENGTH, MAX_WEIGHT, LegacyError
from .scan import scan

_IMMUTABLE = (bool, float, datetime, date, time, timedelta, timezone, Decimal, uuid.UUID)


def decode_legacy(text: str | bytes) -> Any:
    """Return the value that Flask-WaffleConf stored as base64 of a pickle.

    Reads pickles of Python 2.7 and 3 in protocols 0 to 5. A value is made of ``None``, ``bool``,
    ``int``, ``float``, ``str``, ``bytes``, ``list``, ``tuple``, ``dict``, ``set``, ``frozenset``,
    ``bytearray``, ``datetime`` and its like, ``Decimal`` and ``UUID``; an ``OrderedDict`` comes
    as a ``dict``. A plain string of Python 2 is read as UTF-8. Nothing of the pickle is run.

    :raises LegacyError: it is anything else; the message never shows the value.
    """
    data = _decode_base64(text)
    has_old_strings = scan(data)
    try:
        loaded = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except LegacyError:
        raise
    except Exception as exc:  # a damaged pickle raises almost anything
        raise LegacyError(f"it can't be read ({type(exc).__name__})") from exc
    return _Rebuild(has_old_strings).value(loaded, 0)


class _Unpickler(pickle.Unpickler):
    """Knows no names but the admitted ones, and gets stand-ins even for those."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ADMITTED[f"{module_name} {global_name}"]
        except KeyError:
            raise LegacyError(f"it refers to {module_name}.{global_name}") from None

    def persistent_load(self, pid: object) -> Any:
        raise LegacyError("it refers to an object outside of it")


class _Rebuild:
    """Makes a copy that holds exact plain types only, and nothing twice.

    :param old: every ``bytes`` was a plain string of Python 2.
    """

    def __init__(self, old: bool) -> None:
        self._old = old
        self._left = MAX_WEIGHT

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._spend(1)
        if depth > MAX_DEPTH:
            raise LegacyError(f"it is nested more than {MAX_DEPTH} levels deep, or holds itself")
        if value is None or kind in _IMMUTABLE:
            return value
        if kind is int:
            if value.bit_length() > MAX_INTEGER_BITS:
                raise LegacyError(f"it holds an integer of more than {MAX_INTEGER_BITS} bits")
            return value
        if kind in (str, bytes, bytearray):
            self._spend(len(value))
            return self._text(value) if kind is bytes and self._old else value
        if kind is StoredUuid and value.value is not None:
            return value.value
        if kind in (list, tuple, set, frozenset):
            return kind(self.value(item, depth + 1) for item in value)
        if kind is dict:
            return {
                self.value(key, depth + 1): self.value(item, depth + 1)
                for key, item in value.items()
            }
        raise LegacyError("it holds something that is no plain value")

    def _spend(self, weight: int) -> None:
        # What the pickle shares is copied here: a few bytes could stand for gigabytes.
        self._left -= weight
        if self._left < 0:
            raise LegacyError("it holds too much")

    @staticmethod
    def _text(value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise LegacyError("it holds a string of Python 2 that is not UTF-8") from None


def _decode_base64(text: str | bytes) -> bytes:
    if len(text) > MAX_TEXT_LENGTH:
        raise LegacyError(f"it has more than {MAX_TEXT_LENGTH} characters")
    if not text:
        raise LegacyError("it is empty")
    try:
        encoded = text.encode("ascii") if isinstance(text, str) else text
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise LegacyError("it is not base64") from None
    # Python's decoder is lenient about the last bits and about what follows the padding.
    if base64.b64encode(data) != encoded:
        raise LegacyError("it is not base64")
    return data
