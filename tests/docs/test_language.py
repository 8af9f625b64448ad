"""Words that must not come back: they are of a dialect that readers have to translate.

CONTRIBUTING.md says how to write. Code between backticks on a page is not looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.pages import ROOT

#: what is said instead
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"tell(s)? of (it|them)sel(f|ves)|told (of|by) (it|them)sel(f|ves)": "report, show, say",
    r"whoever|whomever": "who, one that, a process that",
    r"for ?ever": "permanently, until restarted",
    r"anew": "again",
    r"besides": "also",
    r"ill": "wrong, faulty",
    r"lets? us in": "accepts connections",
    r"look over the changes": "review changes",
    r"somebody else was faster": "someone else changed these settings",
}
_WORDS = re.compile("|".join(rf"\b(?:{word})\b" for word in INSTEAD), re.IGNORECASE)
_FOLDERS = (
    "uwsgi_waffle",
    "tests",
    "integration",
    "faults",
    "bench",
    "examples",
    "docs",
    ".github",
)
_KINDS = {".py", ".md", ".html", ".js", ".css", ".ini", ".yml", ".toml", ".lua", ".pml", ".sh"}


def files() -> Iterator[Path]:
    """Yield each file that people read, but for this one, which has the words."""
    alone = (ROOT / name for name in ("Makefile", "noxfile.py", ".ci/run", ".ci/skips.txt"))
    yield from (path for path in alone if path.exists())
    yield from ROOT.glob("*.md")
    for folder in _FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            built = {"_build", "__pycache__"} & set(path.parts)
            if path.suffix in _KINDS and not built and path != Path(__file__):
                yield path


def test_no_word_of_the_dialect_came_back() -> None:
    found = []
    for path in files():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            text = re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), text)
        for match in _WORDS.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0]}: say {_instead(match[0])}")
    assert not found, "\n".join(found)


def _instead(word: str) -> str:
    return next(
        plain for pattern, plain in INSTEAD.items() if re.fullmatch(pattern, word, re.IGNORECASE)
    )


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("Mend it.", True),
        ("It lasts for ever.", True),
        ("a report, told by itself", True),
        ("recommended, still, beside, amended", False),
    ],
)
def test_only_whole_words_are_found(sentence: str, found: bool) -> None:
    assert bool(_WORDS.search(sentence)) is found


def test_docstring_says_what_a_thing_is_or_does_not_what_it_is_about() -> None:
    found = []
    for path in sorted((ROOT / "uwsgi_waffle").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if text.startswith("What "):
                    found.append(f"{path.relative_to(ROOT)}: {text.splitlines()[0]}")
    assert not found, "\n".join(found)
