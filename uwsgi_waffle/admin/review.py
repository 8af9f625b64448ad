"""A change that is looked over before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..app_state import WaffleState
from .diffs import Row, diff
from .drafts import Draft, Entry, fingerprint, key_of, prove, widget_of
from .shown import Shown, show
from .texts import write
from .widgets import Widget

#: a shorter text in one line is seen at once
_DIFF_FROM = 30


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


def _diff(widget: Widget, old: Shown, new: Shown) -> list[Row] | None:
    """How a text changes; nothing where the old and the new are short or of a few choices."""
    longish = widget.kind in ("textarea", "lines", "boxes", "rows", "struct", "json") or (
        widget.kind == "text" and max(len(old.text), len(new.text)) > _DIFF_FROM
    )
    if not longish or new.secret or old.text == new.text:
        return None
    return diff(old.text, new.text)
