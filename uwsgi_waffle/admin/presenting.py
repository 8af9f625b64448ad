"""What the templates show, worked out so that they need no logic of their own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from typing import Any, NamedTuple

from .. import operations
from ..app_state import WaffleState
from ..errors import StoreError
from ..masking import MASK
from ..operations import HistoryItem, SettingInfo
from ..reporting.reporter import make_report
from ..settings.declarations import Declaration
from ..settings.raws import dump
from ..stores.base import HistoryEntry, WorkerReport
from ..stores.soundness import Found, sound_reports
from .access import NO_GROUP, Access
from .diffs import Row, diff
from .drafts import Draft, Entry, fingerprint, key_of, prove, widget_of
from .texts import describe, in_full, write
from .widgets import Part, Widget, make_widget

#: what a store raises on a row that another program wrote
DAMAGED = (ValueError, TypeError, OverflowError, LookupError)
_MEANWHILE_LIMIT = 200
#: a shorter text in one line is seen at once
_DIFF_FROM = 30
#: of each dict: so many can be added before the page is sent
_SPARE_ROWS = 2
#: settings whose last change is older are shown without it
_LAST_LIMIT = 1000
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


@dataclass(frozen=True)
class Line:
    """One setting of a change that is looked over before it is made.

    :ivar entry: what to send again, or ``None`` if the change is not made of a form.
    :ivar base: fingerprint of what is served now.
    :ivar proof: of a secret, the signature of what was typed.
    :ivar overlap: someone else changed it since.
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
    title: str = ""
    diff: list[Row] | None = None

    @property
    def chosen(self) -> bool:
        """Whether it is ticked on the page of a conflict."""
        return not self.overlap and (self.entry is None or self.entry.chosen)


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
    last = _last_changes(state)
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
            last=last.get(info.name),
        )
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
        widget = widget_of(snapshot, declaration, entry)
        if entry is not None and entry.reset and not declaration.secret:
            value = snapshot[name]
            null = widget.null_box and value is None
            entry = entry._replace(text=write(widget, value), null=null)
        old = show(declaration, snapshot.stored.get(name))
        new = show(declaration, raw)
        lines.append(
            Line(
                name,
                key_of(name),
                declaration.desc,
                old,
                new,
                title=declaration.label or name,
                diff=_diff(widget, old, new),
                entry=entry,
                base=f"{widget.kind}.{fingerprint(declaration, widget, snapshot)}",
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
    text = declaration.default_raw if raw is None else raw
    with contextlib.suppress(ValueError):
        value = declaration.decode(text)
        text = in_full(make_widget(declaration, value), value)
    return Shown(text, raw is None)


def _diff(widget: Widget, old: Shown, new: Shown) -> list[Row] | None:
    """How a text changes; nothing where the old and the new are short or of a few choices."""
    longish = widget.kind in ("textarea", "lines", "boxes", "rows", "struct", "json") or (
        widget.kind == "text" and max(len(old.text), len(new.text)) > _DIFF_FROM
    )
    if not longish or new.secret or old.text == new.text:
        return None
    return diff(old.text, new.text)


def made_since(state: WaffleState, revision: int, access: Access) -> list[HistoryItem]:
    """Return what was changed after a revision, newest first, as far as that can be told."""
    if revision >= state.snapshot.revision:
        return []
    with contextlib.suppress(StoreError, *DAMAGED):
        items = operations.history(state, limit=_MEANWHILE_LIMIT)
        return [
            item
            for item in items
            if item.revision > revision and _may_see(state, access, item.name)
        ]
    return []


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


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)


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
            entry for entry in found if asked.wants(entry) and _may_see(state, access, entry.name)
        ]
        if len(entries) >= wanted or len(found) + found.damaged < limit:
            break
        limit *= 4
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
    return made, len(entries) > page * size, found.damaged


def _may_see(state: WaffleState, access: Access, name: str) -> bool:
    declaration = state.declarations.get(name)
    return access.view is True if declaration is None else access.may_view(declaration)


def make_workers(state: WaffleState) -> tuple[list[WorkerReport], str]:
    """Return how every process is doing, and why that is not known of all, if so."""
    problem = ""
    reports: Found[WorkerReport] = Found()
    try:
        reports = sound_reports(state.store.workers(_WORKERS_MAX_AGE_S))
    except StoreError as exc:
        problem = str(exc)
    except DAMAGED as exc:
        problem = f"a report is damaged: {exc}"
    if reports.damaged:
        problem = f"{reports.damaged} reports are damaged and left out"
    own = make_report(state.engine.status(), app=state.app.name, lifetime_s=0.0)
    # Of this process what is true now, not what it told a while ago.
    me = (own.app, own.host, own.pid)
    others = [report for report in reports if (report.app, report.host, report.pid) != me]
    return sorted([*others, own], key=lambda r: (r.app, r.host, r.worker_id, r.pid)), problem


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
        current="" if info.secret else in_full(widget, value),
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


def _last_changes(state: WaffleState) -> dict[str, HistoryEntry]:
    """The newest change of each setting, as far as the store can say."""
    last: dict[str, HistoryEntry] = {}
    with contextlib.suppress(StoreError, *DAMAGED):
        for entry in operations.read_history(state, limit=_LAST_LIMIT):
            last.setdefault(entry.name, entry)
    return last


def _loaded(text: str, type_: type) -> Any:
    """What a text of a composite control holds; of a forged form, nothing."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        found = None
    return found if isinstance(found, type_) else type_()


def _proof(name: str, entry: Entry) -> str:
    """What shows later that a secret was typed."""
    if entry.reset and not entry.text:
        return ""
    return prove(name, entry.text) if entry.text else entry.proof


def _search_text(info: SettingInfo) -> str:
    parts = [info.name, info.desc, info.group or NO_GROUP]
    return " ".join(parts).lower()
