"""Settings as JSON and TOML documents."""

from __future__ import annotations

import sys

import pytest

from uwsgi_waffle.cli import documents
from uwsgi_waffle.cli.documents import DocumentError

VALUES = {
    "NAME": 'Ünï "code" 🧇\nline',
    "LIMIT": -5,
    "RATIO": 0.5,
    "ON": True,
    "TAGS": ["a", "b"],
    "TABLE": {"x": {"y": [1, {"z": 2}]}},
    "EMPTY": "",
    "NOTHING": [],
    "NO TABLE": {},
    "steering": "\x00\x1b[31m \x7f\x85\x9b \u202e\u2028\ufeff \U000e0001 \\ud83e\\udd5e\t",
    "LARGE": 1e300,
    "SMALL": -1e-7,
    "HUGE": 2**62,
    "Ü.a": [["x", {"y z": []}], True],
}


@pytest.mark.parametrize("format_", ["json", "toml"])
def test_document_comes_back_as_it_was_written(format_: documents.Format) -> None:
    text = documents.dump(VALUES, format_)
    assert text.endswith("\n")
    assert all(line.isprintable() for line in text.split("\n"))
    assert documents.load(text.encode(), format_) == VALUES


def test_null_is_null_in_json_and_a_comment_in_toml() -> None:
    values = {"A": None, "B": 1}
    assert documents.load(documents.dump(values, "json").encode(), "json") == values
    text = documents.dump(values, "toml")
    assert '# "A" is null\n' in text
    assert documents.load(text.encode(), "toml") == {"B": 1}


def test_null_in_a_comment_cannot_leave_its_line() -> None:
    text = documents.dump({"A\nB = 1": None}, "toml")
    assert documents.load(text.encode(), "toml") == {}


@pytest.mark.parametrize("value", [[None], {"a": None}, [{"a": [1, None]}]])
def test_null_within_a_value_is_refused_in_toml(value: object) -> None:
    with pytest.raises(DocumentError, match="the null within A: use JSON"):
        documents.dump({"A": value, "B": 1}, "toml")


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        (b"{", "json"),
        (b"", "json"),
        (b"\xff", "json"),
        (b"[" * 100_000, "json"),
        (b"a = ", "toml"),
        (b"\xff", "toml"),
    ],
)
def test_other_text_is_refused(text: bytes, format_: documents.Format) -> None:
    with pytest.raises(DocumentError, match=f"it is not {format_.upper()}"):
        documents.load(text, format_)


def test_document_maps_names_to_values() -> None:
    with pytest.raises(DocumentError, match="does not map"):
        documents.load(b"[1]", "json")


def test_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(DocumentError, match=r"uwsgi-waffle\[toml\]"):
        documents.load(b"A = 1", "toml")
