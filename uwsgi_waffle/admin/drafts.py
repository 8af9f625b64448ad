"""What a form says that settings should become, and what that amounts to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import quote

from werkzeug.datastructures import MultiDict

from .. import operations
from ..app_state import WaffleState
from ..settings.declarations import Declaration, Declarations
from ..settings.raws import dump
from ..snapshot import Snapshot
from .tokens import is_signed, sign
from .widgets import Widget, make_widget, plain, read, write

MAX_REASON_LENGTH = 500


class Entry(NamedTuple):
    """What a form says of one setting.

    :ivar null: the box for ``None`` is ticked.
    :ivar reset: the box for the default is ticked.
    :ivar base: fingerprint of what was shown when the form was made.
    :ivar proof: of a secret that has to be typed twice: signature of the first.
    """

    text: str
    null: bool = False
    reset: bool = False
    base: str = ""
    proof: str = ""


@dataclass(frozen=True)
class Draft:
    """A change that somebody works on.

    :ivar revision: the one that the form was made from.
    :ivar entries: mapping of setting name to what the form says of it.
    """

    revision: int
    entries: dict[str, Entry] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a draft amounts to now.

    :ivar raws: mapping of setting name to JSON text, or ``None`` for the default.
    :ivar problems: mapping of setting name to what is wrong with what was typed.
    :ivar overlaps: settings of the draft that somebody else changed meanwhile.
    """

    raws: dict[str, str | None]
    problems: dict[str, str]
    overlaps: frozenset[str]


def key_of(name: str) -> str:
    """Return what stands for a setting's name in names and ids of a form; never the same for two.

    Names are any text, and a form changes some: a line end, for example.
    """
    return quote(name, safe="").replace(".", "%2E").replace("%", ".")


def widget_of(snapshot: Snapshot, declaration: Declaration) -> Widget:
    """Return the control that fits a setting now."""
    return make_widget(declaration, snapshot[declaration.name])


def fingerprint(declaration: Declaration, widget: Widget, snapshot: Snapshot) -> str:
    """Return the signature of what a form shows of a setting now; of a secret, of its value."""
    value = snapshot[declaration.name]
    text = dump(value) if declaration.secret else plain(write(widget, value))
    return sign("base", declaration.name, text, str(widget.null_box and value is None))


def read_draft(
    form: MultiDict[str, str], declarations: Declarations, *, chosen_only: bool = False
) -> Draft:
    """Return the draft that a form sent; names that are not declared are left aside.

    :param chosen_only: leave aside what was not ticked on the page of a conflict.
    """
    try:
        revision = int(form.get("revision", "0"))
    except ValueError:
        revision = 0
    choosing = chosen_only and "choose" in form
    entries: dict[str, Entry] = {}
    for name in declarations:
        key = key_of(name)
        texts = form.getlist(f"v-{key}")
        reset = f"r-{key}" in form
        if not (texts or reset) or (choosing and f"k-{key}" not in form):
            continue
        entries[name] = Entry(
            # An unticked switch leaves only the "false" that lies under it.
            texts[-1] if texts else "",
            null=f"n-{key}" in form,
            reset=reset,
            base=form.get(f"b-{key}", ""),
            proof=form.get(f"p-{key}", ""),
        )
    return Draft(revision, entries, form.get("reason", "").strip()[:MAX_REASON_LENGTH])


def touched(draft: Draft, declarations: Declarations, snapshot: Snapshot) -> Draft:
    """Return a draft without the settings that were left as they were shown."""

    def is_touched(name: str, entry: Entry) -> bool:
        declaration = declarations[name]
        widget = widget_of(snapshot, declaration)
        if entry.reset:
            return name in snapshot.stored
        if declaration.secret:
            return bool(entry.text or entry.proof)
        text = plain(entry.text)
        null = widget.null_box and entry.null
        return not is_signed(entry.base, "base", name, "" if null else text, str(null))

    kept = {name: entry for name, entry in draft.entries.items() if is_touched(name, entry)}
    return replace(draft, entries=kept)


def work_out(state: WaffleState, draft: Draft) -> Outcome:
    """Return what a draft amounts to, compared with what is served now."""
    snapshot = state.snapshot
    raws: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    moved: set[str] = set()
    for name, entry in touched(draft, state.declarations, snapshot).entries.items():
        declaration = state.declarations[name]
        widget = widget_of(snapshot, declaration)
        if entry.base and entry.base != fingerprint(declaration, widget, snapshot):
            moved.add(name)
        try:
            raws[name] = (
                None if entry.reset else read(widget, declaration, entry.text, null=entry.null)
            )
        except ValueError as exc:
            problems[name] = str(exc)
    trimmed = operations.trim(state, raws)
    for name, raw in raws.items():
        # To leave out what is served already would tell whether a secret was guessed.
        if raw is not None and state.declarations[name].secret:
            trimmed[name] = raw
    raws = {name: trimmed[name] for name in raws if name in trimmed}
    return Outcome(raws, problems, frozenset(moved.intersection(raws)))


def check_proofs(state: WaffleState, draft: Draft, names: Iterable[str]) -> Mapping[str, str]:
    """Return what is wrong with secrets that had to be typed twice, by setting name."""
    problems: dict[str, str] = {}
    for name in names:
        entry = draft.entries[name]
        if not state.declarations[name].secret or entry.reset:
            continue
        if not entry.text:
            problems[name] = "type it once more, so that it can be saved"
        elif not is_signed(entry.proof, "proof", name, entry.text):
            problems[name] = "it is not what you typed before: type the same, or go back to edit"
    return problems


def prove(name: str, text: str) -> str:
    """Return the signature by which a secret is known when it is typed once more."""
    return sign("proof", name, text)
