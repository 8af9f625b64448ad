"""The JSON text that a value is kept and compared as."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Set
from typing import Any

import msgspec

#: the longest raw text that is taken, in bytes of UTF-8: each worker holds it in memory
MAX_BYTES = 1 << 20
_SHOWN = 100
_PLAIN = frozenset({str, int, float, bool, type(None)})


def too_long(raw: str) -> str:
    """Return what is wrong with a raw text that is too long; empty if it is not."""
    # No character has more than four bytes, so that nearly none need be encoded.
    if len(raw) * 4 <= MAX_BYTES:
        return ""
    size = len(raw.encode(errors="surrogatepass"))
    if size <= MAX_BYTES:
        return ""
    return (
        f"it has {size:,} bytes as JSON, and at most {MAX_BYTES:,} are kept: put it into a file, "
        "and keep the file's name here"
    )


def cut(raw: str) -> str:
    """Return a raw text for people, and to be held: one that is too long is cut, and is no JSON."""
    return f"{raw[:_SHOWN]}…" if too_long(raw) else raw


def dump(value: Any) -> str:
    """Return the JSON text of a value, the same in every process.

    The items of a set come sorted: their own order depends on the hash seed. Keys of a dict stay
    in its order, which may mean something.

    :raises Exception: it can't be written as JSON; a declared class runs its own code here.
    """
    return msgspec.json.encode(_ordered(value)).decode()


def _ordered(value: Any) -> Any:
    """Return what is encoded like a value, with a list in the place of each set."""
    # Nearly all: the questions below take longer than to encode one.
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Set):
        return _sorted(value) if value else value
    if isinstance(value, dict):
        items = {key: _ordered(item) for key, item in value.items()}
        return items if any(items[key] is not item for key, item in value.items()) else value
    if isinstance(value, (list, tuple)):
        ordered = [_ordered(item) for item in value]
        same = all(one is other for one, other in zip(ordered, value, strict=True))
        return value if same else ordered
    if isinstance(value, msgspec.Struct):
        return _with_fields(value, value.__struct_fields__, msgspec.structs.force_setattr)
    if dataclasses.is_dataclass(value):
        names = [item.name for item in dataclasses.fields(value)]
        return _with_fields(value, names, object.__setattr__)
    return value


def _sorted(items: Set[Any]) -> list[Any]:
    if all(type(item) in (int, float) for item in items):
        return sorted(items)
    return [msgspec.Raw(text.encode()) for text in sorted(map(dump, items))]


def _with_fields(value: Any, names: Iterable[str], assign: Callable[[Any, str, Any], None]) -> Any:
    fields = {name: getattr(value, name) for name in names}
    ordered = {name: _ordered(item) for name, item in fields.items()}
    if all(ordered[name] is item for name, item in fields.items()):
        return value
    # A copy, which runs no __post_init__ again: that would not expect a list.
    twin = copy.copy(value)
    for name, item in ordered.items():
        assign(twin, name, item)
    return twin
