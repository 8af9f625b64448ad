"""What the page of messages quotes is what the package says."""

from __future__ import annotations

import ast
import re

import pytest

import uwsgi_waffle

from ..support.pages import DOCS, ROOT


def quoted() -> list[str]:
    """Return every piece of a message that the page quotes in the first column of a table."""
    text = (DOCS / "faq.md").read_text(encoding="utf-8").partition("## Messages")[2]
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return [piece for row in rows for piece in re.findall(r"`([^`]+)`", row)]


@pytest.fixture(scope="module")
def said() -> str:
    """All strings of the package; a line each."""
    found = list(uwsgi_waffle.__all__)
    for path in sorted((ROOT / "uwsgi_waffle").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
                found.append("".join(parts))
    return "\n".join(found)


def test_page_quotes_messages() -> None:
    assert len(quoted()) > 20


@pytest.mark.parametrize("piece", quoted())
def test_message_that_the_page_quotes_is_one_of_the_package(piece: str, said: str) -> None:
    assert piece in said
