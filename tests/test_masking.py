"""Secrets and passwords do not show in texts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from uwsgi_waffle.masking import MASK, counted, json_text, mask, redact, visible
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Delta, Row, advance, initial_snapshot, mask_secrets


def masked(text: str, *values: object, type_: Any = Any) -> str:
    """Return a text masked by secret settings with these values."""
    confs = {
        f"S{number}": {"desc": "d", "default": value, "type": type_, "secret": True}
        for number, value in enumerate(values)
    }
    declarations = declare({**confs, "OPEN": {"desc": "d", "default": "public"}})
    return mask_secrets(text, initial_snapshot(declarations), declarations)


def test_secret_is_masked_wherever_it_stands() -> None:
    assert masked("key=sesame&x=sesame; public", "sesame") == f"key={MASK}&x={MASK}; public"


@pytest.mark.parametrize("values", [("sesame", "sesame-open"), ("sesame-open", "sesame")])
def test_secret_that_another_one_begins_is_masked_whole(values: tuple[str, str]) -> None:
    assert masked("it is sesame-open", *values) == f"it is {MASK}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a "quoted" one', r'bad JSON: "a \"quoted\" one"'),
        ("two\nlines", r"got 'two\nlines'"),
        ("Ünï\x00", r"got 'Ünï\x00'"),
        (["first", "second"], 'row is ["first","second"]'),
        (["first", "second"], "got ['first', 'second']"),
        (["first", "second"], "item second is bad"),
        ({"user": "ann!", "key": ["deep-key"]}, "KeyError: 'deep-key'"),
        ({"user": "ann!", "key": ["deep-key"]}, '{"user":"ann!","key":["deep-key"]}'),
        (123456, "got 123456"),
        (b"bytes!", "Ynl0ZXMh"),
    ],
)
def test_secret_is_masked_as_json_as_python_and_in_its_parts(value: object, text: str) -> None:
    shown = masked(text, value, type_=type(value))
    assert MASK in shown
    for part in ("quoted", "lines", "Ün", "first", "second", "ann!", "deep", "3456", "0ZX"):
        assert part not in shown


def test_stored_value_is_masked_and_so_is_one_that_does_not_fit() -> None:
    declarations = declare({"S": {"desc": "d", "default": 1, "secret": True}})
    delta = Delta(1, "e", (Row("S", '"open-sesame"'),), complete=True)
    snapshot = advance(initial_snapshot(declarations), delta, declarations)
    assert snapshot.faults
    assert mask_secrets("it holds open-sesame", snapshot, declarations) == f"it holds {MASK}"


def test_short_secret_does_not_mask_half_of_a_text() -> None:
    assert masked("a text of any kind", "a", "an", "any") == "a text of any kind"
    assert mask("any kind", ["kind"]) == f"any {MASK}"


def test_setting_that_is_not_secret_is_shown() -> None:
    assert masked("public", "sesame") == "public"


@pytest.mark.parametrize(
    ("char", "text"),
    [
        ("\x7f", "\\u007f"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
        # Beyond the 16 bits of one escape.
        ("\U000e0001", "\\udb40\\udc01"),
        ("é", "é"),
    ],
)
def test_json_document_escapes_what_can_not_be_printed(char: str, text: str) -> None:
    document = json_text([char], indent=0)
    assert document == f'["{text}"]'
    assert json.loads(document) == [char]


def test_secret_is_masked_without_the_quotes_of_its_repr() -> None:
    assert masked("it is \\x01abcd!", "\x01abcd") == f"it is {MASK}!"


def test_mask_is_no_json() -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(MASK)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:p@ss@host/db", "postgresql://ann:***@host/db"),
        ("redis://:secret@host", "redis://:***@host"),
        ("mysql://host/db?password=x&ssl=1", "mysql://host/db?password=***&ssl=1"),
        ("sqlite:///waffle.db", "sqlite:///waffle.db"),
    ],
)
def test_password_of_a_url_is_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_json_document_is_indented_for_people_and_on_one_line_for_programs() -> None:
    assert json_text({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'
    assert json_text({"a": [1], "b": 2}, indent=0) == '{"a":[1],"b":2}'


def test_text_on_one_line_steers_no_terminal() -> None:
    assert visible("é a\x1b[2J\n\u202e") == "é a\\x1b[2J\\n\\u202e"


def test_one_thing_is_not_said_to_be_several() -> None:
    assert [counted(number, "setting") for number in (0, 1, 2)] == [
        "0 settings",
        "1 setting",
        "2 settings",
    ]
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
