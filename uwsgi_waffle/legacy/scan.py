"""Proves of a pickle, before it is loaded, that it builds plain data and not too much of it.

The scan follows the kinds of what lies on the stack, as ``pickletools`` describes each opcode. It
makes no value; that is left to the unpickler, which only ever sees what passed.
"""

from __future__ import annotations

import enum
import io
import pickletools
from collections.abc import Iterator, Sequence
from typing import Any

from .admitted import ADMITTED, OBJECT, UUID
from .limits import MAX_WEIGHT, LegacyError

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_NEWEST_PROTOCOL = 5


class Kind(enum.Enum):
    """What an item of the stack will be."""

    MARK = enum.auto()
    GLOBAL = enum.auto()
    TEXT = enum.auto()
    ATOM = enum.auto()
    TUPLE = enum.auto()
    LIST = enum.auto()
    DICT = enum.auto()
    SET = enum.auto()
    FROZENSET = enum.auto()
    BLANK_UUID = enum.auto()


class Item:
    """Something on the stack.

    :ivar weight: how much it holds: items and characters, as often as they occur.
    :ivar text: a text itself, or the module and name of a global.
    """

    __slots__ = ("kind", "text", "weight")

    def __init__(self, kind: Kind, weight: int = 1, text: str = "") -> None:
        self.kind = kind
        self.weight = weight
        self.text = text


_NUMBERS = ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"]
_BYTES = ["BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"]
_OLD_STRINGS = ["STRING", "BINSTRING", "SHORT_BINSTRING"]
_ATOMS = ["NONE", "NEWTRUE", "NEWFALSE", *_NUMBERS, *_BYTES, *_OLD_STRINGS]
_TEXTS = ["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"]

# What an opcode of plain data leaves on the stack.
_MAKES = {
    "MARK": Kind.MARK,
    **dict.fromkeys(_ATOMS, Kind.ATOM),
    **dict.fromkeys(_TEXTS, Kind.TEXT),
    **dict.fromkeys(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), Kind.TUPLE),
    **dict.fromkeys(("EMPTY_LIST", "LIST"), Kind.LIST),
    **dict.fromkeys(("EMPTY_DICT", "DICT"), Kind.DICT),
    "EMPTY_SET": Kind.SET,
    "FROZENSET": Kind.FROZENSET,
}
# What an opcode adds to, and the opcodes that add.
_ADDS = {
    "APPEND": Kind.LIST,
    "APPENDS": Kind.LIST,
    "SETITEM": Kind.DICT,
    "SETITEMS": Kind.DICT,
    "ADDITEMS": Kind.SET,
}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_RESULTS = {
    "builtins set": Kind.SET,
    "__builtin__ set": Kind.SET,
    "builtins frozenset": Kind.FROZENSET,
    "__builtin__ frozenset": Kind.FROZENSET,
    "collections OrderedDict": Kind.DICT,
    "copy_reg _reconstructor": Kind.BLANK_UUID,
}


def scan(data: bytes) -> bool:
    """Check that a pickle is plain data; return whether it holds strings of Python 2.

    :raises LegacyError: it does not end, goes on after its end, is damaged or too large; or uses
        an opcode, a name or a call that plain data does not need.
    """
    return _Scan().run(data)


class _Scan:
    def __init__(self) -> None:
        self.stack: list[Item] = []
        self.memo: dict[int, Item] = {}
        self.weight = 0

    def run(self, data: bytes) -> bool:
        has_old_strings = False
        for opcode, arg in _read(data):
            name = opcode.name
            self._spend(1 + _size(arg))
            has_old_strings = has_old_strings or name in _OLD_STRINGS
            if name in _PUTS:
                self._put(arg)
                continue
            if name in _GETS:
                item = self._got(arg)
                # What is repeated is paid for each time.
                self._spend(item.weight)
                self.stack.append(item)
                continue
            made = self._make(name, arg, self._take(opcode))
            if made is not None:
                self.stack.append(made)
        if self.stack:
            raise LegacyError("it leaves something over")
        return has_old_strings

    def _make(self, name: str, arg: Any, taken: Sequence[Item]) -> Item | None:
        kind = _MAKES.get(name)
        if kind is not None:
            if name == "FROZENSET":
                _check_hashed(taken)
            elif name == "DICT":
                _check_hashed(taken[::2])
            weight = 1 + _size(arg) + sum(item.weight for item in taken)
            return Item(kind, weight, arg if kind is Kind.TEXT else "")
        if name in _ADDS:
            return _add(name, taken[0], taken[1:])
        if name == "MEMOIZE":
            self._put(len(self.memo), taken[0])
            return taken[0]
        if name == "GLOBAL":
            return _global(arg)
        if name == "STACK_GLOBAL":
            return _stack_global(*taken)
        if name in ("REDUCE", "NEWOBJ", "BUILD"):
            return _call(name, *taken)
        if name == "STOP":
            return None
        if name == "PROTO":
            if arg > _NEWEST_PROTOCOL:
                raise LegacyError(f"it is of protocol {arg}, newest known is {_NEWEST_PROTOCOL}")
            return None
        if name == "FRAME":
            return None
        raise LegacyError(f"it uses the opcode {name}, which plain data does not need")

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[Item]:
        """Return what an opcode takes from the stack, in order, without a mark."""
        before = opcode.stack_before
        if pickletools.markobject not in before:
            return self._pop(len(before))
        size = 0
        while size < len(self.stack) and self.stack[-1 - size].kind is not Kind.MARK:
            size += 1
        items = self._pop(size)
        if not self.stack:
            raise LegacyError("it is damaged: a mark is missing")
        self.stack.pop()
        return self._pop(before.index(pickletools.markobject)) + items

    def _pop(self, count: int) -> list[Item]:
        if count == 0:
            return []
        items = self.stack[-count:]
        if len(items) < count or any(item.kind is Kind.MARK for item in items):
            raise LegacyError("it is damaged: an item is missing")
        del self.stack[-count:]
        return items

    def _spend(self, weight: int) -> None:
        self.weight += weight
        if self.weight > MAX_WEIGHT:
            raise LegacyError("it holds too much")

    def _put(self, index: int, item: Item | None = None) -> None:
        # The unpickler makes room for every index below: a large one would take all memory.
        if not 0 <= index <= len(self.memo) + 1:
            raise LegacyError("it is damaged: it skips a place of the memo")
        if item is None:
            (item,) = self._pop(1)
            self.stack.append(item)
        self.memo[index] = item

    def _got(self, index: int) -> Item:
        try:
            return self.memo[index]
        except KeyError:
            raise LegacyError("it is damaged: it misses a place of the memo") from None


def _read(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    """Yield each opcode with its argument, as ``pickletools.genops`` would.

    That one fails on a string of Python 2 that is not ASCII.
    """
    stream = io.BytesIO(data)
    while True:
        code = stream.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise LegacyError("it is no pickle" if code else "it is cut off")
        arg: Any = None
        if opcode.name == "STRING":
            arg = stream.readline()
        elif opcode.arg is not None:
            try:
                arg = opcode.arg.reader(stream)
            except Exception as exc:  # whatever a damaged number or text leads to
                raise LegacyError(f"the opcode {opcode.name} has a damaged argument") from exc
        if opcode.name == "FRAME" and arg > len(data) - stream.tell():
            raise LegacyError("it is cut off")
        yield opcode, arg
        if opcode.name == "STOP":
            break
    if stream.tell() != len(data):
        raise LegacyError("it goes on after its end")


def _size(arg: Any) -> int:
    if isinstance(arg, int):
        return arg.bit_length() // 8
    return len(arg) if isinstance(arg, (str, bytes, bytearray)) else 0


def _check_hashed(items: Sequence[Item]) -> None:
    for item in items:
        if item.kind in (Kind.TUPLE, Kind.FROZENSET):
            raise LegacyError("it has a tuple or a frozenset as a key, or within a set")


def _add(name: str, target: Item, items: Sequence[Item]) -> Item:
    if target.kind is not _ADDS[name]:
        raise LegacyError(f"it uses the opcode {name} on what is no {_ADDS[name].name.lower()}")
    if target.kind is Kind.DICT:
        _check_hashed(items[::2])
    elif target.kind is Kind.SET:
        _check_hashed(items)
    # The memo holds the same item: what is fetched from it later weighs what it holds then.
    target.weight += sum(item.weight for item in items)
    return target


def _global(name: str) -> Item:
    if name not in ADMITTED:
        shown = name.replace(" ", ".")[:100]
        raise LegacyError(f"it refers to {shown}, which is not on the list of plain types")
    return Item(Kind.GLOBAL, 1, name)


def _stack_global(module: Item, name: Item) -> Item:
    if module.kind is not Kind.TEXT or name.kind is not Kind.TEXT:
        raise LegacyError("it hides what it refers to")
    return _global(f"{module.text} {name.text}")


def _call(opcode: str, target: Item, args: Item) -> Item:
    weight = target.weight + args.weight
    if opcode == "BUILD":
        if target.kind is Kind.BLANK_UUID and args.kind is Kind.DICT:
            return Item(Kind.ATOM, weight)
        raise LegacyError("it sets attributes of an object")
    if args.kind is not Kind.TUPLE or target.kind is not Kind.GLOBAL:
        raise LegacyError("it calls what is no plain type")
    if (opcode == "NEWOBJ") != (target.text == UUID) or target.text == OBJECT:
        raise LegacyError(f"it calls {target.text.replace(' ', '.')}")
    kind = Kind.BLANK_UUID if opcode == "NEWOBJ" else _RESULTS.get(target.text, Kind.ATOM)
    return Item(kind, weight)
