"""Words that must not come back: they are of a dialect that readers have to translate.

CONTRIBUTING.md says how to write. Code between backticks on a page is not looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
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
#: on pages, where there is no code in whose terms they could be meant
INSTEAD_ON_PAGES = {
    r"meanwhile": "while …",
    r"tells?|told|telling": "report, show, say",
    r"somebody|nobody": "someone, no one",
    r"of ours": "the package's",
    r"save for every worker": "save",
    r"served now": "current",
}
#: made by bench/report.py
OTHERS = {ROOT / "docs" / "bench.md"}


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{word})\b" for word in words), re.IGNORECASE)


_WORDS = _any_of(INSTEAD)
_WORDS_OF_PAGES = _any_of([*INSTEAD, *INSTEAD_ON_PAGES])
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
        words = _WORDS
        if path.suffix == ".md":
            text = re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), text)
            words = _WORDS if path in OTHERS else _WORDS_OF_PAGES
        for match in words.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0]}: say {_instead(match[0])}")
    assert not found, "\n".join(found)


def _instead(word: str) -> str:
    return next(
        plain
        for pattern, plain in {**INSTEAD, **INSTEAD_ON_PAGES}.items()
        if re.fullmatch(pattern, word, re.IGNORECASE)
    )


def test_no_message_of_the_package_has_a_word_that_pages_must_not_have() -> None:
    found = []
    for path in sorted((ROOT / "uwsgi_waffle").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
        docstrings = {id(value) for value in statements}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in docstrings:
                text = node.value if isinstance(node.value, str) else ""
                found += [
                    f"{path.relative_to(ROOT)}:{node.lineno}: {match[0]}: say {_instead(match[0])}"
                    for match in _WORDS_OF_PAGES.finditer(text)
                ]
    assert not found, "\n".join(found)


def test_no_message_counts_one_thing_as_several() -> None:
    """It would say "1 settings"; :func:`~uwsgi_waffle.masking.counted` does not."""
    # Apart from constants, reprs, and what is more than one where it is said.
    other = r"_?MA|len\((name|reason|texts|reports|self\.text)\)"
    other += r"|self\.revision|self\.processes|where\.workers"
    counted = re.compile(
        rf"\{{(?!{other})[^{{}}]+\}} "
        r"(settings|workers|processes|hosts|rows|reports|entries|revisions|items|characters)\b"
    )
    found = []
    for path in sorted((ROOT / "uwsgi_waffle").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := counted.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


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
