"""Declarations made of what ``WAFFLE_CONFS`` says, each checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from ..errors import ConfigurationError
from .arguments import is_storable
from .declarations import LENGTH_FIX, Declaration, Declarations, type_name

RESERVED_PREFIX = "WAFFLE_"
MAX_NAME_LENGTH = 255
DECLARATION_KEYS = (
    "desc",
    "default",
    "type",
    "min",
    "max",
    "choices",
    "validate",
    "secret",
    "group",
    "label",
    "role",
    "pinned",
)

_ORDERED = (int, float, Decimal, date, time, timedelta)


def declare(confs: object) -> Declarations:
    """Return the declarations of a ``WAFFLE_CONFS`` mapping.

    :param confs: mapping of setting name to a mapping with ``desc``, ``default`` and, if wanted,
        ``type``, ``min``, ``max``, ``choices``, ``validate``, ``secret``, ``group``, ``label``,
        ``role`` and ``pinned``; or a class of settings, see
        :func:`~uwsgi_waffle.settings.classes.declarations_of`.
    :raises ConfigurationError: names every faulty declaration and its fix.
    """
    if isinstance(confs, type):
        # Only where a class declares: a worker pays memory for every module.
        from .classes import declarations_of

        confs = declarations_of(confs)
    if not isinstance(confs, Mapping):
        raise ConfigurationError(
            f"WAFFLE_CONFS must map setting names to declarations, got {type(confs).__name__}"
        )
    declarations: list[Declaration] = []
    problems: list[str] = []
    for name, spec in confs.items():
        try:
            declarations.append(_make_declaration(name, spec))
        except ValueError as exc:
            problems.append(f"WAFFLE_CONFS[{name!r}]: {exc}")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Declarations(declarations)


def _make_declaration(name: object, spec: object) -> Declaration:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"a setting's name must be a string of 1 to {MAX_NAME_LENGTH} characters")
    if not is_storable(name):
        raise ValueError("a setting's name must be text that UTF-8 can write, without a NUL")
    if name != name.strip():
        # MySQL takes "NAME " for "NAME".
        raise ValueError("a setting's name must not begin or end with a space")
    if name.startswith(RESERVED_PREFIX):
        raise ValueError(f"names that begin with {RESERVED_PREFIX} can't be settings")
    if not isinstance(spec, Mapping):
        raise ValueError(
            f"a declaration must be a dict, got {type(spec).__name__}: write "
            '{"desc": "…", "default": …}'
        )
    for key in spec:
        if key not in DECLARATION_KEYS:
            raise ValueError(
                f"unknown key {key!r}; a declaration may have {', '.join(DECLARATION_KEYS)}"
            )
    for key, meaning in (("desc", "says what it is, for people"), ("default", "is its value")):
        if key not in spec:
            raise ValueError(f"{key!r} is missing, which {meaning}")
    if not isinstance(spec["desc"], str):
        raise ValueError("'desc' must be a string")
    _check_extras(spec)
    type_ = spec.get("type") or _inferred_type(spec["default"])
    declaration = Declaration(
        name=name,
        desc=spec["desc"],
        default_raw="",
        type=type_,
        min=spec.get("min"),
        max=spec.get("max"),
        choices=spec.get("choices"),
        validate=spec.get("validate"),
        secret=spec.get("secret", False),
        group=spec.get("group"),
        label=spec.get("label"),
        role=spec.get("role"),
        pinned=spec.get("pinned", False),
        default_from="declaration",
        decoder=_make_decoder(type_),
    )
    for choice in declaration.choices or ():
        try:
            msgspec.convert(choice, type_, strict=True)
        except msgspec.ValidationError as exc:
            shown = "a choice" if declaration.secret else f"the choice {choice!r}"
            reason = declaration.refusal(exc)
            raise ValueError(f"{shown} does not fit its type: {reason}") from exc
    try:
        default_raw = declaration.encode(spec["default"])
    except ValueError as exc:
        raise ValueError(f"the default does not fit: {exc}") from exc
    return msgspec.structs.replace(declaration, default_raw=default_raw)


def _check_extras(spec: Mapping[str, Any]) -> None:
    choices = spec.get("choices")
    if choices is not None and (isinstance(choices, str) or not isinstance(choices, Collection)):
        raise ValueError("'choices' must be a list, a tuple or a set")
    if not callable(spec.get("validate") or len):
        raise ValueError("'validate' must be a callable that raises ValueError to refuse a value")
    for key in ("secret", "pinned"):
        if not isinstance(spec.get(key, False), bool):
            raise ValueError(f"{key!r} must be True or False")
    for key in ("group", "label", "role"):
        if not isinstance(spec.get(key) or "", str):
            raise ValueError(f"{key!r} must be a string")
    low, high = spec.get("min"), spec.get("max")
    for key, bound in (("min", low), ("max", high)):
        # A NaN would bound nothing.
        is_number = isinstance(bound, _ORDERED) and not isinstance(bound, bool) and bound == bound
        if bound is not None and not is_number:
            raise ValueError(
                f"{key!r} must be a number, a date, a time or a duration; {LENGTH_FIX}"
            )
    try:
        if low is not None and high is not None and low > high:
            raise ValueError(f"'min' {low!r} is greater than 'max' {high!r}")
    except TypeError as exc:
        raise ValueError(f"'min' and 'max' can't be compared: {exc}") from exc


def _inferred_type(default: object) -> Any:
    if default is None:
        raise ValueError("a default of None needs a type, such as Optional[str]")
    return type(default)


def _make_decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(type_)
    except (TypeError, ValueError, NameError) as exc:
        raise ValueError(f"the type {type_name(type_)} can't be read from JSON: {exc}") from exc
