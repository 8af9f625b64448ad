"""Tables and texts for people."""

from __future__ import annotations

import pytest

from uwsgi_waffle.cli import tables
from uwsgi_waffle.cli.tables import cells, cut, json_text, safe, table, visible


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")


ROWS = [("SITENAME", "ワッフル店"), ("LIMIT", "5"), ("BANNER", "e\u0301te\u0301 🧇")]


def test_columns_stand_under_each_other_whatever_the_script() -> None:
    header, *lines = table(("NAME", "VALUE"), ROWS, flexible=(1,)).splitlines()
    assert "NAME      VALUE" in header
    assert lines == ["SITENAME  ワッフル店", "LIMIT     5", "BANNER    e\u0301te\u0301 🧇"]
    padded = table(("A", "B"), [("ワ", "x"), ("yy", "z")], flexible=()).splitlines()
    assert padded[1:] == ["ワ  x", "yy  z"]


def test_wide_text_is_cut_to_the_terminal(terminal: None) -> None:
    lines = table(("NAME", "VALUE"), [("SITENAME", "ワッフル店" * 20)], flexible=(1,)).splitlines()
    assert lines[1].endswith("…")
    assert 28 <= cells(lines[1]) <= 30


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("ワッフル", 8, "ワッフル"),
        ("ワッフル", 7, "ワッフ…"),
        ("ワッフル", 6, "ワッ…"),
        ("ワッフル", 1, "…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_text_is_cut_by_columns_not_by_characters(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown
    assert cells(shown) <= width


def test_long_cell_does_not_widen_the_lines_of_others_where_nothing_is_cut() -> None:
    rows = [("BLOB", "x" * 100_000, "str"), ("LIMIT", "5", "int")]
    _, long, short = table(("NAME", "VALUE", "TYPE"), rows, flexible=(1,)).splitlines()
    assert long == f"BLOB   {'x' * 100_000}  str"
    assert short == f"LIMIT  5{' ' * 79}  int"


def test_rows_are_colored_whole() -> None:
    lines = table(("A",), [("1",), ("2",)], flexible=(), colors=["red", None]).splitlines()
    assert lines == ["\x1b[1mA\x1b[0m", "\x1b[31m1\x1b[0m", "2"]


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\ufeff"])
def test_nothing_that_steers_a_terminal_is_left(char: str, terminal: None) -> None:
    for text in (visible(char), safe(char), json_text(char), json_text({char: [char]}, indent=0)):
        assert char not in text
        assert text.isprintable()
    assert safe("a\tb\nc") == "a\tb\nc"
