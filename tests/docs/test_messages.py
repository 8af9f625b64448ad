"""The page of messages has what the package raises and warns of in production, and nothing else.

The lines of the log have their own table: ``tests/reporting/test_log_messages.py``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import uwsgi_waffle
from uwsgi_waffle import errors

from ..support.pages import DOCS

PACKAGE = Path(uwsgi_waffle.__file__).parent
#: what a call of these makes is read by who operates a site; what commands say to the person who
#: has just typed them names its fix, and is not searched for
MAKERS = {
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, errors.WaffleError)
} | {"Unfound", "Unheard", "warn_app", "warnings.warn"}
#: of people who write a store, or whose words are on another page
ELSEWHERE = ("testing", "checks", "cli", "doctor", "legacy")
#: what keeps a process from serving a change, and what is wrong with the page
REASONS = ("why", "self.problem")
#: the table of what Redis says, which ends with the fix
FIXES = "_TABLE"
#: fewer letters than this are what other messages are put together from
LEAST = 12
_PIECE = re.compile(r"`([^`]+)`")


def text_of(node: ast.expr) -> str | None:
    """Return a string of the code, with an ellipsis for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(map(str, parts))
    return None


def texts_of(node: ast.expr, named: Mapping[str, str | None]) -> Iterator[str]:
    """Yield each string that an expression may be; names are those of the module."""
    if isinstance(node, ast.IfExp):
        yield from texts_of(node.body, named)
        yield from texts_of(node.orelse, named)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from texts_of(value, named)
    elif text := named.get(node.id) if isinstance(node, ast.Name) else text_of(node):
        yield text


def raised() -> Iterator[tuple[str, str]]:
    """Yield the file and the text of every error and warning."""
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE)
        if where.parts[0] in ELSEWHERE:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            target.id: text_of(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            given: list[ast.expr] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) in MAKERS:
                given = node.args[:1]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".failed"):
                given = node.args[1:2]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in REASONS:
                given = [node.value]
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == FIXES:
                assert isinstance(node.value, ast.Tuple)
                given = [row.elts[-1] for row in node.value.elts if isinstance(row, ast.Tuple)]
                # A name stands for what is put together elsewhere.
                given = [fix for fix in given if not isinstance(fix, ast.Name)]
            for text in (text for each in given for text in texts_of(each, named)):
                if len(re.findall(r"[^\W_]", text)) >= LEAST:
                    yield where.as_posix(), text


@cache
def rows() -> list[list[str]]:
    """Return for each row of the page the pieces of the message that it quotes."""
    text = (DOCS / "messages.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return [_PIECE.findall(cell) for cell in cells]


def has(message: str, pieces: list[str]) -> bool:
    """Return whether a message has all pieces, one after the other."""
    start = 0
    for piece in pieces:
        found = message.find(piece, start)
        if found < 0:
            return False
        start = found + len(piece)
    return True


@cache
def said() -> list[str]:
    """Return all strings of the package, and its public names."""
    found = list(uwsgi_waffle.__all__)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.expr) and (text := text_of(node)):
                found.append(re.sub(r"%[.\d]*[a-z]", "…", text))
    return found


def test_messages_were_found() -> None:
    assert len(set(raised())) > 60
    assert len(rows()) > 60


@pytest.mark.slow
def test_page_has_every_error_and_warning() -> None:
    missing = sorted(
        {
            f"{where}: {text}"
            for where, text in raised()
            if not any(has(text, row) for row in rows())
        }
    )
    assert not missing, "not on docs/messages.md:\n" + "\n".join(missing)


@pytest.mark.parametrize("row", rows(), ids=" … ".join)
def test_message_that_the_page_quotes_is_one_of_the_package(row: list[str]) -> None:
    assert any(has(line, row) for line in said())
