"""The page of docs has every message that the package logs, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import uwsgi_waffle

PACKAGE = Path(uwsgi_waffle.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
LOGGER = "uwsgi_waffle"


SAYING = ("debug", "info", "warning", "error", "exception")


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node.func.attr, node


def logged() -> Iterator[tuple[str, str]]:
    """Yield level and text of every call of a logger; what is filled in is an ellipsis."""
    for name, node in calls():
        assert isinstance(node.func, ast.Attribute)
        # Not addFilter() and the like.
        if ast.unparse(node.func.value) != "logger" or name not in SAYING:
            continue
        level = {"exception": "ERROR"}.get(name, name.upper())
        texts = [
            each.value
            for each in ast.walk(node.args[0])
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        assert texts, f"a message that can't be read in the code: {ast.unparse(node)}"
        for text in texts:
            yield level, re.sub(r"%[.\d]*[a-z]", "…", text)


@pytest.mark.slow
def test_page_has_every_message_with_its_level_and_no_other() -> None:
    rows = re.findall(r"^\| (DEBUG|INFO|WARNING|ERROR) \| (.*?) \| ", PAGE, re.MULTILINE)
    wanted = set(logged())
    where = "the table under Logs in docs/operating.md"
    assert (wanted - set(rows), f"not in {where}") == (set(), f"not in {where}")
    assert (set(rows) - wanted, f"only in {where}") == (set(), f"only in {where}")
    assert len(rows) == len(wanted)


@pytest.mark.slow
def test_page_names_the_one_logger_there_is() -> None:
    names = {
        ast.literal_eval(node.args[0])
        for name, node in calls()
        if name == "getLogger" and isinstance(node.args[0], ast.Constant)
    }
    assert names == {LOGGER}
    assert f"The logger is `{LOGGER}`" in PAGE


def test_page_names_every_field() -> None:
    keys = {
        key.value
        for path in (PACKAGE / "reporting" / "events.py", PACKAGE / "process" / "health.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
        and isinstance(key.value, str)
        and key.value.startswith("waffle_")
    }
    assert len(keys) > 10
    section = PAGE.partition("## Logs")[2]
    assert {f"`{key}`" for key in keys} == set(re.findall(r"`waffle_\w+`", section))


def test_no_message_says_that_good_settings_are_served_whatever_is() -> None:
    """Defaults may be: see describe_source()."""
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html")]:
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert not re.search(r"last good (settings|values) (are|is) served", text), path
