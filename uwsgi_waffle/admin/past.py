"""The history as a person may see it: changes, by whom and when."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from itertools import groupby
from typing import Literal, NamedTuple

from .. import operations
from ..app_state import WaffleState
from ..errors import StoreError
from ..stores.base import HistoryEntry
from .access import Access
from .shown import Shown, show

#: what a store raises on a row that another program wrote
DAMAGED = (ValueError, TypeError, OverflowError, LookupError)
_MEANWHILE_LIMIT = 200
#: settings whose last change is older are shown without it
_LAST_LIMIT = 1000

By = Literal["others", "you", "nameless"]


class Item(NamedTuple):
    """One setting in one change that was made.

    :ivar title: its label, or its name.
    """

    revision: int
    name: str
    title: str
    old: Shown
    new: Shown
    author: str | None
    reason: str | None
    at: datetime


class Made(NamedTuple):
    """A change that was made: everything of one revision, which has at least one item."""

    revision: int
    items: list[Item]


class Asked(NamedTuple):
    """Which changes of the history are wanted."""

    name: str | None = None
    author: str | None = None
    since: datetime | None = None

    def wants(self, entry: HistoryEntry) -> bool:
        """Return whether a sound entry is one of them."""
        return (self.author is None or entry.author == self.author) and (
            self.since is None or _aware(entry.at) >= self.since
        )


def make_history(
    state: WaffleState, asked: Asked, access: Access, *, page: int, size: int
) -> tuple[list[Made], bool, int]:
    """Return one page of the history by revision, newest first, whether older ones follow, and
    how many rows were left out because they are damaged.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    wanted, limit = page * size + 1, page * size + 1
    while True:
        found = operations.read_history(state, name=asked.name, limit=limit)
        entries = [
            entry for entry in found if asked.wants(entry) and may_see(state, access, entry.name)
        ]
        if len(entries) >= wanted or len(found) + found.damaged < limit:
            break
        limit *= 4
    made = []
    for revision, group in groupby(entries[(page - 1) * size : page * size], lambda e: e.revision):
        made.append(Made(revision, [_item(state, entry) for entry in group]))
    return made, len(entries) > page * size, found.damaged


def made_since(state: WaffleState, revision: int, access: Access) -> list[Item]:
    """Return what was changed after a revision, newest first, as far as that is known."""
    if revision >= state.snapshot.revision:
        return []
    with contextlib.suppress(StoreError, *DAMAGED):
        return [
            _item(state, entry)
            for entry in operations.read_history(state, limit=_MEANWHILE_LIMIT)
            if entry.revision > revision and may_see(state, access, entry.name)
        ]
    return []


def made_by(state: WaffleState, revision: int, author: str | None) -> By:
    """Return who made the changes after a revision: ``you`` is the author, if one is known.

    One who presses Save twice makes a change, and meets it in the answer to the second.
    """
    authors: set[str | None] = set()
    with contextlib.suppress(StoreError, *DAMAGED):
        entries = operations.read_history(state, limit=_MEANWHILE_LIMIT)
        authors = {entry.author or None for entry in entries if entry.revision > revision}
    if authors != {author or None}:
        return "others"
    return "you" if author else "nameless"


def last_changes(state: WaffleState) -> dict[str, HistoryEntry]:
    """Return the newest change of each setting, as far as the store can say."""
    last: dict[str, HistoryEntry] = {}
    with contextlib.suppress(StoreError, *DAMAGED):
        for entry in operations.read_history(state, limit=_LAST_LIMIT):
            last.setdefault(entry.name, entry)
    return last


def title_of(state: WaffleState, name: str) -> str:
    """Return what a setting is called on the pages: its label, or its name."""
    declaration = state.declarations.get(name)
    return name if declaration is None else declaration.label or name


def may_see(state: WaffleState, access: Access, name: str) -> bool:
    """Return whether a person may know of a setting, also of one that is no longer declared."""
    declaration = state.declarations.get(name)
    return access.view is True if declaration is None else access.may_view(declaration)


def _item(state: WaffleState, entry: HistoryEntry) -> Item:
    declaration = state.declarations.get(entry.name)
    return Item(
        entry.revision,
        entry.name,
        title_of(state, entry.name),
        show(declaration, entry.old_raw),
        show(declaration, entry.new_raw),
        entry.author,
        entry.reason,
        entry.at,
    )


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
