"""The mask that stands for a secret, and what puts it into texts that are logged or raised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: stands for a value that may not be shown; no JSON text, so it is not taken for a value
MASK = "********"
# A shorter one would mask half of any text.
_SHORTEST = 4


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
