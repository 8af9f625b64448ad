"""Settings carried from one place to another, read as JSON, and tidied up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..masking import MASK
from ..settings.declarations import Declaration
from .base import Settings, commit, is_same
from .describe import undeclared


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
        served = not declaration.pinned and declaration.name not in snapshot.faults
        raw = snapshot.stored.get(declaration.name) if served else None
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
    return trim(state, state.declarations.each(given, convert))


def trim(state: Settings, raws: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return a change without what it would not alter; the default's value means the default.

    :param raws: mapping of declared setting name to JSON text, or ``None`` for the default.
    """
    snapshot = state.snapshot
    trimmed: dict[str, str | None] = {}
    for name, raw in raws.items():
        declaration = state.declarations[name]
        current = snapshot.stored.get(name, declaration.default_raw)
        if declaration.pinned:
            current = declaration.default_raw
        if raw is None:
            if name in snapshot.stored:
                trimmed[name] = None
        elif name in snapshot.faults or not is_same(declaration, current, raw):
            is_default = is_same(declaration, declaration.default_raw, raw)
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
    :raises OutcomeUnknown: the connection broke within the commit: it may have been made.
    :raises StoreError: the store failed in any other way; nothing was written.
    """
    raws = plan_import(state, values)
    return commit(state, raws, author=author, reason=reason, expected_revision=expected_revision)


def parse_json(state: Settings, texts: Mapping[str, str]) -> dict[str, str | None]:
    """Return the raw texts of values that a person wrote as JSON.

    :raises UnknownSettingError: a name is not declared; names every bad key.
    :raises InvalidValueError: a value does not fit; names every bad key.
    """

    def convert(declaration: Declaration, text: str) -> str | None:
        return declaration.encode(declaration.decode(text))

    return state.declarations.each(texts, convert)


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
    :raises OutcomeUnknown: the connection broke within the commit: it may have been made.
    :raises StoreError: the store failed in any other way; nothing was written.
    """
    names = undeclared(state)
    commit(
        state,
        dict.fromkeys(names),
        author=author,
        reason=reason,
        expected_revision=expected_revision,
    )
    return names
