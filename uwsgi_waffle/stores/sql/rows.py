"""Rows of an SQL store as the values that the package passes around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...snapshot import Delta, Row
from ..base import HistoryEntry, time_of


def delta_of(rows: Sequence[Any]) -> Delta:
    """Return the delta that the one statement of an SQL store has read.

    :param rows: at least one; the store's revision, epoch and mark, the revision after which the
        statement looked (0 if it had to read everything), and the name and raw text of a setting,
        or ``None`` for both if there is none to report.
    """
    revision, epoch, mark, since = rows[0][:4]
    return Delta(
        revision=revision,
        epoch=epoch,
        rows=tuple(Row(_text(name), _text(raw)) for *_, name, raw in rows if name is not None),
        complete=since == 0,
        mark=mark,
    )


def entry_of(row: Sequence[Any]) -> HistoryEntry | None:
    """Return the entry of a history whose columns are in the order of its fields.

    ``None`` if its time is no time.
    """
    at = time_of(row[6])
    if at is None:
        return None
    return HistoryEntry._make((*row[:2], _text(row[2]), _text(row[3]), *row[4:6], at))


def readable(text: bytes) -> str:
    """Return the bytes of a text; what is no UTF-8 becomes ``\\xff``.

    For ``text_factory`` of SQLite: one broken value must not keep all others from being read. A
    backslash followed by an x is no JSON, so its declaration refuses what was broken.
    """
    return text.decode(errors="backslashreplace")


def _text(value: Any) -> Any:
    # SQLite takes what was put in by hand as it is: a number, or bytes.
    if value is None or isinstance(value, str):
        return value
    return readable(value) if isinstance(value, bytes) else str(value)
