"""What people do with settings, whether on the command line or on a page: list, restore, move."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec

from .errors import (
    ChangeRefused,
    InvalidValueError,
    RevisionConflict,
    UnknownSettingError,
    WaffleError,
)
from .settings import Declaration, Declarations, differ, type_name, unknown_name
from .snapshot import MASK, Snapshot
from .stores.base import HistoryEntry, Store

#: stands for a value that is not stored; no JSON text, so nobody takes it for a value
DEFAULT = "default"

Origin = Literal["default", "stored", "fault", "override"]

_HISTORY_STEP = 256
_ATTEMPTS = 5


class Settings(Protocol):
    """What the operations need of an app's state."""

    @property
    def declarations(self) -> Declarations: ...
    @property
    def store(self) -> Store: ...
    @property
    def snapshot(self) -> Snapshot: ...
    def refresh(self) -> Snapshot: ...
    def commit(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None,
        reason: str | None,
        expected_revision: int | None,
    ) -> int: ...


class UnknownRevisionError(WaffleError, LookupError):
    """The store does not know how settings were at this revision."""


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One declared setting with its value, for people.

    Of a secret, ``value``, ``default`` and ``raw`` are :data:`~uwsgi_waffle.snapshot.MASK`, and
    ``choices`` is ``None``, unless they were asked for.

    :ivar type: its type as a person would write it, without constraints.
    :ivar raw: the stored JSON text, or ``None`` if nothing is stored.
    :ivar origin: ``default``; ``stored``; ``fault``: what is stored does not fit, and the
        default is served; ``override``: this process serves a value of its own.
    :ivar fault: what is wrong with the stored text, or ``None``.
    :ivar choices: the only allowed values as JSON knows them, also those of a ``Literal`` or an
        ``Enum``; ``None`` if there is no such list.
    """

    name: str
    desc: str
    group: str | None
    type: str
    value: Any
    default: Any
    raw: str | None
    origin: Origin
    secret: bool
    fault: str | None
    min: Any
    max: Any
    choices: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One setting in one committed change, for people.

    :ivar old: JSON text, :data:`DEFAULT`, or :data:`~uwsgi_waffle.snapshot.MASK`.
    :ivar new: likewise.
    :ivar at: when it was committed, in UTC.
    """

    revision: int
    name: str
    old: str
    new: str
    author: str | None
    reason: str | None
    at: datetime


class Difference(NamedTuple):
    """One setting that a change would alter; the texts are as in :class:`HistoryItem`."""

    name: str
    old: str
    new: str


class Plan(NamedTuple):
    """A change that was worked out and not made yet.

    :ivar raws: mapping of setting name to JSON text, or ``None`` for the default.
    :ivar revision: the store's revision that it was worked out from.
    """

    raws: dict[str, str | None]
    revision: int


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
    state: Settings, *, name: str | None = None, limit: int = 100, show_secrets: bool = False
) -> list[HistoryItem]:
    """Return the newest committed changes of one setting, or of all, newest first.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    entries = state.store.history(name=name, limit=limit)
    return [_item(state, entry, show_secrets) for entry in entries]


def history_since(
    state: Settings, revision: int, *, show_secrets: bool = False
) -> list[HistoryItem]:
    """Return the changes that were committed after a revision, oldest first.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    entries = _entries_since(state.store, revision)
    newer = [entry for entry in entries if entry.revision > revision]
    # Stable, so that the names of one change stay in their order.
    newer.sort(key=lambda entry: entry.revision)
    return [_item(state, entry, show_secrets) for entry in newer]


def show_raw(state: Settings, name: str, raw: str | None, *, show_secrets: bool = False) -> str:
    """Return a raw text as a person may see it.

    A name that is no longer declared may have been a secret, so it is masked like one.
    """
    if raw is None:
        return DEFAULT
    declaration = state.declarations.get(name)
    if show_secrets or (declaration is not None and not declaration.secret):
        return raw
    return MASK


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
        if not _is_same(state.declarations.get(name), stored.get(name), raw)
    ]


def plan_rollback(state: Settings, revision: int, *, names: Iterable[str] | None = None) -> Plan:
    """Return the change that would restore every setting to what it was at a revision.

    :param names: restore these only.
    :raises UnknownRevisionError: there is no such revision, or the history is too short.
    :raises ChangeRefused: names every setting that can't be restored: it is no longer declared,
        or its old value no longer fits its declaration.
    :raises StoreError: the store can't be read.
    """
    snapshot = state.refresh()
    if not 0 <= revision <= snapshot.revision:
        raise UnknownRevisionError(
            f"there is no revision {revision}: the store is at {snapshot.revision}"
        )
    if revision == snapshot.revision:
        return Plan({}, revision)
    entries = _entries_since(state.store, revision)
    reaches = bool(entries) and entries[-1].revision <= max(revision, 1)
    # Nothing is older than the first change, so its entries can't show that none is missing.
    if revision == 0 and not snapshot.stored.keys() <= {entry.name for entry in entries}:
        reaches = False
    if not reaches:
        raise UnknownRevisionError(f"the history does not reach back to revision {revision}")
    wanted = None if names is None else set(names)
    # The oldest entry of a name comes last, and stays.
    old_raws = {
        entry.name: entry.old_raw
        for entry in entries
        if revision < entry.revision <= snapshot.revision
        and (wanted is None or entry.name in wanted)
    }
    problems: dict[str, str] = {}
    raws: dict[str, str | None] = {}
    for name, raw in sorted(old_raws.items()):
        declaration = state.declarations.get(name)
        if _is_same(declaration, snapshot.stored.get(name), raw):
            continue
        if declaration is None:
            problems[name] = "not a declared setting any more; leave it out, or declare it again"
            continue
        try:
            if raw is not None:
                declaration.decode(raw)
        except ValueError as exc:
            problems[name] = f"its value of then does not fit any more: {exc}"
        else:
            raws[name] = raw
    if problems:
        raise ChangeRefused(problems)
    return Plan(raws, snapshot.revision)


def rollback(
    state: Settings,
    revision: int,
    *,
    names: Iterable[str] | None = None,
    author: str | None = None,
    reason: str | None = None,
    expected_revision: int | None = None,
) -> int:
    """Restore every setting to what it was at a revision, as one new change; return its revision.

    If nothing differs, nothing is written, and the current revision is returned. A change that
    somebody makes meanwhile is taken back too, unless ``expected_revision`` is given.

    :param names: restore these only.
    :param reason: for the history; it names the revision if left out.
    :raises UnknownRevisionError: there is no such revision, or the history is too short.
    :raises ChangeRefused: names every setting that can't be restored; nothing was written.
    :raises RevisionConflict: the store is not at ``expected_revision``; nothing was written.
    :raises StoreError: the store failed; nothing was written.
    """
    names = None if names is None else list(names)
    for attempt in range(_ATTEMPTS):
        plan = plan_rollback(state, revision, names=names)
        if expected_revision is not None and expected_revision != plan.revision:
            raise RevisionConflict(expected_revision, plan.revision)
        if not plan.raws:
            return plan.revision
        try:
            return state.commit(
                plan.raws,
                author=author,
                reason=reason or f"rollback to revision {revision}",
                expected_revision=plan.revision,
            )
        except RevisionConflict:
            if expected_revision is not None or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")


def export(
    state: Settings, *, show_secrets: bool = False, stored_only: bool = False
) -> dict[str, Any]:
    """Return the value of every setting as JSON knows it; secrets are masked unless asked for.

    Overrides of this process are left aside. :func:`import_` takes what this returns, and leaves
    a masked secret as it is.

    :param stored_only: leave out the settings that are at their default.
    """
    snapshot = state.snapshot
    values: dict[str, Any] = {}
    for declaration in state.declarations.values():
        raw = None if declaration.name in snapshot.faults else snapshot.stored.get(declaration.name)
        if raw is None and stored_only:
            continue
        shown = show_secrets or not declaration.secret
        text = declaration.default_raw if raw is None else raw
        values[declaration.name] = msgspec.json.decode(text) if shown else MASK
    return values


def plan_import(state: Settings, values: Mapping[str, object]) -> dict[str, str | None]:
    """Return the change that would give settings the values of an export, as raw texts.

    A setting that has its value already is left out; one whose value is the declared default
    goes back to the default; a masked secret is left as it is.

    :param values: mapping of setting name to a value as JSON or TOML knows it.
    :raises UnknownSettingError: a name is not declared; names every bad key.
    :raises InvalidValueError: a value does not fit; names every bad key.
    """

    def convert(declaration: Declaration, value: object) -> str | None:
        try:
            text = msgspec.json.encode(value).decode()
        except Exception as exc:
            raise ValueError(f"it can't be written as JSON ({type(exc).__name__})") from exc
        return declaration.encode(declaration.decode(text))

    given = {
        name: value
        for name, value in values.items()
        if value != MASK or name not in state.declarations or not state.declarations[name].secret
    }
    return trim(state, _each(state.declarations, given, convert))


def trim(state: Settings, raws: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return a change without what it would not alter; the default's value means the default.

    :param raws: mapping of declared setting name to JSON text, or ``None`` for the default.
    """
    snapshot = state.snapshot
    trimmed: dict[str, str | None] = {}
    for name, raw in raws.items():
        declaration = state.declarations[name]
        current = snapshot.stored.get(name, declaration.default_raw)
        if raw is None:
            if name in snapshot.stored:
                trimmed[name] = None
        elif name in snapshot.faults or not _is_same(declaration, current, raw):
            is_default = _is_same(declaration, declaration.default_raw, raw)
            trimmed[name] = None if is_default else raw
    return trimmed


def import_(
    state: Settings,
    values: Mapping[str, object],
    *,
    author: str | None = None,
    reason: str | None = None,
    expected_revision: int | None = None,
) -> int:
    """Give settings the values of an export, as one change; return the revision.

    :raises UnknownSettingError: a name is not declared; nothing was written.
    :raises InvalidValueError: a value does not fit; nothing was written.
    :raises RevisionConflict: the store is at another revision; nothing was written.
    :raises StoreError: the store failed; nothing was written.
    """
    raws = plan_import(state, values)
    return _commit(state, raws, author=author, reason=reason, expected_revision=expected_revision)


def parse_json(state: Settings, texts: Mapping[str, str]) -> dict[str, str | None]:
    """Return the raw texts of values that a person wrote as JSON.

    :raises UnknownSettingError: a name is not declared; names every bad key.
    :raises InvalidValueError: a value does not fit; names every bad key.
    """

    def convert(declaration: Declaration, text: str) -> str | None:
        return declaration.encode(declaration.decode(text))

    return _each(state.declarations, texts, convert)


def undeclared(state: Settings) -> list[str]:
    """Return the names that are stored and not declared, sorted."""
    return sorted(name for name in state.snapshot.stored if name not in state.declarations)


def prune(
    state: Settings,
    *,
    author: str | None = None,
    reason: str | None = None,
    expected_revision: int | None = None,
) -> list[str]:
    """Remove what is stored of settings that are not declared; return their names.

    One change like any other; the history keeps what was removed. Nothing is written if there
    is nothing to remove.

    :raises RevisionConflict: the store is at another revision; nothing was written.
    :raises StoreError: the store failed; nothing was written.
    """
    names = undeclared(state)
    _commit(
        state,
        dict.fromkeys(names),
        author=author,
        reason=reason,
        expected_revision=expected_revision,
    )
    return names


def _commit(
    state: Settings, raws: Mapping[str, str | None], *, expected_revision: int | None, **who: Any
) -> int:
    current = state.snapshot.revision
    if raws:
        return state.commit(raws, expected_revision=expected_revision, **who)
    if expected_revision not in (None, current):
        assert expected_revision is not None
        raise RevisionConflict(expected_revision, current)
    return current


def _describe(declaration: Declaration, snapshot: Snapshot, *, shown: bool) -> SettingInfo:
    name = declaration.name
    value, default = snapshot.by_name[name], declaration.default
    raw, fault = snapshot.stored.get(name), snapshot.faults.get(name)
    origin: Origin = "default"
    base = default
    if fault is not None:
        origin = "fault"
    elif raw is not None:
        origin, base = "stored", declaration.decoder.decode(raw)
    if differ(base, value):
        origin = "override"
    return SettingInfo(
        name=name,
        desc=declaration.desc,
        group=declaration.group,
        type=_type_text(declaration.type),
        value=value if shown else MASK,
        default=default if shown else MASK,
        raw=raw if shown or raw is None else MASK,
        origin=origin,
        secret=declaration.secret,
        fault=fault,
        min=declaration.min,
        max=declaration.max,
        choices=_choices(declaration) if shown else None,
    )


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


def _type_text(type_: Any) -> str:
    # Constraints belong to the declaration, and would fill the line.
    type_ = _bare(type_)
    if isinstance(type_, type) and typing.get_origin(type_) is None:
        return type_.__name__
    return type_name(type_)


def _bare(type_: Any) -> Any:
    return type_.__origin__ if typing.get_origin(type_) is Annotated else type_


def _choices(declaration: Declaration) -> tuple[Any, ...] | None:
    type_ = _bare(declaration.type)
    found: Iterable[Any] | None = declaration.choices
    if found is None and typing.get_origin(type_) is Literal:
        found = typing.get_args(type_)
    if found is None and isinstance(type_, enum.EnumMeta):
        found = list(type_)
    return None if found is None else tuple(msgspec.to_builtins(choice) for choice in found)


def _is_same(declaration: Declaration | None, one: str | None, other: str | None) -> bool:
    """Return whether two raw texts mean the same value; being at the default is a thing apart."""
    if one == other:
        return True
    if one is None or other is None or declaration is None:
        return False
    try:
        # The items of a set come in any order.
        return not differ(declaration.decode(one), declaration.decode(other))
    except ValueError:
        return False


def _entries_since(store: Store, revision: int) -> list[HistoryEntry]:
    """Return the newest entries, newest first, at least as far back as a revision.

    Fewer, if the store's history does not reach that far.
    """
    limit = _HISTORY_STEP
    while True:
        entries = store.history(limit=limit)
        # An entry of the revision itself, or an older one, tells that none is missing.
        if len(entries) < limit or entries[-1].revision <= revision:
            return entries
        limit *= 4


def _each(
    declarations: Declarations,
    given: Mapping[str, Any],
    convert: Callable[[Declaration, Any], str | None],
) -> dict[str, str | None]:
    raws: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    refusal: type[ChangeRefused] = InvalidValueError
    for name, item in given.items():
        declaration = declarations.get(name)
        if declaration is None:
            refusal = UnknownSettingError
            problems[name] = unknown_name(name, declarations)
            continue
        try:
            raws[name] = convert(declaration, item)
        except ValueError as exc:
            problems[name] = str(exc)
    if problems:
        raise refusal(problems)
    return raws
