"""The notes of a store about itself, one text: epochs that it stands in for, apps that use it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

import msgspec


@functools.lru_cache(maxsize=8)
def word_of(epoch: str) -> str:
    """Return the 64-bit hash of an epoch, as 16 digits: how a page and a store name it."""
    return hashlib.blake2b(epoch.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def words_in(text: str | None) -> frozenset[str]:
    """Return the words of epochs that a store keeps as one text."""
    return frozenset((text or "").split())


def with_words(text: str | None, words: Iterable[str]) -> str:
    """Return the text that also has these words; those that are there keep their places."""
    return " ".join(dict.fromkeys([*(text or "").split(), *sorted(words)]))


def apps_in(text: str | None) -> dict[str, str]:
    """Return the records of apps that a store keeps as one text; none if it was damaged."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, str])
    except (msgspec.MsgspecError, RecursionError):
        return {}


def with_app(text: str | None, app: str, record: str) -> str:
    """Return the text that has this record of an app, in place of an earlier one."""
    return msgspec.json.encode({**apps_in(text), app: record}).decode()
