"""The difference of two texts, by lines and within them by words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

#: of longer texts the words are not compared, which would take too long
_MAX_WORDS = 2000
_MAX_LINES = 4000
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


class Row(NamedTuple):
    """One line of a difference.

    :ivar kind: ``same``, ``old``, ``new``, ``both`` or ``gap``.
    :ivar parts: pairs of a mark, ``+``, ``-`` or nothing, and a text.
    """

    kind: str
    parts: list[tuple[str, str]]


def diff(old: str, new: str) -> list[Row]:
    """Return how one text becomes another; lines far from any change are left out."""
    olds, news = old.split("\n"), new.split("\n")
    if len(olds) == len(news) == 1:
        return [Row("both", list(_words(old, new)))]
    if len(olds) + len(news) > _MAX_LINES:
        return [Row("old", [("-", old)]), Row("new", [("+", new)])]
    matcher = difflib.SequenceMatcher(None, olds, news, autojunk=False)
    rows: list[Row] = []
    for group in matcher.get_grouped_opcodes(2):
        if rows or group[0][1] > 0:
            rows.append(Row("gap", [("", "…")]))
        for tag, a, b, c, d in group:
            if tag == "equal":
                rows += [Row("same", [("", line)]) for line in olds[a:b]]
            elif tag == "replace" and b - a == d - c:
                pairs = zip(olds[a:b], news[c:d], strict=True)
                rows += [Row("both", list(_words(one, other))) for one, other in pairs]
            else:
                rows += [Row("old", [("-", line)]) for line in olds[a:b]]
                rows += [Row("new", [("+", line)]) for line in news[c:d]]
    return rows


def _words(old: str, new: str) -> Iterator[tuple[str, str]]:
    olds, news = _WORDS.findall(old), _WORDS.findall(new)
    if len(olds) + len(news) > _MAX_WORDS:
        yield from (("-", old), ("+", new))
        return
    for tag, a, b, c, d in difflib.SequenceMatcher(None, olds, news, autojunk=False).get_opcodes():
        if tag == "equal":
            yield "", "".join(olds[a:b])
            continue
        if a < b:
            yield "-", "".join(olds[a:b])
        if c < d:
            yield "+", "".join(news[c:d])
