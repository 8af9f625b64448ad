"""Values written into controls, and what was typed read from them."""

from __future__ import annotations

import contextlib
import json
import re
import typing
import unicodedata
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec

from ..settings.declarations import Declaration, differ
from ..settings.raws import dump
from ..settings.spelling import duration_text
from .widgets import CLOCKS, Widget, label_of

#: of a value that is described in one line
_SHORT = 80

#: browsers know milliseconds at most, and no zone
_BROWSER_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)?T?(\d\d:\d\d(:\d\d(\.\d{3})?)?)?")


def write(widget: Widget, value: Any) -> str:
    """Return the text that stands for a value in its control; of a secret, nothing.

    Of boxes it is a JSON array, of rows an array of pairs of texts, of a struct an object of
    texts: the same that the form's fields are put together to.
    """
    kind = widget.kind
    if kind == "password":
        return ""
    if kind in ("select", "switch"):
        return dump(value)
    if kind == "json":
        return str(msgspec.json.format(dump(value), indent=2))
    if value is None:
        return ""
    if kind == "boxes":
        return _write_boxes(widget, value)
    if kind == "lines":
        return "\n".join(_write_scalar(widget, item) for item in _in_order(value))
    if kind == "rows":
        rows = [[key, _write_scalar(widget, item)] for key, item in value.items()]
        return json.dumps(rows, ensure_ascii=False)
    if kind == "struct":
        return _write_struct(widget, value)
    return _write_scalar(widget, value)


def write_duration(value: timedelta) -> str:
    """Return a duration as people write it: ``8 h 30 min``."""
    return duration_text(value)


def describe(widget: Widget, value: Any) -> str:
    """Return a value in a few words, for people; not for secrets."""
    if widget.kind in ("select", "switch"):
        return label_of(value)
    if value is None:
        return "no value"
    if widget.kind in ("lines", "boxes"):
        text = ", ".join(label_of(item) for item in _in_order(value))
    elif widget.kind in ("rows", "struct"):
        pairs = msgspec.to_builtins(value)
        text = ", ".join(f"{key}: {label_of(item)}" for key, item in pairs.items())
    else:
        text = dump(value) if widget.kind == "json" else write(widget, value)
    return (text if len(text) <= _SHORT else f"{text[:_SHORT]}…") or "(empty)"


def in_full(widget: Widget, value: Any) -> str:
    """Return a value as people read it, complete, over several lines where that helps."""
    if widget.kind in ("lines", "boxes") and value is not None:
        return "\n".join(label_of(item) for item in _in_order(value)) or "(empty)"
    if widget.kind in ("rows", "struct") and value is not None:
        pairs = msgspec.to_builtins(value)
        return "\n".join(f"{key}: {label_of(item)}" for key, item in pairs.items()) or "(empty)"
    if widget.kind == "json" or widget.base is str:
        return ("no value" if value is None else write(widget, value)) or "(empty)"
    return describe(widget, value)


def holds(widget: Widget, value: Any) -> bool:
    """Return whether a control gives a value back as it is, and a browser can show it."""
    if value is None:
        return widget.optional
    text = write(widget, value)
    if not _is_safe(widget, text):
        return False
    bare = widget.item if widget.kind not in ("lines", "boxes", "rows", "struct") else None
    try:
        if bare is not None:
            return not differ(bare.decode(read(widget, bare, text)), value)
        built, now = json.loads(_assemble(widget, text)), json.loads(dump(value))
        if isinstance(value, (set, frozenset)):
            # Its order means nothing; that of boxes is the order of its choices.
            return sorted(map(json.dumps, built)) == sorted(map(json.dumps, now))
        return bool(built == now)
    except (ValueError, RecursionError):
        return False


def read(widget: Widget, declaration: Declaration, text: str, *, null: bool = False) -> str:
    """Return the raw text of what was typed into a control, after every check.

    :param null: the box that says ``None`` is ticked.
    :raises ValueError: it does not fit; the message never shows a secret.
    """
    if null and widget.null_box:
        return declaration.encode(None)
    if widget.kind in ("switch", "select", "json"):
        return declaration.encode(_from_json(declaration, text))
    if widget.kind in ("lines", "boxes", "rows", "struct"):
        return declaration.encode(declaration.decode(_assemble(widget, text)))
    if widget.base is str:
        # A form sends every line end as CRLF.
        return declaration.encode(plain(text))
    if not text.strip():
        if widget.optional:
            return declaration.encode(None)
        raise ValueError("it must not be empty")
    return _read_scalar(widget, declaration, text)


def plain(text: str) -> str:
    """Return a text of a form with the line ends of Unix."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_scalar(widget: Widget, declaration: Declaration, text: str) -> str:
    if widget.base in CLOCKS:
        return declaration.encode(_from_iso(widget, text.strip()))
    if widget.kind == "password" and widget.hint == "JSON":
        return declaration.encode(_from_json(declaration, text))
    return declaration.encode(declaration.parse(text.strip()))


def _write_scalar(widget: Widget, value: Any) -> str:
    if isinstance(value, datetime) and widget.utc:
        value = _utc(value)
    if isinstance(value, (datetime, time)):
        return _clock_text(value)
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    return str(msgspec.to_builtins(value))


def _write_boxes(widget: Widget, value: Any) -> str:
    texts = [dump(item) for item in value]
    known = [choice.value for choice in widget.choices]
    ordered = [text for text in known if text in texts]
    # What is no choice, comes twice, or has an order of its own, shows that boxes don't fit.
    is_list = typing.get_origin(widget.base) in (list, tuple)
    return f"[{','.join(texts if is_list or len(ordered) != len(texts) else ordered)}]"


def _write_struct(widget: Widget, value: Any) -> str:
    built = msgspec.to_builtins(value)
    texts = {}
    for part in widget.parts:
        item = part.declaration.decode(dump(built.get(part.name)))
        texts[part.name] = write(part.widget, item)
    return json.dumps(texts, ensure_ascii=False)


def _in_order(value: Any) -> list[Any]:
    """The items as they are written; those of a set sorted, numbers by size."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=_place)
    return list(value)


def _place(item: Any) -> tuple[bool, Any]:
    is_number = isinstance(item, (int, float, Decimal))
    return not is_number, item if is_number else dump(item)


def _assemble(widget: Widget, text: str) -> str:
    """Return the JSON text of what the fields of a composite control hold.

    :raises ValueError: names the line, the row or the field that is wrong.
    """
    if widget.kind == "boxes":
        chosen = [dump(item) for item in _loaded(text, list)]
        known = {choice.value for choice in widget.choices}
        wrong = next((item for item in chosen if item not in known), None)
        if wrong is not None or len(set(chosen)) != len(chosen):
            raise ValueError(f"{wrong} is not one of its choices")
        ordered = [choice.value for choice in widget.choices if choice.value in chosen]
        return f"[{','.join(ordered)}]"
    item = widget.item
    if widget.kind == "struct":
        texts = _loaded(text, dict)
        raws = []
        for part in widget.parts:
            typed = str(texts.get(part.name, ""))
            optional_text = part.widget.base is str and part.widget.optional
            with _at(part.name):
                raw = read(part.widget, part.declaration, typed, null=optional_text and not typed)
            raws.append(f"{json.dumps(part.name)}:{raw}")
        return f"{{{','.join(raws)}}}"
    assert item is not None
    if widget.kind == "lines":
        raws = []
        for number, line in enumerate(plain(text).split("\n"), 1):
            if line.strip():
                with _at(f"line {number}"):
                    raws.append(item.encode(item.parse(line.strip())))
        return f"[{','.join(raws)}]"
    return _assemble_rows(item, [row for row in _loaded(text, list) if len(row) == 2])


def _assemble_rows(item: Declaration, rows: list[tuple[str, str]]) -> str:
    raws: dict[str, str] = {}
    for number, (key, typed) in enumerate(rows, 1):
        if not key and not typed.strip():
            continue
        if not key:
            raise ValueError(f"row {number} has a value, but no name")
        if key in raws:
            raise ValueError(f"{key} is there twice: give row {number} another name")
        with _at(key):
            text = typed if item.type is str else typed.strip()
            raws[key] = item.encode(item.parse(text))
    return f"{{{','.join(f'{json.dumps(key)}:{raw}' for key, raw in raws.items())}}}"


def _loaded(text: str, type_: type) -> Any:
    """The value that the fields of a composite control were put together to.

    :raises ValueError: a forged form sent something else.
    """
    try:
        found = json.loads(text) if text else type_()
    except (ValueError, RecursionError) as exc:
        raise ValueError("it is not what the form's fields make") from exc
    if not isinstance(found, type_):
        raise ValueError("it is not what the form's fields make")
    return found


@contextlib.contextmanager
def _at(place: str) -> typing.Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise ValueError(f"{place}: {exc}") from exc


def _is_safe(widget: Widget, text: str) -> bool:
    """Whether a browser shows a text in a control as it is, and sends it back so."""
    if widget.kind in ("json", "password", "select", "switch", "boxes"):
        return True
    if widget.kind in ("rows", "struct"):
        loaded = json.loads(text)
        pairs = loaded.items() if isinstance(loaded, dict) else loaded
        return all(_is_printable(part, several=False) for pair in pairs for part in pair)
    if widget.kind in ("date", "datetime-local", "time"):
        return _BROWSER_CLOCK.fullmatch(text) is not None
    return _is_printable(text, several=widget.kind in ("textarea", "lines"))


def _is_printable(text: str, *, several: bool) -> bool:
    allowed = "\t\n" if several else "\t"
    return not any(
        unicodedata.category(char) in ("Cc", "Cs") and char not in allowed for char in text
    )


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


def _from_iso(widget: Widget, text: str) -> Any:
    try:
        # Python 3.10 does not read the Z.
        typed = widget.base.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as exc:
        raise ValueError(f"it is not {CLOCKS[widget.base]}") from exc
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
