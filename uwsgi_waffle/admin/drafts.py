"""Drafts: the values that a form wants settings to have, and the changes that they make."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import quote

from werkzeug.datastructures import MultiDict

from .. import operations
from ..app_state import WaffleState
from ..errors import StoreError
from ..settings.declarations import Declaration, Declarations
from ..snapshot import Snapshot
from .texts import plain, read, write
from .tokens import is_signed, sign
from .widgets import Widget, make_widget

MAX_REASON_LENGTH = 500
#: said wherever a secret that was typed is missing
_AGAIN = "type it again, because a secret is never sent back; or tick “Keep the old one”"
_TWO_THINGS = "you typed a value, and ticked that it is to {}: take one of them back"


class Entry(NamedTuple):
    """The entry of a form for one setting.

    :ivar text: what the control holds; see :func:`~uwsgi_waffle.admin.texts.write`.
    :ivar null: the box for ``None`` is ticked.
    :ivar reset: the box for the default is ticked.
    :ivar kind: the kind of control that the text was typed into.
    :ivar base: fingerprint of what was shown when the form was made.
    :ivar proof: of a secret that has to be typed once more: signature of what was typed.
    :ivar forgotten: of such a secret: the old one is to be kept after all.
    :ivar chosen: it is to be saved; not so what was left unticked on the page of a conflict.
    """

    text: str
    null: bool = False
    reset: bool = False
    kind: str = ""
    base: str = ""
    proof: str = ""
    forgotten: bool = False
    chosen: bool = True

    def __repr__(self) -> str:
        # Of the text nothing: it may be a secret.
        return f"Entry({self.kind}, {len(self.text)} characters, reset={self.reset})"


@dataclass(frozen=True)
class Draft:
    """A change that a person works on.

    :ivar revision: the one that the form was made from.
    :ivar entries: mapping of setting name to what the form says of it.
    """

    revision: int
    entries: dict[str, Entry] = field(default_factory=dict)
    reason: str = ""

    @property
    def chosen(self) -> Draft:
        """The draft without what was left unticked."""
        return replace(self, entries={n: e for n, e in self.entries.items() if e.chosen})

    @property
    def retyped(self) -> Draft:
        """The draft with secrets that are typed again in the place of those typed before."""
        entries = {n: e._replace(proof="") if e.text else e for n, e in self.entries.items()}
        return replace(self, entries=entries)


@dataclass(frozen=True)
class Outcome:
    """The changes that a draft makes now.

    :ivar raws: mapping of setting name to JSON text, or ``None`` for the default.
    :ivar problems: mapping of setting name to what is wrong with what was typed.
    :ivar overlaps: settings of the draft that someone else changed since.
    :ivar unproved: mapping of the name of a secret to why it is not typed once more yet.
    """

    raws: dict[str, str | None] = field(repr=False)
    problems: dict[str, str]
    overlaps: frozenset[str]
    unproved: dict[str, str] = field(default_factory=dict)


def key_of(name: str) -> str:
    """Return what stands for a setting's name in names and ids of a form; never the same for two.

    Names are any text, and a form changes some: a line end, for example.
    """
    return quote(name, safe="").replace(".", "%2E").replace("%", ".")


def widget_of(snapshot: Snapshot, declaration: Declaration, entry: Entry | None = None) -> Widget:
    """Return the control that fits a setting now, or the one that something was typed into."""
    kind = entry.kind if entry is not None else ""
    return make_widget(declaration, snapshot[declaration.name], kind)


def fingerprint(declaration: Declaration, widget: Widget, snapshot: Snapshot) -> str:
    """Return the signature of what a form shows of a setting now.

    Of a secret it is empty: two equal ones would show that a guess was right.
    """
    if declaration.secret:
        return ""
    value = snapshot[declaration.name]
    null = widget.null_box and value is None
    text = "" if null else plain(write(widget, value))
    return sign("base", declaration.name, widget.kind, text, str(null))


def read_draft(form: MultiDict[str, str], names: Iterable[str]) -> Draft:
    """Return the draft that a form sent; what it says of other settings is left aside."""
    try:
        revision = int(form.get("revision", "0"))
    except ValueError:
        revision = 0
    choosing = "choose" in form
    entries: dict[str, Entry] = {}
    for name in names:
        key = key_of(name)
        text = _text_of(form, key)
        reset = f"r-{key}" in form
        if text is None and not reset:
            continue
        kind, _, base = form.get(f"b-{key}", "").rpartition(".")
        entries[name] = Entry(
            text or "",
            null=f"n-{key}" in form,
            reset=reset,
            kind=kind,
            base=base,
            proof=form.get(f"p-{key}", ""),
            forgotten=f"x-{key}" in form,
            chosen=not choosing or f"k-{key}" in form,
        )
    return Draft(revision, entries, form.get("reason", "").strip())


def _text_of(form: MultiDict[str, str], key: str) -> str | None:
    """The text that the fields of one control amount to, or ``None`` if there are none."""
    if f"vb-{key}" in form:
        return f"[{','.join(form.getlist(f'v-{key}'))}]"
    if f"vk-{key}" in form:
        pairs = zip(form.getlist(f"vk-{key}"), form.getlist(f"vv-{key}"), strict=False)
        return json.dumps([pair for pair in pairs if any(pair)], ensure_ascii=False)
    if f"vs-{key}" in form:
        names = form.getlist(f"vs-{key}")
        texts = {
            name: plain(form.getlist(f"v{number}-{key}")[-1])
            for number, name in enumerate(names)
            if f"v{number}-{key}" in form
        }
        return json.dumps(texts, ensure_ascii=False)
    texts_ = form.getlist(f"v-{key}")
    # An unticked switch leaves only the "false" that lies under it.
    return texts_[-1] if texts_ else None


class Typed(NamedTuple):
    """Return how an entry differs from what was shown.

    :ivar text: it was altered.
    :ivar null: the box for ``None`` was.
    """

    text: bool
    null: bool


def typed_in(name: str, widget: Widget, entry: Entry) -> Typed:
    """Return what a person did to a control; without a base, everything."""
    text, null = plain(entry.text), widget.null_box and entry.null

    def shown(text: str, null: bool) -> bool:
        return is_signed(entry.base, "base", name, entry.kind, "" if null else text, str(null))

    if shown(text, null):
        return Typed(text=null and not _is_blank(text), null=False)
    if null:
        # Shown without a value, or with this very text: then only the box was ticked.
        return Typed(text=not shown(text, False), null=True)
    return Typed(text=not _is_blank(text) or not shown("", True), null=shown("", True))


def _is_blank(text: str) -> bool:
    """Whether the fields of a control hold nothing, those of a composite one neither."""
    if text[:1] not in ("[", "{"):
        return not text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    texts = found.values() if isinstance(found, dict) else found
    # What an unticked switch of a struct sends is nothing that a person typed.
    return all(part in ("", "false") for part in texts)


def touched(draft: Draft, declarations: Declarations, snapshot: Snapshot) -> Draft:
    """Return a draft without the settings that were left as they were shown."""

    def is_touched(name: str, entry: Entry) -> bool:
        declaration = declarations[name]
        if entry.reset and name in snapshot.stored:
            return True
        if declaration.secret:
            return bool(entry.text or (entry.proof and not entry.forgotten))
        return any(typed_in(name, widget_of(snapshot, declaration, entry), entry))

    kept = {name: entry for name, entry in draft.entries.items() if is_touched(name, entry)}
    return replace(draft, entries=kept)


def work_out(state: WaffleState, draft: Draft, *, saving: bool = False) -> Outcome:
    """Return what a draft amounts to, compared with what is current now.

    :param saving: secrets have to be typed once more by now.
    """
    snapshot = state.snapshot
    unproved: dict[str, str] = {}
    secrets_moved = _secrets_changed_since(state, draft)
    raws: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    moved: set[str] = set()
    for name, entry in touched(draft, state.declarations, snapshot).entries.items():
        declaration = state.declarations[name]
        widget = widget_of(snapshot, declaration, entry)
        moved_base = entry.base and entry.base != fingerprint(declaration, widget, snapshot)
        if name in secrets_moved or moved_base:
            moved.add(name)
        if saving and declaration.secret and not entry.reset:
            problem = _unproved(name, entry)
            if problem:
                unproved[name] = problem
                # Shown as a secret, and not saved.
                raws[name] = "null"
                continue
        try:
            raws[name] = _raw_of(declaration, widget, entry)
        except ValueError as exc:
            problems[name] = str(exc)
    trimmed = operations.trim(state, raws)
    for name, raw in raws.items():
        # To leave out what is current already would show whether a secret was guessed.
        if raw is not None and state.declarations[name].secret:
            trimmed[name] = raw
    raws = {name: trimmed[name] for name in raws if name in trimmed}
    return Outcome(raws, problems, frozenset(moved.intersection(raws)), unproved)


def _unproved(name: str, entry: Entry) -> str:
    if not entry.text:
        return "type it once more, so that it can be saved"
    if not is_signed(entry.proof, "proof", name, entry.text):
        return "it is not what you typed before: type the same, or go back to editing"
    return ""


def _secrets_changed_since(state: WaffleState, draft: Draft) -> set[str]:
    """The secrets of a draft that were changed after it was begun; all if that is not known."""
    secrets = {name for name in draft.entries if state.declarations[name].secret}
    if not secrets or draft.revision >= state.snapshot.revision:
        return set()
    try:
        items = operations.history_since(state, draft.revision)
    except StoreError:
        return secrets
    return secrets.intersection(item.name for item in items)


def _raw_of(declaration: Declaration, widget: Widget, entry: Entry) -> str | None:
    """The raw text that an entry means.

    :raises ValueError: it does not fit, or means two things.
    """
    if declaration.secret:
        if entry.reset and entry.text:
            raise ValueError(_TWO_THINGS.format("go back to the default"))
        if not entry.reset and not entry.text:
            raise ValueError(_AGAIN)
        return None if entry.reset else read(widget, declaration, entry.text)
    typed = typed_in(declaration.name, widget, entry)
    if entry.reset:
        if any(typed):
            raise ValueError(_TWO_THINGS.format("go back to the default"))
        return None
    null = widget.null_box and entry.null
    if null and typed.text and typed.null and not _is_blank(entry.text):
        raise ValueError(_TWO_THINGS.format("have no value"))
    # What is typed beside a box that was ticked before it counts more than the box.
    return read(widget, declaration, entry.text, null=null and not typed.text)


def prove(name: str, text: str) -> str:
    """Return the signature by which a secret is known when it is typed once more."""
    return sign("proof", name, text)
