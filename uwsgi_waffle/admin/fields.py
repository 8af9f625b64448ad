"""The settings of the form, each with its control, under the headings of their groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import operations
from ..app_state import WaffleState
from ..operations import SettingInfo
from ..settings.raws import dump
from ..stores.base import HistoryEntry
from .access import NO_GROUP, Access
from .drafts import Draft, Entry, fingerprint, key_of, prove, widget_of
from .past import last_changes
from .shown import Shown, legible, show
from .texts import describe, in_full, write
from .widgets import Part, Widget

#: of each dict: so many can be added before the page is sent
_SPARE_ROWS = 2


@dataclass(frozen=True)
class Field:
    """One setting on the page.

    :ivar text: what stands in the control.
    :ivar matches: it is among what was searched for.
    :ivar again: a secret was typed, which is never sent back, so it has to be typed again.
    :ivar edited: something was typed or ticked already.
    :ivar error: what is wrong with what was typed, or an empty text.
    """

    info: SettingInfo
    key: str
    widget: Widget
    text: str
    null: bool
    reset: bool
    base: str
    default: Shown
    matches: bool
    again: bool
    error: str
    edited: bool = False
    proof: str = ""
    forgotten: bool = False
    title: str = ""
    locked: bool = False
    pinned: bool = False
    current: str = ""
    last: HistoryEntry | None = None

    @property
    def anchor(self) -> str:
        """The id of the setting on the page, the same as long as its name is."""
        return f"s-{self.key}"

    @property
    def boxes(self) -> list[str]:
        """The values of the boxes that are ticked."""
        return [dump(item) for item in _loaded(self.text, list)]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The rows of a dict, and some to add."""
        rows = [(str(row[0]), str(row[1])) for row in _loaded(self.text, list) if len(row) == 2]
        return [*rows, *[("", "")] * _SPARE_ROWS]

    @property
    def parts(self) -> list[tuple[Part, str]]:
        """The fields of a struct with their texts."""
        texts = _loaded(self.text, dict)
        return [(part, str(texts.get(part.name, ""))) for part in self.widget.parts]

    @property
    def hints(self) -> list[str]:
        """How to write a value."""
        widget = self.widget
        empties = widget.optional and not widget.null_box and not self.info.secret
        empty = "empty for no value" if empties and widget.kind not in ("select", "json") else ""
        return [part for part in (self.bounds, widget.hint, empty) if part and not self.locked]

    @property
    def changed(self) -> bool:
        """Whether it may be reset to the default."""
        return self.info.raw is not None

    @property
    def search_text(self) -> str:
        """The text that the search looks at; never a secret."""
        return _search_text(self.info)

    @property
    def notes(self) -> str:
        """The ids of what describes the control."""
        parts = ["d", "h", *(["x"] if self.info.fault else []), *(["e"] if self.error else [])]
        return " ".join(f"{part}-{self.key}" for part in parts)

    @property
    def bounds(self) -> str:
        """The bounds in words, or an empty text."""
        low, high = (self.widget.attributes.get(name) for name in ("data-min", "data-max"))
        if low is not None and high is not None:
            return f"from {low} to {high}"
        if low is not None:
            return f"at least {low}"
        return f"at most {high}" if high is not None else ""


@dataclass(frozen=True)
class Group:
    """Fields under one heading."""

    key: str
    title: str
    fields: list[Field]

    @property
    def matches(self) -> bool:
        """Whether any of its fields is among what was searched for."""
        return any(field.matches for field in self.fields)


def make_groups(
    state: WaffleState,
    *,
    access: Access,
    query: str = "",
    only: str = "",
    draft: Draft | None = None,
    problems: Mapping[str, str] | None = None,
) -> list[Group]:
    """Return every setting under its group, as they are declared; those without group come first.

    :param draft: what was typed already.
    """
    grouped: dict[str | None, list[Field]] = {None: []}
    last = last_changes(state)
    for info in operations.describe(state):
        declaration = state.declarations[info.name]
        if not access.may_view(declaration):
            continue
        entry = draft.entries.get(info.name) if draft else None
        error = (problems or {}).get(info.name, "")
        field = replace(
            _make_field(state, info, query, only, entry, error),
            title=declaration.label or info.name,
            locked=not access.may_edit(declaration),
            pinned=declaration.pinned,
            last=last.get(info.name),
        )
        grouped.setdefault(info.group or None, []).append(field)
    return [
        Group(f"g-{number}", title or NO_GROUP, fields)
        for number, (title, fields) in enumerate(grouped.items())
        if fields
    ]


def _make_field(
    state: WaffleState, info: SettingInfo, query: str, only: str, entry: Entry | None, error: str
) -> Field:
    declaration = state.declarations[info.name]
    snapshot = state.snapshot
    value = snapshot[info.name]
    widget = widget_of(snapshot, declaration, entry)
    default = show(declaration, None)
    if not info.secret:
        default = Shown(describe(widget, declaration.default), True)
    typed = write(widget, value)
    if entry is not None and not info.secret:
        typed = entry.text
    return Field(
        info=info,
        key=key_of(info.name),
        widget=widget,
        text=typed,
        null=entry.null if entry is not None else widget.null_box and value is None,
        reset=entry is not None and entry.reset,
        # Of what was typed already, what it was typed over.
        base=f"{widget.kind}.{entry.base if entry else fingerprint(declaration, widget, snapshot)}",
        default=default,
        matches=_matches(info, query, only, entry, error),
        current="" if info.secret else legible(in_full(widget, value)),
        again=info.secret and entry is not None and not entry.reset,
        error=error,
        edited=entry is not None,
        proof=_proof(info.name, entry) if info.secret and entry is not None else "",
        forgotten=entry is not None and entry.forgotten,
    )


def _matches(info: SettingInfo, query: str, only: str, entry: Entry | None, error: str) -> bool:
    kinds = {
        "changed": info.raw is not None,
        "edited": entry is not None,
        "faults": bool(info.fault or error),
    }
    text = _search_text(info)
    return kinds.get(only, True) and all(word in text for word in query.lower().split())


def _loaded(text: str, type_: type) -> Any:
    """Return the content of a composite control's text; of a forged form, nothing."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        found = None
    return found if isinstance(found, type_) else type_()


def _proof(name: str, entry: Entry) -> str:
    """Return a mark that shows later that a secret was typed."""
    if entry.reset and not entry.text:
        return ""
    return prove(name, entry.text) if entry.text else entry.proof


def _search_text(info: SettingInfo) -> str:
    parts = [info.name, info.desc, info.group or NO_GROUP]
    return " ".join(parts).lower()
