"""The pages of the documentation: their fenced blocks, their links and their headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[^\s`]*)[^`]*$")
_MARKER = re.compile(r"<!-- (not run|run by): (.+) -->$")
_LINK = re.compile(r"\]\(([^()\s]+(?:\([^()\s]*\))?)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} (.+)$")
_CODE = re.compile(r"`+[^`]+`+")


class Block(NamedTuple):
    """A fenced block.

    :ivar line: where it begins, from 1.
    :ivar marker: "not run" or "run by", or empty.
    :ivar because: what follows the marker: the reason, or the tests that run it.
    """

    page: str
    line: int
    language: str
    code: str
    marker: str
    because: str

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page: those of the docs site, and those at the root of the repository."""
    found = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    return sorted([*ROOT.glob("*.md"), *found])


def name(page: Path) -> str:
    """Return the path of a page within the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page; directives of the docs site are none."""
    opened: re.Match[str] | None = None
    first, marker, code = 0, ("", ""), list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened is None:
            opened, first, code = _FENCE.match(line), number, []
            if opened is None and line.strip():
                found = _MARKER.match(line.strip())
                marker = (found[1], found[2]) if found else ("", "")
        elif line.strip() == opened["ticks"]:
            language = opened["language"]
            if not language.startswith("{"):
                text = "".join(f"{inner}\n" for inner in code)
                yield Block(name(page), first, language, text, *marker)
            opened, marker = None, ("", "")
        else:
            code.append(line.removeprefix(opened["indent"]))
    assert opened is None, f"{name(page)}:{first}: the block has no end"


def prose(page: Path) -> str:
    """Return a page without its fenced blocks; the lines keep their numbers."""
    kept, opened = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        if opened is None:
            opened = _FENCE.match(line)
            kept.append("" if opened else line)
        else:
            kept.append("")
            if line.strip() == opened["ticks"]:
                opened = None
    return "\n".join(kept)


def links(page: Path) -> list[tuple[int, str]]:
    """Return the targets of all links and pictures of a page, each with its line."""
    text = _CODE.sub(lambda code: " " * len(code[0]), prose(page))
    return [(text.count("\n", 0, found.start()) + 1, found[1]) for found in _LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the docs site make them."""
    seen: Counter[str] = Counter()
    found = set()
    for line in prose(page).splitlines():
        heading = _HEADING.match(line)
        if heading is None:
            continue
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found
