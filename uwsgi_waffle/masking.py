"""Texts for people: secrets are masked, nothing steers a terminal, one thing is not "1 things"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

#: stands for a value that may not be shown; no JSON text, so it is not taken for a value
MASK = "********"
# A shorter one would mask half of any text.
_SHORTEST = 4


class OwnRepr(msgspec.Struct, frozen=True):
    """A record that may hold secrets: it is shown by the ``repr`` that its class has.

    rich, which prints tracebacks with their locals, asks a struct for all of its fields.
    """

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


def redact(text: str) -> str:
    """Return a text in which every URL's password is masked."""
    # Up to the last @, because a password that nobody quoted may hold one itself.
    text = re.sub(r"(\w://[^/@\s:]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&]\w*(?:passw(?:or)?d|passphrase)=)[^&\s]*", r"\1***", text)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return a text in which none of these texts is shown, unless it has less than 4 characters."""
    # The longest first: one may begin another, whose rest would be left.
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text


def forms(value: Any, raw: str) -> Iterator[str]:
    """Yield the texts that would show a value: as Python and JSON write it, whole and in parts.

    :param raw: JSON text of the value.
    """
    yield raw
    yield raw.strip('"')
    yield from _parts(value)


def _parts(value: Any) -> Iterator[str]:
    yield str(value)
    # With what a repr escapes, and without its quotes.
    yield repr(value)[1:-1] if isinstance(value, (str, bytes)) else repr(value)
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _parts(item)


def visible(text: str) -> str:
    """Return a text on one line, in which nothing can steer the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, which ends in "…" if some were left out."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def counted(number: int, noun: str, several: str = "") -> str:
    """Return "1 setting" or "2 settings".

    :param several: the plural, unless an "s" makes it.
    """
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def json_text(value: Any, *, indent: int = 2) -> str:
    """Return a JSON document in which every character that is not printable is an escape.

    :param value: what msgspec can encode; its strings may also hold bytes that are no UTF-8, as
        the names of files do.
    :param indent: 0 for one line.
    """
    text = json.dumps(
        msgspec.to_builtins(value),
        ensure_ascii=False,
        indent=indent or None,
        separators=None if indent else (",", ":"),
    )
    return re.sub(r"[^\n -~]", lambda match: _escape(match[0]), text)


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
