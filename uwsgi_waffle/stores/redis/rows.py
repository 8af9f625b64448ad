"""Entries of the history and reports of workers as Redis and its scripts have them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone

import msgspec

from ..base import HistoryEntry, WorkerReport, time_of


def aged_report(text: str, left_ms: int) -> WorkerReport | None:
    """Return a report with its age, or ``None`` if it is damaged.

    :param left_ms: what is left of its lifetime.
    """
    try:
        told = msgspec.json.decode(text, type=WorkerReport)
    except (ValueError, RecursionError):
        return None
    return told._replace(age_s=max(0.0, told.lifetime_s - left_ms / 1000))


def optional_text(text: str | None) -> str:
    """Return a text or its absence as the scripts have it."""
    # Added, not formatted, so that what is no text is refused.
    return "" if text is None else "=" + text


def fields_of(entry: HistoryEntry) -> list[str | int]:
    """Return an entry as the script that loads it has it."""
    return [
        entry.revision,
        entry.name,
        entry.at.astimezone(timezone.utc).isoformat(),
        optional_text(entry.old_raw),
        optional_text(entry.new_raw),
        optional_text(entry.author),
        optional_text(entry.reason),
    ]


def id_before(key: str) -> str:
    """Return where a page ends that comes before an entry; Redis 5 has no exclusive ranges."""
    revision, _, number = key.partition("-")
    return f"{revision}-{int(number) - 1}" if int(number) else str(int(revision) - 1)


def entry_of(key: str, fields: Mapping[str, str]) -> HistoryEntry | None:
    """Return an entry of the history's stream, or ``None`` if it is damaged."""
    at = time_of(fields.get("at"))
    if at is None or "name" not in fields:
        return None
    return HistoryEntry(
        revision=int(key.partition("-")[0]),
        name=fields["name"],
        old_raw=fields.get("old_raw"),
        new_raw=fields.get("new_raw"),
        author=fields.get("author"),
        reason=fields.get("reason"),
        at=at,
    )
