"""Pickles for the tests of moving over: plain ones, hostile ones, damaged ones."""

from __future__ import annotations

import base64
import builtins
import codecs
import collections
import copyreg
import functools
import operator
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from uwsgi_waffle.legacy.child.decode import decode

PROTOCOLS = range(6)

PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    255,
    70_000,
    2**40,
    -(2**70),
    1.5,
    float("-inf"),
    "",
    "Caffè ☕ \\u0041 \n\r'\"\x1a",
    b"",
    b"\x00\xff",
    [],
    [1, "a", [None]],
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    {},
    {"a": [1, (2, 3)], 5: None, None: True, 1.5: b"x"},
    set(),
    {1, "a", None},
    {(1, 2)},
    {(1, 2): 3},
    frozenset(),
    frozenset({1, 2}),
    bytearray(),
    bytearray(b"\x00\xff"),
    datetime(2016, 12, 31, 23, 59, 58, 999),
    datetime(2016, 10, 30, 2, 30, fold=1),
    datetime(2016, 1, 1, tzinfo=timezone.utc),
    date(1999, 2, 28),
    time(1, 2, 3, 4),
    time(1, 2, tzinfo=timezone(timedelta(hours=-3), "BRT")),
    timedelta(days=-1, seconds=5),
    timezone(timedelta(minutes=90)),
    Decimal("-1.50"),
    Decimal("Infinity"),
    uuid.UUID(int=7),
    {uuid.UUID(int=8): [uuid.UUID(int=9)] * 2},
    list(range(2500)),
    {str(number): number for number in range(2500)},
    ["the same text"] * 300,
]

#: texts that Python 2.7.18 made, by cPickle in protocols 0 and 2, of its plain strings and others
PYTHON_2: list[tuple[Any, str, str]] = [
    ("Café", "UydDYWZceGMzXHhhOScKcDAKLg==", "gAJVBUNhZsOpcQAu"),
    ("Café", "VkNhZukKcDAKLg==", "gAJYBQAAAENhZsOpcQAu"),
    (
        {"a": 1, "b": ["Café"]},
        "KGRwMApWYQpwMQpJMQpzVmIKcDIKKGxwMwpTJ0NhZlx4YzNceGE5JwpwNAphcy4=",
        "gAJ9cQAoWAEAAABhcQFLAVgBAAAAYnECXXEDVQVDYWbDqXEEYXUu",
    ),
    (
        {1, 2},
        "Y19fYnVpbHRpbl9fCnNldApwMAooKGxwMQpJMQphSTIKYXRwMgpScDMKLg==",
        "gAJjX19idWlsdGluX18Kc2V0CnEAXXEBKEsBSwJlhXECUnEDLg==",
    ),
    (
        datetime(2016, 12, 31, 23, 59, 58, 999),
        "Y2RhdGV0aW1lCmRhdGV0aW1lCnAwCihTJ1x4MDdceGUwXHgwY1x4MWZceDE3OzpceDAwXHgwM1x4ZTcnCnAxCnRw"
        "MgpScDMKLg==",
        "gAJjZGF0ZXRpbWUKZGF0ZXRpbWUKcQBVCgfgDB8XOzoAA+dxAYVxAlJxAy4=",
    ),
    (
        date(2016, 2, 29),
        "Y2RhdGV0aW1lCmRhdGUKcDAKKFMnXHgwN1x4ZTBceDAyXHgxZCcKcDEKdHAyClJwMwou",
        "gAJjZGF0ZXRpbWUKZGF0ZQpxAFUEB+ACHXEBhXECUnEDLg==",
    ),
    (
        time(1, 2, 3),
        "Y2RhdGV0aW1lCnRpbWUKcDAKKFMnXHgwMVx4MDJceDAzXHgwMFx4MDBceDAwJwpwMQp0cDIKUnAzCi4=",
        "gAJjZGF0ZXRpbWUKdGltZQpxAFUGAQIDAAAAcQGFcQJScQMu",
    ),
    (
        timedelta(1, 2, 3),
        "Y2RhdGV0aW1lCnRpbWVkZWx0YQpwMAooSTEKSTIKSTMKdHAxClJwMgou",
        "gAJjZGF0ZXRpbWUKdGltZWRlbHRhCnEASwFLAksDh3EBUnECLg==",
    ),
    (
        Decimal("1.50"),
        "Y2RlY2ltYWwKRGVjaW1hbApwMAooUycxLjUwJwpwMQp0cDIKUnAzCi4=",
        "gAJjZGVjaW1hbApEZWNpbWFsCnEAVQQxLjUwcQGFcQJScQMu",
    ),
    (
        uuid.UUID("935488bf-54a1-4011-abe4-38d821209b16"),
        "Y2NvcHlfcmVnCl9yZWNvbnN0cnVjdG9yCnAwCihjdXVpZApVVUlECnAxCmNfX2J1aWx0aW5fXwpvYmplY3QKcDIK"
        "TnRwMwpScDQKKGRwNQpTJ2ludCcKcDYKTDE5NTgzNTQ0MTg4Mjk3NjM3NjEyODcwODkxODEwMjM5NTQ5MzE0MkwK"
        "c2Iu",
        "gAJjdXVpZApVVUlECnEAKYFxAX1xAlUDaW50cQOKERabICHYOOSrEUChVL+IVJMAc2Iu",
    ),
    (
        {"z": 1, "a": 2},
        "Y2NvbGxlY3Rpb25zCk9yZGVyZWREaWN0CnAwCigobHAxCihscDIKVnoKcDMKYUkxCmFhKGxwNApWYQpwNQphSTIK"
        "YWF0cDYKUnA3Ci4=",
        "gAJjY29sbGVjdGlvbnMKT3JkZXJlZERpY3QKcQBdcQEoXXECKFgBAAAAenEDSwFlXXEEKFgBAAAAYXEFSwJlZYVx"
        "BlJxBy4=",
    ),
    (
        bytearray(b"\xff\x00"),
        "Y19fYnVpbHRpbl9fCmJ5dGVhcnJheQpwMAooVv8ACnAxClMnbGF0aW4tMScKcDIKdHAzClJwNAou",
        "gAJjX19idWlsdGluX18KYnl0ZWFycmF5CnEAWAMAAADDvwBxAVUHbGF0aW4tMXEChnEDUnEELg==",
    ),
    (
        [1, "a", (2, 3)],
        "KGxwMApJMQphVmEKcDEKYShJMgpJMwp0cDIKYS4=",
        "gAJdcQAoSwFYAQAAAGFxAUsCSwOGcQJlLg==",
    ),
    (True, "STAxCi4=", "gAKILg=="),
]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Shell:
    """Pickled as a call, as an attacker's would be."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def op(name: str) -> bytes:
    (code,) = (opcode.code for opcode in pickletools.opcodes if opcode.name == name)
    return code.encode("latin-1")


def text(value: str) -> bytes:
    return op("BINUNICODE") + struct.pack("<I", len(value.encode())) + value.encode()


def hostile(marker: Path) -> Iterator[tuple[str, bytes]]:
    """Yield pickles that would make the marker, or reach for what could."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    calls: dict[str, Shell] = {
        "os.system": Shell(os.system, touch),
        "eval": Shell(eval, code),
        "exec": Shell(exec, code),
        "open": Shell(open, str(marker), "w"),
        "import": Shell(__import__, "os"),
        "subprocess": Shell(subprocess.check_call, ["touch", str(marker)]),
        "getattr": Shell(getattr, [], "__class__"),
        "getattr chain": Shell(Shell(getattr, os, "system"), touch),  # type: ignore[arg-type]
        "partial": Shell(functools.partial, os.system, touch),
        "methodcaller": Shell(operator.methodcaller, "system", touch),
        "attrgetter": Shell(operator.attrgetter("system"), 1),
        "map": Shell(map, print, [1]),
        "loads": Shell(pickle.loads, pickle.dumps(Shell(os.system, touch))),
        "newobj": Shell(copyreg.__newobj__, Path, str(marker)),  # type: ignore[attr-defined]
        "compile": Shell(compile, code, "x", "exec"),
        "type": Shell(type, "X", (), {}),
        "path": Shell(Path, str(marker)),
        "exit": Shell(sys.exit, 1),
        "defaultdict": Shell(collections.defaultdict, list),
        "bytearray of a size": Shell(bytearray, 10**10),
        "bytes of a size": Shell(bytes, 10**10),
        "set of a dict": Shell(set, {"a": 1}),
        "datetime of a text": Shell(datetime, code),
        "datetime of numbers": Shell(datetime, 2016, 1, 1),
        "datetime of a short state": Shell(datetime, b"123"),
        "datetime of a wild state": Shell(datetime, b"\xff" * 10),
        "datetime of a zone that is none": Shell(datetime, b"\x07\xe0" + b"\x01" * 8, "UTC"),
        "time of a zone that is none": Shell(time, b"\x01" * 6, "UTC"),
        "OrderedDict of a text": Shell(collections.OrderedDict, "ab"),
        "OrderedDict of odd pairs": Shell(collections.OrderedDict, [["a"]]),
        "SafeUUID of a text": Shell(uuid.SafeUUID, "x"),
        "date of numbers": Shell(date, 2016, 1, 1),
        "time of a text": Shell(time, "x"),
        "timezone of a text": Shell(timezone, "x"),
        "timedelta of texts": Shell(timedelta, "1", "2", "3"),
        "Decimal of a tuple": Shell(Decimal, (0, (1,), 5)),
        "Decimal of nothing": Shell(Decimal, "x"),
        "Decimal of a long text": Shell(Decimal, "1" * 5000),
        "fromisoformat": Shell(datetime.fromisoformat, "2016-01-01"),
        "strptime": Shell(datetime.strptime, "2016", "%Y"),
        "utcfromtimestamp": Shell(datetime.fromtimestamp, 1),
        "UUID of a text": Shell(uuid.UUID, "935488bf-54a1-4011-abe4-38d821209b16"),
        "uuid1": Shell(uuid.uuid1),
        "object": Shell(object),
        "a function": Shell(Shell, 1),
        "OrderedDict of lists": Shell(collections.OrderedDict, [([1, 2], 3)]),
    }
    for name, shell in calls.items():
        for protocol in PROTOCOLS:
            for value in (shell, [shell], {"a": shell}, {1: (shell,)}):
                try:
                    yield f"{name} {protocol}", pickle.dumps(value, protocol)
                except (pickle.PicklingError, AttributeError):
                    continue  # not every protocol knows qualified names
    for function in (os.system, builtins.eval, datetime, set, copyreg._reconstructor):  # type: ignore[attr-defined]
        for protocol in PROTOCOLS:
            yield f"{function} {protocol}", pickle.dumps(function, protocol)
            yield f"[{function}] {protocol}", pickle.dumps([function], protocol)

    push_touch = text(touch)
    command = b"(" + push_touch + b"t"
    by_stack = text("os") + op("MEMOIZE") + text("system") + op("MEMOIZE")
    latin = b"c_codecs\nencode\n"
    blank = b"cuuid\nUUID\n)\x81"
    yield "stack global", b"\x80\x04" + by_stack + b"\x93" + push_touch + b"\x85R."
    yield (
        "stack global from the memo",
        b"\x80\x04" + by_stack + op("BINGET") + b"\x00" + op("BINGET") + b"\x01\x93)R.",
    )
    yield (
        "stack global of made-up texts",
        b"\x80\x04" + latin + text("os") + text("latin1") + b"\x86R" + text("system") + b"\x93.",
    )
    yield (
        "stack global through a list",
        b"\x80\x04](" + text("os") + b"e" + text("system") + b"\x93.",
    )
    yield "stack global, dotted", b"\x80\x04" + text("datetime") + text("datetime.now") + b"\x93)R."
    yield (
        "stack global, dotted module",
        b"\x80\x04" + text("os.path") + text("os.system") + b"\x93.",
    )
    yield "global, dotted", b"\x80\x04cdatetime\ndatetime.__init__.__globals__\n."
    yield "global with a space", b"cdatetime datetime\n\n."
    yield "global with another space", b"c\ndatetime datetime\n."
    yield "inst", b"(" + push_touch + b"ios\nsystem\n."
    yield "inst of an admitted class", b"(idatetime\ndatetime\n."
    yield "obj", b"(cos\nsystem\n" + push_touch + b"o."
    yield "newobj", b"\x80\x02cos\nsystem\n" + command + b"\x81."
    yield "newobj of datetime", b"\x80\x02cdatetime\ndatetime\n)\x81."
    yield "newobj with arguments", b"\x80\x02cuuid\nUUID\nK\x01\x85\x81."
    yield "newobj_ex", b"\x80\x04cuuid\nUUID\n)}\x92."
    yield "call of a text", text("os.system") + b")R."
    yield "call without a tuple", b"cdecimal\nDecimal\n]R."
    yield "ext1", b"\x80\x02\x82\x01."
    yield "ext2", b"\x80\x02\x83\x01\x00."
    yield "ext4", b"\x80\x02\x84\x01\x00\x00\x00."
    yield "persistent id", b"Pos.system\n."
    yield "binary persistent id", text("os.system") + b"Q."
    yield "buffer", b"\x80\x05\x97."
    for setting in (
        b"}" + text("__call__") + push_touch + b"s",
        b"N" + b"}" + text("x") + b"Ns\x86",
    ):
        yield "build on a global", b"cdatetime\ndatetime\n" + setting + b"b."
        yield "build on a class", b"cuuid\nUUID\n" + setting + b"b."
        yield "build on a function", b"c_codecs\nencode\n" + setting + b"b."
        yield "build on a decimal", b"cdecimal\nDecimal\n" + text("1") + b"\x85R" + setting + b"b."
        yield "build on a list", b"]" + setting + b"b."
        yield "build on a UUID", blank + setting + b"b."
    good = b"}" + text("int") + b"K\x01s"
    yield "build twice", blank + good + b"b" + good + b"b."
    yield "build twice by the memo", blank + b"q\x00" + good + b"bh\x00" + good + b"b\x86."
    yield "UUID without a state", blank + b"."
    yield "UUID of a text", blank + b"}" + text("int") + text("1") + b"sb."
    yield "UUID of a wild number", blank + b"}" + text("int") + b"J\xff\xff\xff\xffsb."
    yield (
        "reconstructor of another class",
        b"ccopy_reg\n_reconstructor\n(cdatetime\ndatetime\nc__builtin__\nobject\nNtR.",
    )
    yield (
        "reconstructor of another base",
        b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\ncuuid\nUUID\nNtR.",
    )
    yield (
        "reconstructor with a state",
        b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\nc__builtin__\nobject\nK\x01tR.",
    )
    yield (
        "add_extension",
        b"ccopy_reg\nadd_extension\n(" + text("os") + text("system") + b"K\x01tR.",
    )
    yield "another codec", latin + text("00") + text("hex") + b"\x86R."
    yield "a codec that is no text", latin + text("00") + b"]\x86R."
    yield "setitem on a list", b"]K\x00Ns."
    yield "append on a dict", b"}Na."
    yield "append on a global", b"cbuiltins\nset\nNa."
    yield "additems on a list", b"\x80\x04](Ne(N\x90."
    yield "a global as a key", b"}cbuiltins\nset\nNs."
    yield "a global within", b"\x80\x02cdatetime\ndatetime\n\x85."
    yield "popped", b"cos\nsystem\n0N."
    yield "duplicated", b"]2a."


def damaged() -> Iterator[tuple[str, bytes]]:
    """Yield what is no pickle, or takes all memory or time."""
    yield "no pickle", b"\xff\xfe"
    yield "nothing but an end", b"."
    yield "no end", b"N"
    yield "no mark", b"t."
    yield "no mark, with items", b"NNe."
    yield "a mark at the end", b"("
    yield "a mark as the value", b"(."
    yield "after its end", b"N.N."
    yield "two pickles", pickle.dumps(1) + pickle.dumps(2)
    yield "newer protocol", b"\x80\x06N."
    yield "large frame", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN."
    yield "large place of the memo", b"Nr\xff\xff\xff\x7f."
    yield "place of the memo that takes a gigabyte", b"Nr" + struct.pack("<I", 2**26) + b"."
    yield "large place of the memo, as text", b"Np99999999999\n."
    yield "negative place of the memo", b"Np-1\n."
    yield "missing place of the memo", b"h\x05."
    yield "large LONG4", b"\x8b\xff\xff\xff\x7f."
    yield "negative LONG4", b"\x8b\xff\xff\xff\xff."
    yield "large BYTEARRAY8", b"\x96" + struct.pack("<Q", 2**40) + b"."
    yield "large BINBYTES8", b"\x8e" + struct.pack("<Q", 2**62) + b"."
    yield "large BINUNICODE", b"X\xff\xff\xff\xff."
    yield "large integer", pickle.dumps(2**500_000)
    yield "large integer as text", b"L" + b"9" * 100_000 + b"L\n."
    yield "not a number", b"Ix\n."
    yield "not a float", b"Fx\n."
    yield "not UTF-8", b"X\x01\x00\x00\x00\xff."
    yield "old string, not UTF-8", b"U\x01\xff."
    yield "old string, no quotes", b"Sx\n."
    yield "surrogates that end", b"V\\ud8\n."
    yield "odd dict", b"(Nd."
    yield "odd items", b"}(Nu."
    yield "list as a key", b"}]Ns."
    yield "deep list", b"]" * 50_000 + b"a" * 49_999 + b"."
    yield "deep tuple", b")" + b"\x85" * 100_000 + b"."
    yield "deep tuple as a key", b"})" + b"\x85" * 100_000 + b"Ns."
    yield "deep tuple within a set", b"\x80\x04\x8f()" + b"\x85" * 100_000 + b"\x90."
    yield "deep dict", b"}" + b"N}" * 30_000 + b"s" * 30_000 + b"."
    laughs = b"\x80\x04)\x94"
    for place in range(60):
        laughs += b"(" + b"h" + bytes([place]) + b"h" + bytes([place]) + b"t\x94"
    yield "billion laughs", laughs + b"."
    yield "billion laughs as a key", laughs + b"}h" + bytes([60]) + b"Ns."
    lists: list[Any] = ["ha"] * 9
    for _ in range(12):
        lists = [lists] * 9
    yield "billion laughs of lists", pickle.dumps(lists)
    shared = b"]q\x00](" + b"h\x00" * 5000 + b"e"
    yield "list that grows after it was shared", shared + b"h\x00(" + b"K\x01" * 5000 + b"e\x87."
    yield "large text, often", pickle.dumps(["x" * 10_000] * 1000)
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    yield "list that holds itself", pickle.dumps(holds_itself)
    yield "dict that holds itself", b"}q\x00Nh\x00s."
    in_a_tuple: list[Any] = []
    in_a_tuple.append((in_a_tuple,))
    yield "tuple that holds itself", pickle.dumps(in_a_tuple[0])


#: odd pickles that are plain values all the same
ODD: list[tuple[str, bytes, object]] = [
    ("obj of an admitted class", b"(cdecimal\nDecimal\n" + text("1") + b"o.", Decimal(1)),
    (
        "call of UUID",
        b"\x80\x02cuuid\nUUID\n)R}" + text("int") + b"K\x01sb.",
        uuid.UUID(int=1),
    ),
    ("read-only buffer", b"\x80\x05C\x01a\x98.", b"a"),
    ("two values", b"NN.", None),
]

CASES = [*hostile(Path("/nowhere")), *damaged()]


class Watch:
    """Keeps the audit events of this interpreter while a pickle is read in it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._on = False
        # Python imports this codec of its own when a pickle of protocol 0 first needs it.
        codecs.lookup("raw-unicode-escape")
        sys.addaudithook(self._hook)  # there is no way to remove one

    def decode(self, data: bytes) -> Any:
        """Read a pickle in this process, without the limits of the child."""
        self._on = True
        try:
            return decode(data)
        finally:
            self._on = False

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if self._on:
            self.seen.append(event)
