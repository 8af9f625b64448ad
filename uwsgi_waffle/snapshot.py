"""Immutable snapshots of all settings at one revision, and the changes between two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from .errors import UnknownSettingError
from .masking import MASK, OwnRepr, forms, mask
from .settings.declarations import Declarations, differ, unknown_name
from .settings.raws import cut

T = TypeVar("T")

#: the highest revision that a page and a slot can hold
MAX_REVISION = 2**63 - 1


class Row(NamedTuple):
    """One setting as a store keeps it.

    :ivar raw: JSON text of the value, or ``None`` when the setting was reset to its default.
    """

    name: str
    raw: str | None

    def __repr__(self) -> str:
        # It may be of a secret, which a store does not know.
        return f"Row(name={self.name!r}, …)"


class Delta(NamedTuple):
    """The part of a store that a reader does not have yet.

    :ivar revision: the store's revision; 0 before the first change.
    :ivar epoch: identifies one life of the store; another epoch means that it was made again.
    :ivar complete: the rows are all there are, not only those that the reader lacked.
    :ivar mark: random token of the change that made this revision; empty before the first change,
        and from a store that keeps none.
    """

    revision: int
    epoch: str
    rows: tuple[Row, ...]
    complete: bool
    mark: str = ""

    def __repr__(self) -> str:
        return (
            f"Delta(revision={self.revision}, epoch={self.epoch!r}, rows={len(self.rows)}, "
            f"complete={self.complete})"
        )


class Change(OwnRepr, frozen=True):
    """One setting that took another value in this process."""

    name: str
    old: Any
    new: Any
    revision: int
    secret: bool = False

    def __repr__(self) -> str:
        old, new = (MASK, MASK) if self.secret else (self.old, self.new)
        return f"Change({self.name}: {old!r} -> {new!r}, revision={self.revision})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Snapshot(Mapping[str, Any]):
    """All settings at one revision: a read-only mapping of setting name to typed value.

    :ivar revision: the revision that every value comes from.
    :ivar epoch: the life of the store that it comes from; empty for the defaults.
    :ivar mark: random token of the change that made the revision, where the store keeps marks.
    :ivar by_name: mapping of setting name to typed value; a plain dict, because copying one
        with ten thousand items is ten times faster than copying a mapping proxy.
    :ivar stored: mapping of setting name to raw text, of the settings that are not at their
        default; names that are no longer declared are kept here and served nowhere.
    :ivar faults: mapping of setting name to what is wrong with its stored text; its default is
        served.
    """

    revision: int
    epoch: str
    by_name: dict[str, Any]
    stored: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    mark: str = ""
    _typed: dict[type, Any] = field(default_factory=dict, init=False)

    def as_class(self, cls: type[T]) -> T:
        """Return these settings as an instance of the class that declares them."""
        try:
            typed: T = self._typed[cls]
        except KeyError:
            typed = self._typed[cls] = cls(**self.by_name)
        return typed

    def __getitem__(self, name: str) -> Any:
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownSettingError({name: unknown_name(name, self.by_name)}) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def __repr__(self) -> str:
        # Values may be secret, and there may be ten thousand.
        return f"<Snapshot revision={self.revision} settings={len(self.by_name)}>"


def initial_snapshot(declarations: Declarations) -> Snapshot:
    """Return the snapshot that holds every default, at revision 0 of no store."""
    return Snapshot(revision=0, epoch="", by_name=declarations.defaults())


def advance(snapshot: Snapshot, delta: Delta, declarations: Declarations) -> Snapshot:
    """Return the snapshot that follows when a store's delta is laid over another.

    A raw text that its declaration refuses makes a fault, never an exception. A pinned setting
    has its default, whatever the store says.
    """
    values = declarations.defaults() if delta.complete else snapshot.by_name.copy()
    stored = {} if delta.complete else snapshot.stored.copy()
    faults = {} if delta.complete else snapshot.faults.copy()
    for name, raw in delta.rows:
        faults.pop(name, None)
        if raw is None:
            stored.pop(name, None)
        else:
            # One that is too long is a fault below, and not held by each worker.
            stored[name] = cut(raw)
        declaration = declarations.get(name)
        if declaration is None:
            continue
        value = declaration.default
        if raw is not None and not declaration.pinned:
            try:
                value = declaration.decode(raw)
            except ValueError as exc:
                faults[name] = str(exc)
        values[name] = value
    return Snapshot(delta.revision, delta.epoch, values, stored, faults, delta.mark)


def overlay(snapshot: Snapshot, values: Mapping[str, Any]) -> Snapshot:
    """Return a snapshot of the same revision in which some settings have other values."""
    return replace(snapshot, by_name={**snapshot.by_name, **values})


def mask_secrets(text: str, snapshot: Snapshot, declarations: Declarations) -> str:
    """Return a text in which the value of no secret setting is shown.

    Values of less than four characters are left.
    """
    return mask(
        text,
        (
            form
            for name, declaration in declarations.items()
            if declaration.secret
            for form in forms(
                snapshot.by_name[name], snapshot.stored.get(name, declaration.default_raw)
            )
        ),
    )


def diff(
    old: Snapshot, new: Snapshot, names: Iterable[str], declarations: Declarations
) -> list[Change]:
    """Return the changes among some settings from one snapshot to another, in order of name."""
    changed = [
        name
        for name in names
        if name in declarations and differ(old.by_name[name], new.by_name[name])
    ]
    return [
        Change(name, old.by_name[name], new.by_name[name], new.revision, declarations[name].secret)
        for name in sorted(changed)
    ]
