"""Which form control fits a declaration and a value."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from ..masking import counted
from ..settings.declarations import Declaration
from ..settings.declare import declare
from ..settings.raws import dump
from ..settings.shapes import Shape, shape_of

Kind = Literal[
    "switch",
    "number",
    "select",
    "date",
    "datetime-local",
    "time",
    "duration",
    "text",
    "textarea",
    "lines",
    "boxes",
    "rows",
    "struct",
    "json",
    "password",
]

#: a text that is longer, or may become longer, gets several lines
_LONG = 120
#: types that are written in one line
SCALARS = (str, int, float, Decimal, date, datetime, time, timedelta, UUID, bytes)
CLOCKS: dict[Any, str] = {
    date: "a date such as 2026-05-31",
    datetime: "a date and time such as 2026-05-31T14:30",
    time: "a time such as 14:30",
}
_CLOCK_KINDS: dict[Any, Kind] = {date: "date", datetime: "datetime-local", time: "time"}
#: composite controls, whose "no value" needs a box
_COMPOSITE = ("lines", "boxes", "rows", "struct")


class Choice(NamedTuple):
    """One option of a select; its value is JSON text, so that 1 and "1" are two."""

    value: str
    label: str


class Part(NamedTuple):
    """One field of a struct, with a control of its own."""

    name: str
    declaration: Declaration
    widget: Widget


@dataclass(frozen=True, slots=True)
class Widget:
    """The form control of one setting.

    :ivar base: the type without constraints and without ``None``.
    :ivar optional: ``None`` is a value too.
    :ivar null_box: an empty control does not mean ``None``, so a checkbox says it.
    :ivar utc: dates and times are of a zone, and are shown in UTC.
    :ivar attributes: of HTML: bounds and lengths, for the script.
    :ivar hint: how to write a value, if that is not evident.
    :ivar item: of lines, boxes and rows: the declaration of one item.
    :ivar parts: of a struct: its fields.
    """

    kind: Kind
    base: Any
    optional: bool = False
    null_box: bool = False
    utc: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    hint: str = ""
    item: Declaration | None = None
    parts: tuple[Part, ...] = ()


def make_widget(declaration: Declaration, value: Any, kind: str = "") -> Widget:
    """Return the control that fits a setting while it has a value.

    The first that gives the value back as it is; of a secret it shows nothing but the type.

    :param kind: take this one, if it is one for the type: something was typed into it.
    """
    found: Widget | None = None
    for widget in _fitting(declaration, value):
        if widget.kind == kind:
            return widget
        if found is None and (widget.kind in ("password", "json") or _holds(widget, value)):
            found = widget
        if found is not None and not kind:
            break
    assert found is not None, "JSON holds everything"
    return found


def label_of(value: Any) -> str:
    """Return a value of a short list in words."""
    builtin = msgspec.to_builtins(value)
    if value is None:
        return "no value"
    if isinstance(builtin, bool):
        return "On" if builtin else "Off"
    return builtin or "(empty)" if isinstance(builtin, str) else dump(value)


def _holds(widget: Widget, value: Any) -> bool:
    from .texts import holds

    return holds(widget, value)


def _fitting(declaration: Declaration, value: Any) -> Iterator[Widget]:
    """Every control for a type, the best one first; JSON is the last."""
    shape = shape_of(declaration.type)
    base, optional = shape.base, shape.optional
    if declaration.secret:
        yield Widget("password", base, optional, hint=_hint(base), item=_bare(declaration))
        return
    for widget in _by_type(declaration, shape, value):
        composite = widget.kind in _COMPOSITE or base is str
        null_box = optional and composite
        yield replace(
            widget,
            optional=optional,
            null_box=null_box,
            item=widget.item or _bare(declaration),
        )
    yield Widget("json", base, optional, hint="JSON", item=_bare(declaration))


def _by_type(declaration: Declaration, shape: Shape, value: Any) -> Iterator[Widget]:
    base = shape.base
    choices = _choices(declaration, shape)
    if choices is not None:
        shown = dump(value)
        if all(choice.value != shown for choice in choices):
            # Else the browser would choose another one without being asked.
            choices = [Choice(shown, label_of(value)), *choices]
        yield Widget("select", base, choices=tuple(choices))
    elif base is bool:
        yield Widget("switch", base)
    elif base in (int, float, Decimal):
        attributes = {"step": "1" if base is int else "any", **_bounds(declaration, shape, str)}
        yield Widget("number", base, attributes=attributes)
    elif base in _CLOCK_KINDS:
        yield from _clock_widgets(declaration, shape, value)
    elif base is str:
        yield from _text_widgets(shape, value)
    elif base is timedelta:
        from .texts import write_duration

        bounds = _bounds(declaration, shape, write_duration)
        yield Widget("duration", base, attributes=bounds, hint=_hint(base))
    elif base in SCALARS:
        yield Widget("text", base, hint=_hint(base))
    else:
        yield from _composite_widgets(declaration, base)


def _composite_widgets(declaration: Declaration, base: Any) -> Iterator[Widget]:
    origin, args = typing.get_origin(base), typing.get_args(base)
    is_list = origin in (list, set, frozenset) or (
        origin is tuple and len(args) == 2 and args[1] is ...
    )
    if is_list:
        item = _item(declaration, "item", args[0])
        shape = shape_of(args[0])
        if item is None:
            return
        if shape.choices is not None and not shape.optional:
            found = tuple(Choice(dump(value), label_of(value)) for value in shape.choices)
            yield Widget("boxes", base, choices=found, item=item)
        if shape.base in SCALARS and shape.choices is None:
            hint = "one a line" + (f", each {_hint(shape.base)}" if _hint(shape.base) else "")
            yield Widget("lines", base, hint=hint, item=item)
    elif origin is dict and shape_of(args[0]).base is str:
        item = _item(declaration, "value", args[1])
        if item is not None and (
            shape_of(args[1]).base in (*SCALARS, bool) and not shape_of(args[1]).optional
        ):
            yield Widget("rows", base, item=item, hint=_hint(shape_of(args[1]).base))
    elif _is_struct(base):
        parts = _parts(declaration, base)
        if parts:
            yield Widget("struct", base, parts=parts)


def _parts(declaration: Declaration, base: Any) -> tuple[Part, ...]:
    """The fields of a struct, or nothing if one of them needs more than one line."""
    parts = []
    hints = typing.get_type_hints(base, include_extras=True)
    names = {item.name: item.encode_name for item in _fields(base)}
    for name, encoded in names.items():
        item = _item(declaration, encoded, hints[name])
        base_ = shape_of(hints[name]).base
        if item is None or not (base_ in (*SCALARS, bool) or item.allowed is not None):
            return ()
        parts.append(Part(encoded, item, make_widget(item, item.default)))
    return tuple(parts)


class _Field(NamedTuple):
    name: str
    encode_name: str


def _fields(base: Any) -> list[_Field]:
    if dataclasses.is_dataclass(base):
        return [_Field(item.name, item.name) for item in dataclasses.fields(base)]
    return [_Field(item.name, item.encode_name) for item in msgspec.structs.fields(base)]


def _is_struct(base: Any) -> bool:
    if not isinstance(base, type):
        return False
    if issubclass(base, msgspec.Struct):
        config = base.__struct_config__
        return not (config.array_like or config.tag is not None)
    return dataclasses.is_dataclass(base)


#: a value of each type that fits nearly every constraint; only its type counts
_SAMPLES: dict[Any, Any] = {
    str: "x",
    int: 1,
    float: 1.0,
    bool: False,
    Decimal: Decimal(1),
    date: date(2026, 1, 1),
    datetime: datetime(2026, 1, 1),
    time: time(12),
    timedelta: timedelta(hours=1),
    UUID: UUID(int=1),
    bytes: b"x",
}


def _item(declaration: Declaration, name: str, type_: Any) -> Declaration | None:
    """The declaration of a part of a value, or ``None`` if there is no sample of its type."""
    shape = shape_of(type_)
    sample = _SAMPLES.get(shape.base)
    if shape.choices:
        sample = next(iter(shape.choices))
    if sample is None:
        return None
    # Constraints are checked when the whole value is read.
    bare = shape.base | None if shape.optional else shape.base
    spec = {"desc": "", "default": None if shape.optional else sample, "type": bare}
    made = declare({"x": spec})["x"]
    return msgspec.structs.replace(made, name=name or declaration.name, type=bare)


def _bare(declaration: Declaration) -> Declaration:
    """A declaration whose type alone decides."""
    return msgspec.structs.replace(declaration, min=None, max=None, choices=None, validate=None)


def _choices(declaration: Declaration, shape: Shape) -> list[Choice] | None:
    found = declaration.allowed
    if found is None and shape.base is bool and shape.optional:
        found = [True, False]
    if found is None:
        return None
    values = list(found)
    if shape.optional and declaration.choices is None and None not in values:
        values.append(None)
    return [Choice(dump(value), label_of(value)) for value in values]


def _bounds(declaration: Declaration, shape: Shape, show: Callable[[Any], str]) -> dict[str, str]:
    low, high = shape.bounds(declaration.min, declaration.max)
    found = {"data-min": low, "data-max": high}
    return {name: show(bound) for name, bound in found.items() if bound is not None}


def _clock_widgets(declaration: Declaration, shape: Shape, value: Any) -> Iterator[Widget]:
    from .texts import write

    base = shape.base
    shown = value if value is not None else declaration.default
    zoned = any(meta.tz for meta in shape.metas)
    utc = zoned or getattr(shown, "tzinfo", None) is not None
    # Browsers know no zone beside a time of day.
    if not (base is time and utc):
        hint = "UTC" if utc else ""
        widget = Widget(_CLOCK_KINDS[base], base, utc=utc, hint=hint)
        bare = msgspec.structs.replace(shape, metas=())
        widget.attributes.update(_bounds(declaration, bare, lambda bound: write(widget, bound)))
        if base is not date:
            widget.attributes["step"] = _step(shown, declaration.min, declaration.max)
        yield widget
    hint = f"{CLOCKS[base]}, UTC" if utc and base is datetime else CLOCKS[base]
    yield Widget("text", base, utc=utc, hint=hint)


def _step(*clocks: Any) -> str:
    """How fine a clock is typed: to the minute, unless its value or a bound is finer.

    A control with seconds stays incomplete until they are typed too, and a browser that brings
    one back writes them, though nobody typed them.
    """
    if any(getattr(clock, "microsecond", 0) for clock in clocks):
        return "any"
    return "1" if any(getattr(clock, "second", 0) for clock in clocks) else "60"


def _text_widgets(shape: Shape, value: Any) -> Iterator[Widget]:
    shortest = next((meta.min_length for meta in shape.metas if meta.min_length), None)
    longest = next((meta.max_length for meta in shape.metas if meta.max_length), None)
    # Not the attribute maxlength, which cuts what is pasted without a word.
    lengths = {"data-shortest": shortest, "data-longest": longest}
    attributes = {name: str(length) for name, length in lengths.items() if length is not None}
    hint = ""
    if shortest is not None and longest is not None:
        hint = f"{shortest} to {counted(longest, 'character')}"
    elif shortest is not None:
        hint = f"at least {counted(shortest, 'character')}"
    elif longest is not None:
        hint = f"at most {counted(longest, 'character')}"
    several = len(value or "") > _LONG or (longest or 0) > _LONG
    kinds: tuple[Kind, ...] = ("textarea", "text") if several else ("text", "textarea")
    for kind in kinds:
        yield Widget(kind, str, attributes=attributes, hint=hint)


def _hint(base: Any) -> str:
    if base is timedelta:
        return "a duration such as 8 h 30 min, 2 days or 45 s"
    if base is bytes:
        return "bytes in base64"
    if base in CLOCKS:
        return CLOCKS[base]
    return "" if base in (str, int, float, bool, Decimal, UUID) else "JSON"
