"""Which form control fits a declaration, and how values are written into it and read from it."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from ..settings.declarations import Declaration
from ..settings.raws import dump
from ..settings.shapes import Shape, shape_of

Kind = Literal[
    "switch",
    "number",
    "select",
    "date",
    "datetime-local",
    "time",
    "text",
    "textarea",
    "json",
    "password",
]

#: a text that is longer, or may become longer, gets several lines
_LONG = 120
_SHORT = 80


class Choice(NamedTuple):
    """One option of a select; its value is JSON text, so that 1 and "1" are two."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Widget:
    """The form control of one setting.

    :ivar base: the type without constraints and without ``None``.
    :ivar optional: ``None`` is a value too.
    :ivar null_box: no text means ``None``, so a checkbox says it.
    :ivar utc: dates and times are of a zone, and are shown in UTC.
    :ivar attributes: of HTML: bounds and lengths.
    :ivar hint: how to write a value, if that is not evident.
    """

    kind: Kind
    base: Any
    optional: bool = False
    null_box: bool = False
    utc: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    hint: str = ""


def make_widget(declaration: Declaration, value: Any) -> Widget:
    """Return the control that fits a setting while it has a value.

    Of a secret it tells nothing but the type.
    """
    base, metas, optional = shape = shape_of(declaration.type)
    if declaration.secret:
        return Widget("password", base, optional, hint=_hint(base))
    choices = _choices(declaration, shape)
    if choices is not None:
        shown = dump(value)
        if all(choice.value != shown for choice in choices):
            # Else the browser would choose another one without being asked.
            choices = [Choice(shown, _label(value)), *choices]
        return Widget("select", base, optional, choices=tuple(choices))
    if base is bool:
        return Widget("switch", base)
    if isinstance(value, Decimal) and not value.is_finite():
        # A browser empties a number that it does not know.
        return Widget("text", base, optional)
    if base in (int, float, Decimal):
        attributes = {"step": "1" if base is int else "any", **_bounds(declaration, shape, str)}
        return Widget("number", base, optional, attributes=attributes)
    if base in (date, datetime, time):
        return _clock_widget(declaration, shape, value)
    if base is str:
        return _text_widget(metas, value, optional)
    if base in (timedelta, UUID, bytes):
        return Widget("text", base, optional, hint=_hint(base))
    return Widget("json", base, optional, hint="JSON")


def write(widget: Widget, value: Any) -> str:
    """Return the text that stands for a value in its control; of a secret, nothing."""
    if widget.kind == "password":
        return ""
    if widget.kind in ("select", "switch"):
        return dump(value)
    if widget.kind == "json":
        return str(msgspec.json.format(dump(value), indent=2))
    if value is None:
        return ""
    if isinstance(value, datetime) and widget.utc:
        value = _utc(value)
    if isinstance(value, (datetime, time)):
        return _clock_text(value)
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    return str(msgspec.to_builtins(value))


def describe(widget: Widget, value: Any) -> str:
    """Return a value in a few words, for people; not for secrets."""
    if widget.kind in ("select", "switch"):
        return _label(value)
    if value is None:
        return "no value"
    text = dump(value) if widget.kind == "json" else write(widget, value)
    return (text if len(text) <= _SHORT else f"{text[:_SHORT]}…") or "(empty)"


def read(widget: Widget, declaration: Declaration, text: str, *, null: bool = False) -> str:
    """Return the raw text of what was typed into a control, after every check.

    :param null: the box that says ``None`` is ticked.
    :raises ValueError: it does not fit; the message never shows a secret.
    """
    if null and widget.null_box:
        return declaration.encode(None)
    if widget.kind in ("switch", "select", "json"):
        return declaration.encode(_from_json(declaration, text))
    if widget.base is str:
        # A form sends every line end as CRLF.
        return declaration.encode(plain(text))
    if widget.optional and not text.strip():
        return declaration.encode(None)
    if widget.base in _CLOCKS:
        return declaration.encode(_from_iso(widget, text.strip()))
    if widget.kind == "password" and widget.hint == "JSON":
        return declaration.encode(_from_json(declaration, text))
    return declaration.encode(declaration.parse(text.strip()))


def plain(text: str) -> str:
    """Return a text of a form with the line ends of Unix."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


_CLOCKS = {
    date: "a date such as 2026-05-31",
    datetime: "a date and time such as 2026-05-31T14:30",
    time: "a time such as 14:30",
}


def _choices(declaration: Declaration, shape: Shape) -> list[Choice] | None:
    found = declaration.allowed
    if found is None and shape.base is bool and shape.optional:
        found = [True, False]
    if found is None:
        return None
    values = list(found)
    if shape.optional and declaration.choices is None and None not in values:
        values.append(None)
    return [Choice(dump(value), _label(value)) for value in values]


def _label(value: Any) -> str:
    builtin = msgspec.to_builtins(value)
    if value is None:
        return "no value"
    if isinstance(builtin, bool):
        return "on" if builtin else "off"
    return builtin or "(empty)" if isinstance(builtin, str) else dump(value)


def _bounds(declaration: Declaration, shape: Shape, show: Callable[[Any], str]) -> dict[str, str]:
    low, high = shape.bounds(declaration.min, declaration.max)
    found = {"min": low, "max": high}
    return {name: show(bound) for name, bound in found.items() if bound is not None}


def _clock_widget(declaration: Declaration, shape: Shape, value: Any) -> Widget:
    base, metas, optional = shape
    shown = value if value is not None else declaration.default
    zoned = any(meta.tz for meta in metas)
    utc = zoned or getattr(shown, "tzinfo", None) is not None
    # Browsers know milliseconds, and no zone beside a time of day.
    strange = getattr(shown, "microsecond", 0) % 1000 != 0 or (base is time and utc)
    if strange or (isinstance(shown, datetime) and _utc(shown).tzinfo is not None):
        hint = f"{_CLOCKS[base]}, UTC" if utc and base is datetime else _CLOCKS[base]
        return Widget("text", base, optional, utc=utc, hint=hint)
    kinds: dict[Any, Kind] = {date: "date", datetime: "datetime-local", time: "time"}
    widget = Widget(kinds[base], base, optional, utc=utc, hint="UTC" if utc else "")
    widget.attributes.update(
        _bounds(declaration, shape._replace(metas=()), lambda bound: write(widget, bound))
    )
    if base is not date:
        widget.attributes["step"] = "1" if not getattr(shown, "microsecond", 0) else "any"
    return widget


def _utc(value: datetime) -> datetime:
    """Return a time as UTC without its zone; what has none stays as it is.

    So do both ends of the calendar, where there is no other zone to go to.
    """
    if value.tzinfo is not None:
        with contextlib.suppress(OverflowError):
            return value.astimezone(timezone.utc).replace(tzinfo=None)
    return value


def _clock_text(value: datetime | time) -> str:
    # As browsers write it, so that what was not touched comes back the same.
    if value.microsecond:
        return value.isoformat(
            timespec="microseconds" if value.microsecond % 1000 else "milliseconds"
        )
    return value.isoformat(timespec="seconds" if value.second else "minutes")


def _text_widget(metas: Sequence[msgspec.Meta], value: Any, optional: bool) -> Widget:
    shortest = next((meta.min_length for meta in metas if meta.min_length), None)
    longest = next((meta.max_length for meta in metas if meta.max_length), None)
    # Not the attribute maxlength, which cuts what is pasted without a word.
    lengths = {"data-shortest": shortest, "data-longest": longest}
    attributes = {name: str(length) for name, length in lengths.items() if length is not None}
    hints = []
    if shortest is not None:
        hints.append(f"at least {shortest}")
    if longest is not None:
        hints.append(f"at most {longest}")
    hint = f"{', '.join(hints)} characters" if hints else ""
    text = value or ""
    if any(unicodedata.category(char) == "Cc" and char not in "\t\n\r" for char in text):
        # Neither pages nor people can hold a NUL; JSON writes it in other letters.
        return Widget("json", str, optional, hint="JSON")
    several = len(text) > _LONG or "\n" in text or "\r" in text or (longest or 0) > _LONG
    kind: Kind = "textarea" if several else "text"
    return Widget(kind, str, optional, null_box=optional, attributes=attributes, hint=hint)


def _hint(base: Any) -> str:
    if base is timedelta:
        return "a duration such as PT1H30M or P1DT12H (ISO 8601)"
    if base is bytes:
        return "bytes in base64"
    if base in _CLOCKS:
        return _CLOCKS[base]
    return "" if base in (str, int, float, bool, Decimal, UUID) else "JSON"


def _from_iso(widget: Widget, text: str) -> Any:
    try:
        # Python 3.10 does not read the Z.
        typed = widget.base.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as exc:
        raise ValueError(f"it is not {_CLOCKS[widget.base]}") from exc
    if widget.utc and widget.base is datetime and typed.tzinfo is None:
        typed = typed.replace(tzinfo=timezone.utc)
    return typed


def _from_json(declaration: Declaration, text: str) -> Any:
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        if declaration.secret:
            raise ValueError("it is not JSON") from None
        raise ValueError(
            f"it is not JSON: {exc.msg}, in line {exc.lineno}, column {exc.colno}"
        ) from exc
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    return declaration.decode(text)
