"""Settings as JSON and TOML documents, for export and import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ..errors import WaffleError

Format = Literal["json", "toml"]

_EXTRA = "pip install 'uwsgi-waffle[toml]', or use JSON"


class DocumentError(WaffleError):
    """A document can't be read or written."""


def dump(values: Mapping[str, Any], format_: Format) -> str:
    """Return a document of setting names and values, with a newline at its end.

    TOML has no null. A setting whose value is null becomes a comment, so that nothing is lost
    unseen; an import leaves it as it is.

    :raises DocumentError: a value can't be expressed, or the library for TOML is missing.
    """
    if format_ == "json":
        return msgspec.json.format(msgspec.json.encode(values), indent=2).decode() + "\n"
    nulls = [name for name, value in values.items() if value is None]
    rest = {name: value for name, value in values.items() if value is not None}
    problems = [name for name, value in rest.items() if _holds_null(value)]
    if problems:
        raise DocumentError(
            f"TOML can't express the null within {', '.join(problems)}: use JSON instead"
        )
    try:
        text = msgspec.toml.encode(rest).decode()
    except ImportError as exc:
        raise DocumentError(f"writing TOML needs tomli-w: {_EXTRA}") from exc
    # Quoted as a key would be, so that a name with a newline stays within its comment.
    comments = [f"# {msgspec.json.encode(name).decode()} is null\n" for name in nulls]
    return "".join(comments) + text


def load(text: bytes, format_: Format) -> dict[str, Any]:
    """Return the setting names and values of a document.

    :raises DocumentError: it is not such a document, or the library for TOML is missing.
    """
    try:
        values = (msgspec.json if format_ == "json" else msgspec.toml).decode(text)
    except ImportError as exc:
        raise DocumentError(f"reading TOML needs tomli: {_EXTRA}") from exc
    except (ValueError, RecursionError) as exc:
        raise DocumentError(f"it is not {format_.upper()}: {exc}") from exc
    if not isinstance(values, dict):
        raise DocumentError("it does not map setting names to values")
    return values


def _holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _holds_null(item) for item in value.values())
    if isinstance(value, list):
        return any(item is None or _holds_null(item) for item in value)
    return False
