"""Epochs that a store stands in for: how they are named, and kept as one text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def word_of(epoch: str) -> str:
    """Return the 64-bit hash of an epoch, as 16 digits: how a page and a store name it."""
    return hashlib.blake2b(epoch.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def words_in(text: str | None) -> frozenset[str]:
    """Return the words of epochs that a store keeps as one text."""
    return frozenset((text or "").split())


def with_words(text: str | None, words: Iterable[str]) -> str:
    """Return the text that also has these words; those that are there keep their places."""
    return " ".join(dict.fromkeys([*(text or "").split(), *sorted(words)]))
