"""What the templates show, worked out so that they need no logic of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from .. import operations
from ..app_state import WaffleState
from ..errors import StoreError
from ..masking import MASK
from ..operations import HistoryItem, SettingInfo
from ..reporting.reporter import make_report
from ..settings.declarations import Declaration
from ..stores.base import WorkerReport
from .drafts import Draft, Entry, fingerprint, key_of, prove, widget_of
from .widgets import Widget, describe, write

NO_GROUP = "General"
_MEANWHILE_LIMIT = 200
#: what is older is of a process that nobody waits for
_WORKERS_MAX_AGE_S = 3600.0


class Shown(NamedTuple):
    """A value as a person may see it.

    :ivar is_default: nothing is stored.
    """

    text: str
    is_default: bool = False
    secret: bool = False


@dataclass(frozen=True)
class Field:
    """One setting on the page.

    :ivar text: what stands in the control.
    :ivar matches: it is among what was searched for.
    :ivar again: a secret was typed, which is never sent back, so it has to be typed again.
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

    @property
    def changed(self) -> bool:
        """Whether it may be reset to the default."""
        return self.info.raw is not None

    @property
    def search_text(self) -> str:
        """What the search looks at; never a secret."""
        return _search_text(self.info)

    @property
    def notes(self) -> str:
        """The ids of what describes the control."""
        parts = ["d", "h", *(["x"] if self.info.fault else []), *(["e"] if self.error else [])]
        return " ".join(f"{part}-{self.key}" for part in parts)

    @property
    def bounds(self) -> str:
        """The bounds in words, or an empty text."""
        low, high = (self.widget.attributes.get(name) for name in ("min", "max"))
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


@dataclass(frozen=True)
class Line:
    """One setting of a change that is looked over before it is made.

    :ivar entry: what to send again, or ``None`` if the change is not made of a form.
    :ivar base: fingerprint of what is served now.
    :ivar proof: of a secret, the signature of what was typed.
    :ivar overlap: somebody else changed it meanwhile.
    """

    name: str
    key: str
    desc: str
    old: Shown
    new: Shown
    entry: Entry | None = None
    base: str = ""
    proof: str = ""
    overlap: bool = False
    error: str = ""


class Made(NamedTuple):
    """A change that was made: everything of one revision."""

    revision: int
    items: list[tuple[HistoryItem, Shown, Shown]]

    @property
    def first(self) -> HistoryItem:
        """An item that tells who made it, when and why."""
        return self.items[0][0]


def make_groups(
    state: WaffleState,
    *,
    query: str = "",
    draft: Draft | None = None,
    problems: Mapping[str, str] | None = None,
) -> list[Group]:
    """Return every setting under its group, as they are declared; those without group come first.

    :param draft: what was typed already.
    """
    grouped: dict[str | None, list[Field]] = {None: []}
    for info in operations.describe(state):
        entry = draft.entries.get(info.name) if draft else None
        error = (problems or {}).get(info.name, "")
        field = _make_field(state, info, query, entry, error)
        grouped.setdefault(info.group or None, []).append(field)
    return [
        Group(f"g-{number}", title or NO_GROUP, fields)
        for number, (title, fields) in enumerate(grouped.items())
        if fields
    ]


def make_lines(
    state: WaffleState,
    raws: Mapping[str, str | None],
    *,
    draft: Draft | None = None,
    overlaps: Iterable[str] = (),
    problems: Mapping[str, str] | None = None,
) -> list[Line]:
    """Return what a change would alter, compared with what is served now."""
    snapshot = state.snapshot
    lines: list[Line] = []
    for name, raw in raws.items():
        declaration = state.declarations[name]
        entry = draft.entries.get(name) if draft else None
        proof = ""
        if declaration.secret and entry is not None and not entry.reset:
            # What was typed first counts, as long as it is not proved to be the same again.
            proof = entry.proof or prove(name, entry.text)
        lines.append(
            Line(
                name,
                key_of(name),
                declaration.desc,
                show(declaration, snapshot.stored.get(name)),
                show(declaration, raw),
                entry=entry,
                base=fingerprint(declaration, widget_of(snapshot, declaration), snapshot),
                proof=proof,
                overlap=name in overlaps,
                error=(problems or {}).get(name, ""),
            )
        )
    return lines


def show(declaration: Declaration | None, raw: str | None) -> Shown:
    """Return a raw text as a person may see it; what is no longer declared may be a secret."""
    if declaration is None:
        return Shown("" if raw is None else MASK, raw is None, raw is not None)
    if declaration.secret:
        return Shown(MASK, raw is None, True)
    return Shown(declaration.default_raw if raw is None else raw, raw is None)


def made_since(state: WaffleState, revision: int) -> list[HistoryItem]:
    """Return what was changed after a revision, newest first, as far as that can be told."""
    if revision >= state.snapshot.revision:
        return []
    with contextlib.suppress(StoreError):
        items = operations.history(state, limit=_MEANWHILE_LIMIT)
        return [item for item in items if item.revision > revision]
    return []


def make_history(
    state: WaffleState, *, name: str | None, page: int, size: int
) -> tuple[list[Made], bool]:
    """Return one page of the history by revision, newest first, and whether older ones follow.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    entries = state.store.history(name=name, limit=page * size + 1)
    made = []
    for revision, group in groupby(entries[(page - 1) * size : page * size], lambda e: e.revision):
        items = []
        for entry in group:
            declaration = state.declarations.get(entry.name)
            old, new = show(declaration, entry.old_raw), show(declaration, entry.new_raw)
            item = HistoryItem(
                revision, entry.name, old.text, new.text, entry.author, entry.reason, entry.at
            )
            items.append((item, old, new))
        made.append(Made(revision, items))
    return made, len(entries) > page * size


def make_workers(state: WaffleState) -> tuple[list[WorkerReport], str]:
    """Return how every process is doing, and why that is not known of all, if so."""
    problem = ""
    reports: list[WorkerReport] = []
    try:
        reports = state.store.workers(_WORKERS_MAX_AGE_S)
    except StoreError as exc:
        problem = str(exc)
    own = make_report(state.engine.status(), app=state.app.name, lifetime_s=0.0)
    # Of this process what is true now, not what it told a while ago.
    me = (own.app, own.host, own.pid)
    others = [report for report in reports if (report.app, report.host, report.pid) != me]
    return sorted([*others, own], key=lambda r: (r.app, r.host, r.worker_id, r.pid)), problem


def _make_field(
    state: WaffleState, info: SettingInfo, query: str, entry: Entry | None, error: str
) -> Field:
    declaration = state.declarations[info.name]
    snapshot = state.snapshot
    value = snapshot[info.name]
    widget = widget_of(snapshot, declaration)
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
        base=entry.base if entry else fingerprint(declaration, widget, snapshot),
        default=default,
        matches=all(word in _search_text(info) for word in query.lower().split()),
        again=info.secret and entry is not None and not entry.reset,
        error=error,
    )


def _search_text(info: SettingInfo) -> str:
    parts = [info.name, info.desc, info.group or NO_GROUP]
    return " ".join(parts).lower()
