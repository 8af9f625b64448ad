"""Plain text tables for a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

_GAP = 2
_NARROWEST = 8


def table(header: Sequence[str], rows: Sequence[Sequence[str]], flexible: Sequence[int]) -> str:
    """Return rows under a header, without a newline at the end.

    :param flexible: indices of the columns whose cells are cut, with an ellipsis, to make a
        line fit the terminal; 80 columns if there is none.
    """
    lines = [[visible(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    room = shutil.get_terminal_size().columns - _GAP * (len(header) - 1)
    room -= sum(width for column, width in enumerate(widths) if column not in flexible)
    # The narrow ones first: what they don't need is left to the wide ones.
    left = len(flexible)
    for column in sorted(flexible, key=widths.__getitem__):
        widths[column] = min(widths[column], max(room // left, _NARROWEST))
        room -= widths[column]
        left -= 1
    return "\n".join(
        (" " * _GAP)
        .join(cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True))
        .rstrip()
        for line in lines
    )


def cut(text: str, width: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def visible(text: str) -> str:
    """Return a text on one line, in which nothing can steer the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
