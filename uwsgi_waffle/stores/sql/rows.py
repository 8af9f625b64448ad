"""Rows of an SQL store as the values that the package passes around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...snapshot import Delta, Row


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
        rows=tuple(Row(name, raw) for *_, name, raw in rows if name is not None),
        complete=since == 0,
        mark=mark,
    )
