"""The fixed list of what a stored pickle may name, each as a function that checks its arguments.

No class of that list is ever handed to the unpickler: what it gets instead offers one call, and
has no attribute that a pickle could set or reach through.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from .limits import MAX_DIGITS, Refused

OBJECT = "__builtin__ object"


class Constructor:
    """Stands for one admitted name while a pickle is loaded."""

    __slots__ = ("_make", "name")

    def __init__(self, name: str, make: Callable[..., object]) -> None:
        self.name = name
        self._make = make

    def __call__(self, *args: object) -> object:
        return self._make(*args)

    def __setstate__(self, state: object) -> None:
        raise Refused(f"it sets attributes of {self.name}")


class StoredUuid:
    """Stands for a ``UUID`` until its state is known; pickles need a class to make one."""

    __slots__ = ("value",)

    value: uuid.UUID | None

    # An unpickler may leave out __init__.
    def __new__(cls) -> StoredUuid:
        self = super().__new__(cls)
        self.value = None
        return self

    def __setstate__(self, state: object) -> None:
        number = None
        if type(state) is dict and self.value is None:
            # From Python 2 the key comes as bytes. Python 3.7 and later add "is_safe".
            number = state.get("int", state.get(b"int"))
        if type(number) is not int:
            raise _misused("uuid UUID")
        self.value = uuid.UUID(int=number)


class StoredBytes(bytes):
    """Bytes that Python 3 wrote in protocols 0 to 2, where plain bytes are strings of Python 2."""

    __slots__ = ()


def _misused(name: str) -> Refused:
    return Refused(f"it calls {name.replace(' ', '.')} in a way that no plain value does")


def _state(name: str, state: object, size: int) -> bytes:
    if not isinstance(state, bytes) or len(state) != size:
        raise _misused(name)
    return state


def _datetime(state: object, zone: object = None) -> datetime:
    if zone is not None and type(zone) is not timezone:
        raise _misused("datetime datetime")
    make: Any = datetime  # its signature hides that it takes the state of a pickle
    made: datetime = make(_state("datetime datetime", state, 10), zone)
    return made


def _date(state: object) -> date:
    make: Any = date
    made: date = make(_state("datetime date", state, 4))
    return made


def _time(state: object, zone: object = None) -> time:
    if zone is not None and type(zone) is not timezone:
        raise _misused("datetime time")
    make: Any = time
    made: time = make(_state("datetime time", state, 6), zone)
    return made


def _timedelta(days: object, seconds: object, microseconds: object) -> timedelta:
    if type(days) is not int or type(seconds) is not int or type(microseconds) is not int:
        raise _misused("datetime timedelta")
    return timedelta(days, seconds, microseconds)


def _timezone(offset: object, name: object = None) -> timezone:
    if type(offset) is not timedelta or not (name is None or type(name) is str):
        raise _misused("datetime timezone")
    return timezone(offset) if name is None else timezone(offset, name)


def _decimal(text: object) -> Decimal:
    if type(text) is bytes:
        text = text.decode("ascii")
    if type(text) is not str or len(text) > MAX_DIGITS:
        raise _misused("decimal Decimal")
    return Decimal(text)


def _encode(text: object, encoding: object) -> StoredBytes:
    # How protocols 0 to 2 write bytes.
    if type(text) is not str or encoding not in ("latin1", "latin-1", b"latin-1"):
        raise _misused("_codecs encode")
    return StoredBytes(text.encode("latin-1"))


def _bytes() -> StoredBytes:
    return StoredBytes()


def _bytearray(content: object = b"", encoding: object = None) -> bytearray:
    if encoding is not None:
        content = _encode(content, encoding)
    if not isinstance(content, bytes):
        raise _misused("builtins bytearray")
    return bytearray(content)


def _set(items: object) -> set[object]:
    if type(items) is not list:
        raise _misused("builtins set")
    return set(items)


def _frozenset(items: object) -> frozenset[object]:
    return frozenset(_set(items))


def _ordered_dict(pairs: object = None) -> dict[object, object]:
    # Python 3 gives no argument and adds the items later; Python 2 gives a list of lists.
    made: dict[object, object] = {}
    if pairs is not None and type(pairs) is not list:
        raise _misused("collections OrderedDict")
    for pair in pairs or ():
        if type(pair) is not list or len(pair) != 2:
            raise _misused("collections OrderedDict")
        made[pair[0]] = pair[1]
    return made


def _object() -> object:
    raise _misused("builtins object")


def _reconstructor(cls: object, base: object, state: object) -> StoredUuid:
    # How protocols 0 and 1 write an object; of all the list only a UUID needs it.
    if cls is not StoredUuid or base is not ADMITTED[OBJECT] or state is not None:
        raise _misused("copyreg _reconstructor")
    return StoredUuid()


def _safe_uuid(value: object) -> None:
    # Python 3.7 stores with each UUID how it was made.
    if value is not None and type(value) is not int:
        raise _misused("uuid SafeUUID")


_MAKERS: dict[str, Callable[..., object]] = {
    "datetime datetime": _datetime,
    "datetime date": _date,
    "datetime time": _time,
    "datetime timedelta": _timedelta,
    "datetime timezone": _timezone,
    "decimal Decimal": _decimal,
    "uuid SafeUUID": _safe_uuid,
    "_codecs encode": _encode,
    "collections OrderedDict": _ordered_dict,
    "builtins bytes": _bytes,
    "builtins bytearray": _bytearray,
    "builtins set": _set,
    "builtins frozenset": _frozenset,
    # As Python 2, and Python 3 up to protocol 2, name them.
    "__builtin__ bytes": _bytes,
    "__builtin__ bytearray": _bytearray,
    "__builtin__ set": _set,
    "__builtin__ frozenset": _frozenset,
    OBJECT: _object,
    "copy_reg _reconstructor": _reconstructor,
}

#: mapping of module and name, with a space between, to what the unpickler gets instead
ADMITTED: Mapping[str, Constructor | type[StoredUuid]] = {
    **{name: Constructor(name.replace(" ", "."), make) for name, make in _MAKERS.items()},
    "uuid UUID": StoredUuid,
}
