"""Output for people: tables and texts in which nothing can steer the terminal."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence

import click

from ..masking import json_text as json_text
from ..masking import visible as visible

_GAP = 2
_NARROWEST = 8
# Where nothing is cut, one value of 1 MiB would make each of 10,000 lines as long.
_WIDEST = 80


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    flexible: Sequence[int],
    colors: Sequence[str | None] = (),
) -> str:
    """Return rows under a header, without a newline at the end.

    :param flexible: indices of the columns whose cells are cut, with an ellipsis, to make a
        line fit the terminal. Where there is none, nothing is cut, and a cell of more than 80
        columns moves the rest of its line.
    :param colors: the color of each row; :func:`click.echo` leaves it out where there is no
        terminal.
    """
    lines = [[visible(cell) for cell in row] for row in [header, *rows]]
    widths = [max(cells(line[column]) for line in lines) for column in range(len(header))]
    if is_terminal():
        _narrow(widths, flexible)
        lines = [list(map(cut, line, widths)) for line in lines]
    else:
        widths = [min(width, _WIDEST) for width in widths]
    texts = [(" " * _GAP).join(map(_padded, line, widths)).rstrip() for line in lines]
    texts[0] = click.style(texts[0], bold=True)
    for index, color in enumerate(colors, 1):
        if color is not None:
            texts[index] = click.style(texts[index], fg=color)
    return "\n".join(texts)


def print_document(text: str) -> None:
    """Print a text that programs read: in a pipe or a file as UTF-8, whatever the locale is."""
    # What the locale can't write would become a Python escape, which no JSON knows.
    click.echo(text if is_terminal() else text.encode(errors="backslashreplace"), nl=False)


def _narrow(widths: list[int], flexible: Sequence[int]) -> None:
    room = shutil.get_terminal_size().columns - _GAP * (len(widths) - 1)
    room -= sum(width for column, width in enumerate(widths) if column not in flexible)
    # The narrow ones first: what they don't need is left to the wide ones.
    left = len(flexible)
    for column in sorted(flexible, key=widths.__getitem__):
        widths[column] = min(widths[column], max(room // left, _NARROWEST))
        room -= widths[column]
        left -= 1


def is_terminal() -> bool:
    """Return whether a person reads the standard output, not a file or a program."""
    return sys.stdout.isatty()


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def cut(text: str, width: int) -> str:
    """Return a text that takes at most so many columns, with an ellipsis if it is cut."""
    if cells(text) <= width:
        return text
    end, taken = 0, 1
    while taken + _cells(text[end]) <= width:
        taken += _cells(text[end])
        end += 1
    return text[:end] + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def _cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Mn":
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def safe(text: str) -> str:
    """Return a text for the terminal on its own lines; as it is where there is no terminal."""
    if not is_terminal():
        return text
    return re.sub(r"[^\n\t -~]", lambda match: visible(match[0]), text)
