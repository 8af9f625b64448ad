"""Settings as they are, were, and would be after a change, for people."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec

from ..errors import StoreError, StoreMissing
from ..masking import MASK
from ..settings.declarations import Declaration, differ, type_name
from ..settings.shapes import Shape, shape_of
from ..snapshot import Snapshot
from ..stores.base import HistoryEntry
from ..stores.soundness import Found, sound_entries
from .base import Difference, HistoryItem, Origin, SettingInfo, Settings, is_same, show_raw
from .neighbours import kept_for_others

_HISTORY_STEP = 256
# More than a history can have, and no more than every database takes.
_MOST_ENTRIES = 2**31 - 1


def describe(state: Settings, *, show_secrets: bool = False) -> list[SettingInfo]:
    """Return every declared setting with its value, in the order of their declarations.

    Reads nothing but memory: the request's own snapshot, or the newest of this process.
    """
    snapshot = state.snapshot
    return [
        _describe(declaration, snapshot, shown=show_secrets or not declaration.secret)
        for declaration in state.declarations.values()
    ]


def history(
    state: Settings,
    *,
    name: str | None = None,
    author: str | None = None,
    since: datetime | None = None,
    revision: int | None = None,
    limit: int = 100,
    show_secrets: bool = False,
) -> Found[HistoryItem]:
    """Return the newest committed changes of one setting, or of all, newest first.

    Its ``damaged`` says how many rows were left out because another program has spoilt them.

    :param author: only those that this author made.
    :param since: only those that were committed since then, by the clock of who made them.
    :param revision: only those of this revision.
    :raises StoreUnavailable: the store can't be read within its bound.
    """

    def wanted(entry: HistoryEntry) -> bool:
        return (
            (author is None or entry.author == author)
            and (since is None or entry.at >= since)
            and (revision is None or entry.revision == revision)
        )

    limit = max(0, min(limit, _MOST_ENTRIES))
    anything = author is None and since is None and revision is None
    step = limit if anything else max(limit, _HISTORY_STEP)
    while True:
        entries = read_history(state, name=name, limit=step)
        found = [entry for entry in entries if wanted(entry)]
        reaches = revision is not None and bool(entries) and entries[-1].revision < revision
        if len(found) >= limit or len(entries) + entries.damaged < step or reaches:
            items = Found(_item(state, entry, show_secrets) for entry in found[:limit])
            items.damaged = entries.damaged
            return items
        step *= 4


def history_since(
    state: Settings, revision: int, *, show_secrets: bool = False
) -> list[HistoryItem]:
    """Return the changes that were committed after a revision, oldest first.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    entries = entries_since(state, revision)
    newer = [entry for entry in entries if entry.revision > revision]
    # Stable, so that the names of one change stay in their order.
    newer.sort(key=lambda entry: entry.revision)
    return [_item(state, entry, show_secrets) for entry in newer]


def preview(
    state: Settings, raws: Mapping[str, str | None], *, show_secrets: bool = False
) -> list[Difference]:
    """Return what a change would alter; settings that it leaves as they are don't appear.

    :param raws: mapping of setting name to JSON text, or ``None`` for the default.
    """
    stored = state.snapshot.stored
    return [
        Difference(
            name,
            show_raw(state, name, stored.get(name), show_secrets=show_secrets),
            show_raw(state, name, raw, show_secrets=show_secrets),
        )
        for name, raw in raws.items()
        if not is_same(state.declarations.get(name), stored.get(name), raw)
    ]


def undeclared(state: Settings) -> list[str]:
    """Return the names that are stored and declared neither here nor by another living app, sorted.

    None, if the store can't be asked what others declare. Blocks for at most its bound.
    """
    names = sorted(name for name in state.snapshot.stored if name not in state.declarations)
    try:
        left = kept_for_others(state, names) if names else {}
    except StoreError:
        return []
    return [name for name in names if name not in left]


def read_history(state: Settings, *, name: str | None = None, limit: int) -> Found[HistoryEntry]:
    """Return the newest entries of the store, newest first; what is damaged is left out.

    Before it returns one that is newer than the settings of this process, those are refreshed:
    a request that starts anywhere on this host after this sees what the entry says.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    try:
        entries = sound_entries(state.store.history(name=name, limit=limit))
    except StoreMissing:
        if state.snapshot.epoch:
            raise
        # None was made yet, and a command that only reads makes none.
        return Found()
    if entries and entries[0].revision > state.snapshot.revision:
        state.refresh()
    return entries


def _item(state: Settings, entry: HistoryEntry, show_secrets: bool) -> HistoryItem:
    return HistoryItem(
        entry.revision,
        entry.name,
        show_raw(state, entry.name, entry.old_raw, show_secrets=show_secrets),
        show_raw(state, entry.name, entry.new_raw, show_secrets=show_secrets),
        entry.author,
        entry.reason,
        entry.at,
    )


def entries_since(state: Settings, revision: int) -> list[HistoryEntry]:
    """Return the newest entries, newest first, at least as far back as a revision.

    Fewer, if the store's history does not reach that far.
    """
    limit = _HISTORY_STEP
    while True:
        entries = read_history(state, limit=limit)
        # An entry of the revision itself, or an older one, shows that none is missing.
        if len(entries) + entries.damaged < limit or (entries and entries[-1].revision <= revision):
            return entries
        limit *= 4


def _describe(declaration: Declaration, snapshot: Snapshot, *, shown: bool) -> SettingInfo:
    name = declaration.name
    value, default = snapshot.by_name[name], declaration.default
    raw, fault = snapshot.stored.get(name), snapshot.faults.get(name)
    origin: Origin = "config" if declaration.default_from == "config" else "default"
    base = default
    if declaration.pinned:
        origin = "pinned"
    elif fault is not None:
        origin = "fault"
    elif raw is not None:
        origin, base = "stored", declaration.decoder.decode(raw)
    if differ(base, value):
        origin = "override"
    shape = shape_of(declaration.type)
    low, high = shape.bounds(declaration.min, declaration.max)
    return SettingInfo(
        name=name,
        desc=declaration.desc,
        group=declaration.group,
        type=_type_text(shape),
        value=value if shown else MASK,
        default=default if shown else MASK,
        raw=raw if shown or raw is None else MASK,
        origin=origin,
        secret=declaration.secret,
        fault=fault,
        min=low,
        max=high,
        choices=_builtins(declaration.allowed) if shown else None,
        default_from=declaration.default_from,
        pinned=declaration.pinned,
    )


def _type_text(shape: Shape) -> str:
    # Constraints belong to the declaration, and would fill the line.
    base = shape.base
    plain = isinstance(base, type) and typing.get_origin(base) is None
    return (base.__name__ if plain else type_name(base)) + (" or null" if shape.optional else "")


def _builtins(choices: Collection[Any] | None) -> tuple[Any, ...] | None:
    return None if choices is None else tuple(map(msgspec.to_builtins, choices))
