"""Settings of every type, as many as a grown site has, and what people type into them."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec


class Tone(enum.Enum):
    INFO = "info"
    WARNING = "warning"


class Limits(msgspec.Struct):
    per_minute: int = 10
    burst: bool = False
    note: str = ""


#: stands for a value that is refused
BAD: Any = object()


class Typed(NamedTuple):
    """What somebody types: mapping of a field's prefix to texts, and the value it means."""

    fields: dict[str, list[str]]
    value: Any


def text(text: str, value: Any) -> Typed:
    return Typed({"v": [text]}, value)


def switch(on: bool) -> Typed:
    return Typed({"v": ["false", "true"] if on else ["false"]}, on)


UTC = timezone.utc
#: of each kind: type, default, and what is typed
KINDS: dict[str, tuple[Any, Any, list[Typed]]] = {
    "SWITCH": (bool, False, [switch(True), switch(False)]),
    "COUNT": (int, 5, [text("7", 7), text("-3", -3), text("many", BAD), text("", BAD)]),
    "COUNT_OR_NONE": (int | None, 5, [text("8", 8), text("", None), text("x", BAD)]),
    "RATIO": (float, 0.5, [text("1.25", 1.25), text("1e3", 1000.0), text("1-2", BAD)]),
    "PRICE": (Decimal, Decimal("1.50"), [text("2.00", Decimal("2.00")), text("a", BAD)]),
    "TITLE": (str, "Shop", [text("New <b>", "New <b>"), text(" x ", " x "), text("", "")]),
    "NOTE": (
        str | None,
        None,
        [
            text("hello", "hello"),
            Typed({"v": [""]}, ""),
            Typed({"v": [""], "n": ["1"]}, None),
        ],
    ),
    "SHORT": (
        Annotated[str, msgspec.Meta(max_length=8)],
        "ok",
        [text("fine", "fine"), text("much too long", BAD)],
    ),
    "TERMS": (
        Annotated[str, msgspec.Meta(max_length=500)],
        "",
        [text("a\r\nb\r\n", "a\nb\n"), text("\r\n x", "\n x"), text("y" * 501, BAD)],
    ),
    "TONE": (Tone, Tone.INFO, [text('"warning"', Tone.WARNING), text('"info"', Tone.INFO)]),
    "PLAN": (Literal["free", 1, None], "free", [text("1", 1), text("null", None)]),
    "DAY": (date, date(2026, 5, 31), [text("2027-01-02", date(2027, 1, 2)), text("", BAD)]),
    "AT": (
        datetime,
        datetime(2026, 5, 31, 12, tzinfo=UTC),
        [text("2027-01-02T03:04", datetime(2027, 1, 2, 3, 4, tzinfo=UTC)), text("", BAD)],
    ),
    "CLOCK": (time | None, time(8), [text("09:30", time(9, 30)), text("", None)]),
    "KEEP": (
        timedelta,
        timedelta(hours=1),
        [text("8 h 30 min", timedelta(hours=8, minutes=30)), text("soon", BAD)],
    ),
    "ID": (UUID, UUID(int=1), [text(str(UUID(int=2)), UUID(int=2)), text("1", BAD)]),
    "TAGS": (list[str], ["a"], [text("x\r\ny z", ["x", "y z"]), text("", [])]),
    "PORTS": (set[int], {80}, [text("80\r\n443", {80, 443}), text("80\r\nx", BAD)]),
    "DAYS": (
        list[Literal["mo", "tu", "we"]],
        ["mo"],
        [
            Typed({"vb": ["1"], "v": ['"tu"', '"we"']}, ["tu", "we"]),
            Typed({"vb": ["1"]}, []),
        ],
    ),
    "QUOTAS": (
        dict[str, int],
        {"free": 1},
        [
            Typed({"vk": ["team", "x y"], "vv": ["5", "6"]}, {"team": 5, "x y": 6}),
            # More rows than the page has: some are added.
            Typed(
                {"vk": [*"abcdef"], "vv": [*"123456"]},
                {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6},
            ),
            Typed({"vk": ["team"], "vv": ["lots"]}, BAD),
            Typed({"vk": [""], "vv": ["5"]}, BAD),
        ],
    ),
    "LIMITS": (
        Limits,
        Limits(),
        [
            Typed(
                {
                    "vs": ["per_minute", "burst", "note"],
                    "v0": ["20"],
                    "v1": ["false", "true"],
                    "v2": ["hi"],
                },
                Limits(20, True, "hi"),
            ),
            Typed(
                {
                    "vs": ["per_minute", "burst", "note"],
                    "v0": ["fast"],
                    "v1": ["false"],
                    "v2": ["kept"],
                },
                BAD,
            ),
        ],
    ),
    "TREE": (dict[str, Any], {"a": 1}, [text('{"b": [1]}', {"b": [1]}), text('{"b": ', BAD)]),
    "TOKEN": (str, "hush-1", [text("hush-2", "hush-2"), text("hush-3", "hush-3")]),
}
GROUPS = ("Shop", "Mail", "Search", None)
SECRETS = ("TOKEN", "TOKEN_2")


def _declare() -> dict[str, dict[str, Any]]:
    confs: dict[str, dict[str, Any]] = {}
    for turn in ("", "_2"):
        for number, (kind, (type_, default, _)) in enumerate(KINDS.items()):
            confs[kind + turn] = {
                "desc": f"A setting of {kind.lower().replace('_', ' ')}",
                "default": default,
                "type": type_,
                "group": GROUPS[number % len(GROUPS)],
                "secret": kind == "TOKEN",
                "label": kind.replace("_", " ").capitalize() if turn else None,
            }
    return confs


#: the names of KINDS, each twice
MANY: dict[str, dict[str, Any]] = _declare()


def typed_for(name: str) -> list[Typed]:
    """Return what may be typed into a setting."""
    return KINDS[name.removesuffix("_2")][2]
