"""Declarations as one host has them: its own defaults, and what it pins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ..errors import ConfigurationError
from .declarations import Declaration, Declarations, unknown_name

_MISSING = object()
_FIX = (
    "correct it where it was set (the environment, a configuration file), or remove it there to "
    "serve the declared default"
)
_QUOTED = "a number that means a string must be quoted, in the environment as '\"1.10\"'"


def configure(
    declarations: Declarations,
    config: Mapping[str, Any],
    *,
    plain: Mapping[str, Any],
    pinned: Collection[str],
) -> Declarations:
    """Return declarations with the defaults that ``app.config`` already has, and with the pins.

    :param config: ``app.config`` before any setting was put into it.
    :param plain: what the framework itself puts there; it is nobody's default.
    :param pinned: names of settings that keep their default, whatever is stored.
    :raises ConfigurationError: names every value that does not fit, and every pinned name that
        is not declared.
    """
    made: list[Declaration] = []
    problems = [
        f"WAFFLE_PINNED: {name}: {unknown_name(name, declarations)}"
        for name in pinned
        if name not in declarations
    ]
    for name, declaration in declarations.items():
        if name in pinned:
            declaration = msgspec.structs.replace(declaration, pinned=True)
        value = config.get(name, _MISSING)
        if value is not _MISSING and not (name in plain and plain[name] is value):
            try:
                raw = _raw(declaration, value)
            except ValueError as exc:
                problems.append(f"app.config[{name!r}]: {exc}; {_FIX}")
                continue
            declaration = msgspec.structs.replace(
                declaration, default_raw=raw, default_from="config"
            )
        made.append(declaration)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Declarations(made)


def _raw(declaration: Declaration, value: object) -> str:
    """Return the raw text of a value that a program, or a person in the environment, has set.

    Flask's ``from_prefixed_env`` reads each variable as JSON and keeps as a string what is none:
    what does not fit as it is, is read as the text that a person wrote.

    :raises ValueError: it does not fit; the message never shows a secret.
    """
    try:
        return declaration.encode(value)
    except ValueError:
        if isinstance(value, str):
            text = value
        elif isinstance(value, (bool, int, float)):
            text = msgspec.json.encode(value).decode()
        else:
            raise
    parsed = declaration.parse(text)
    if isinstance(value, float) and isinstance(parsed, str):
        # "1.10" was read as 1.1: what was written is lost.
        raise ValueError(_QUOTED)
    return declaration.encode(parsed)
