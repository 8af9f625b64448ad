"""Tokens: what a person has seen of the settings, to be carried to another host."""

from __future__ import annotations

import re

import msgspec

from ..snapshot import Snapshot
from ..stores.epochs import word_of
from .page import identity_of

_TEXT = re.compile(r"([0-9]{1,18})-([0-9a-f]{16})-([0-9a-f]{16})", re.ASCII)


class Token(msgspec.Struct, frozen=True):
    """One state of a store: its revision, with the hashes of its identity and its epoch.

    Shows no value, and neither the mark nor the epoch themselves.
    """

    revision: int
    identity: str
    epoch: str

    @classmethod
    def of(cls, snapshot: Snapshot) -> Token:
        """Return the token of what a snapshot was read from."""
        return cls(snapshot.revision, identity_of(snapshot).hex(), word_of(snapshot.epoch))

    @classmethod
    def parse(cls, text: str | None) -> Token | None:
        """Return the token that a text holds, or ``None``: it may come from a stranger."""
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        return None if found is None else cls(int(found[1]), found[2], found[3])

    def __str__(self) -> str:
        return f"{self.revision}-{self.identity}-{self.epoch}"

    def is_of(self, snapshot: Snapshot) -> bool:
        """Return whether a snapshot is of this very state."""
        return Token.of(snapshot) == self


class Reached:
    """The tokens that a process has reached; any thread may call every method.

    A token is reached by a read of the store that began after it was first seen here, whatever
    that read found: it was given out after its change was committed. That the own revision is
    higher shows nothing, for a backup may have been restored since.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._tokens: set[Token] = set()

    def __contains__(self, token: Token) -> bool:
        return token in self._tokens

    def add(self, token: Token) -> None:
        """Keep a token; when there are too many, all others are forgotten, and cost a read."""
        if len(self._tokens) >= self._limit:
            self._tokens = set()
        self._tokens.add(token)
