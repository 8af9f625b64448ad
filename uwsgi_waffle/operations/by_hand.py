"""Settings that were changed in the database by hand, without an entry in the history."""

from __future__ import annotations

from collections.abc import Collection

from ..masking import MASK
from ..stores.base import HistoryEntry
from .base import Settings, is_same
from .describe import read_history

_STEP = 10_000


def changed_by_hand(state: Settings, names: Collection[str] | None = None) -> frozenset[str]:
    """Return the declared settings whose stored value is not what the history says.

    Reads the whole store and its whole history. What has no entry counts only if the history goes
    back to the first change; a backup that left out a secret says nothing of it.

    :param names: look at these only.
    :raises StoreUnavailable: the store can't be read within its bound.
    """
    delta = state.store.read_since(0, "")
    stored = {name: raw for name, raw in delta.rows if raw is not None}
    entries = [entry for entry in _whole_history(state) if entry.revision <= delta.revision]
    newest: dict[str, HistoryEntry] = {}
    for entry in entries:
        newest.setdefault(entry.name, entry)
    is_whole = bool(entries) and entries[-1].revision <= 1
    return frozenset(
        name
        for name, declaration in state.declarations.items()
        if names is None or name in names
        if (entry_ := newest.get(name)) is not None or (is_whole and name in stored)
        if entry_ is None
        or (entry_.new_raw != MASK and not is_same(declaration, stored.get(name), entry_.new_raw))
    )


def by_hand_notice(names: Collection[str]) -> str:
    """Return the sentence for people about settings that a rollback leaves as they are."""
    return (
        f"changed in the database without an entry in the history, so this leaves them as they "
        f"are: {', '.join(sorted(names))}"
    )


def _whole_history(state: Settings) -> list[HistoryEntry]:
    limit = _STEP
    while True:
        entries = read_history(state, limit=limit)
        if len(entries) + entries.damaged < limit:
            return entries
        limit *= 8
