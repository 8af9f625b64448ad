"""The JSON text that a value is kept as."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest

from uwsgi_waffle import ConfigurationError
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.settings.raws import MAX_BYTES, dump


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Shop(msgspec.Struct, frozen=True, omit_defaults=True):
    tags: frozenset[str] = frozenset()
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.tags, frozenset):
            raise TypeError("tags must be a set")


@dataclass(frozen=True)
class Team:
    members: frozenset[str]


class Pair(NamedTuple):
    tags: frozenset[str]
    number: int


LETTERS = frozenset("abcdefgh")
SORTED = json.dumps(sorted(LETTERS), separators=(",", ":"))


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        ({10, 9, -1}, "[-1,9,10]"),
        (LETTERS, SORTED),
        ({Color.RED, Color.BLUE}, '["blue","red"]'),
        ([{"k": LETTERS}], f'[{{"k":{SORTED}}}]'),
        (frozenset({LETTERS}), f"[{SORTED}]"),
        (Shop(LETTERS), f'{{"tags":{SORTED}}}'),
        (Shop(), "{}"),
        (Team(LETTERS), f'{{"members":{SORTED}}}'),
        (Pair(LETTERS, 1), f"[{SORTED},1]"),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
    ],
)
def test_items_of_sets_are_sorted_and_all_else_keeps_its_order(value: Any, raw: str) -> None:
    assert dump(value) == raw


def test_value_is_not_altered_by_being_written() -> None:
    shop = Shop(LETTERS)
    dump(shop)
    assert shop.tags is LETTERS


def test_raw_text_of_a_set_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "from uwsgi_waffle.settings.declare import declare;"
        "d = declare({'X': {'desc': 'x', 'default': set(), 'type': set[str]}})['X'];"
        "print(d.encode(set('abcdefgh')))"
    )
    raws = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            text=True,
            capture_output=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert raws == {SORTED}


def test_raw_text_of_a_set_comes_back_the_same() -> None:
    spec = {"desc": "x", "default": set(), "type": set[Color]}
    declaration = declare({"X": spec})["X"]
    raw = declaration.encode({Color.RED, Color.BLUE})
    assert declaration.encode(declaration.decode(raw)) == raw


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("x" * (MAX_BYTES - 2), True),
        ("x" * (MAX_BYTES - 1), False),
        ("🧇" * (MAX_BYTES // 4), False),
        ("🧇" * (MAX_BYTES // 4 - 1), True),
    ],
)
def test_raw_text_is_bounded_in_bytes_of_utf_8(value: str, fits: bool) -> None:
    declaration = declare({"X": {"desc": "d", "default": ""}})["X"]
    if fits:
        assert declaration.decode(declaration.encode(value)) == value
        return
    for refused in (declaration.encode, declaration.parse):
        with pytest.raises(ValueError, match=r"at most 1,048,576 are kept: put it into a file"):
            refused(value)
    with pytest.raises(ConfigurationError, match=r"the default does not fit: it has 1,048,57\d"):
        declare({"X": {"desc": "d", "default": value}})
