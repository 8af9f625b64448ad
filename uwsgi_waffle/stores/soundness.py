"""Rows that another program may have spoilt: what is not sound is left out, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from .base import HistoryEntry, WorkerReport

T = TypeVar("T")
R = TypeVar("R")


class Found(list[T]):
    """The findings of a store.

    :ivar damaged: how many rows it left out because they are not what a store may keep.
    """

    damaged: int = 0

    def cut(self, limit: int) -> Found[T]:
        """Return the first of these only."""
        found = Found(self[:limit])
        found.damaged = self.damaged
        return found


def sound_entries(entries: Iterable[HistoryEntry | None]) -> Found[HistoryEntry]:
    """Return the entries of a history that are sound.

    :param entries: ``None`` stands for one that could not even be made.
    """
    return _sound(entries, is_sound_entry)


def sound_reports(reports: Iterable[WorkerReport | None]) -> Found[WorkerReport]:
    """Return the reports that are sound; likewise."""
    return _sound(reports, _is_sound_report)


def entries_within(
    read: Callable[[int], Sequence[R]], make: Callable[[R], HistoryEntry | None], limit: int
) -> Found[HistoryEntry]:
    """Return so many entries, newest first, though some rows may be damaged.

    :param read: returns at most so many rows, newest first.
    :param make: returns the entry of a row, or ``None`` if it is damaged.
    """
    wanted = limit
    while True:
        rows = read(wanted)
        found = sound_entries(map(make, rows))
        # As many more as were left out.
        if len(found) >= limit or len(rows) < wanted:
            return found.cut(limit)
        wanted *= 2


def _sound(items: Iterable[T | None], is_sound: Callable[[T], bool]) -> Found[T]:
    given = list(items)
    found = Found(item for item in given if item is not None and is_sound(item))
    # A store of ours has counted its own already.
    found.damaged = len(given) - len(found) + (items.damaged if isinstance(items, Found) else 0)
    return found


def is_sound_entry(entry: HistoryEntry) -> bool:
    """Return whether an entry of the history is what a store may keep."""
    parts: tuple[Any, ...] = entry
    revision, name, *texts, at = parts
    return (
        type(revision) is int
        and isinstance(name, str)
        and isinstance(at, datetime)
        and all(text is None or isinstance(text, str) for text in texts)
    )


def _is_sound_report(report: WorkerReport) -> bool:
    numbers: tuple[Any, ...] = (report.pid, report.worker_id, report.revision)
    texts: tuple[Any, ...] = (report.app, report.host, report.state, report.last_error or "")
    ages: tuple[Any, ...] = (report.age_s, report.lifetime_s, report.staleness_s or 0.0)
    return (
        all(type(number) is int for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(age, (int, float)) for age in ages)
    )
