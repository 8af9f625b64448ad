"""Settings as JSON and TOML documents, for export and import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ..errors import WaffleError
from .tables import json_text

Format = Literal["json", "toml"]


class DocumentError(WaffleError):
    """A document can't be read or written."""


def dump(values: Mapping[str, Any], format_: Format) -> str:
    """Return a document of setting names and values, with a newline at its end.

    TOML has no null. A setting whose value is null becomes a comment, so that nothing is lost
    unseen; an import leaves it as it is.

    :raises DocumentError: a value can't be expressed.
    """
    if format_ == "json":
        return json_text(values) + "\n"
    problems = [name for name, value in values.items() if value is not None and holds_null(value)]
    if problems:
        raise DocumentError(
            f"TOML can't express the null within {', '.join(problems)}: use JSON instead"
        )
    # Quoted as a key would be, so that a name with a newline stays within its comment.
    return "".join(
        f"# {json_text(name)} is null\n" if value is None else toml_line(name, value)
        for name, value in values.items()
    )


def toml_line(name: str, value: Any) -> str:
    """Return a line of TOML that gives a setting a value as JSON knows it, without a null."""
    return f"{_key(name)} = {_toml(value)}\n"


def holds_null(value: Any) -> bool:
    """Return whether there is a null somewhere in a value."""
    if isinstance(value, dict):
        return any(map(holds_null, value.values()))
    if isinstance(value, list):
        return any(map(holds_null, value))
    return value is None


def load(text: bytes, format_: Format) -> dict[str, Any]:
    """Return the setting names and values of a document.

    :raises DocumentError: it is not such a document, or the library for TOML is missing.
    """
    try:
        values = (msgspec.json if format_ == "json" else msgspec.toml).decode(text)
    except ImportError as exc:
        raise DocumentError(
            "reading TOML needs tomli: pip install 'uwsgi-waffle[toml]', or use JSON"
        ) from exc
    except (ValueError, RecursionError) as exc:
        reason = str(exc).removeprefix("JSON is malformed: ") if text.strip() else "it is empty"
        raise DocumentError(f"it is not {format_.upper()}: {reason}") from exc
    if not isinstance(values, dict):
        raise DocumentError("it does not map setting names to values")
    return values


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json_text(name)


def _toml(value: Any) -> str:
    # A string, a number and a bool are written as in JSON.
    if isinstance(value, dict):
        items = ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    text = json_text(value)
    # TOML has no escape for half of a pair.
    return re.sub(r"\\u(d[89ab]\w\w)\\u(d[c-f]\w\w)", _one_escape, text)


def _one_escape(match: re.Match[str]) -> str:
    char = bytes.fromhex(match[1] + match[2]).decode("utf-16-be")
    return f"\\U{ord(char):08x}"
