"""A store's settings, revision and history as a document, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Literal

import msgspec

from ..errors import StoreMissing, WaffleError
from ..masking import MASK, OwnRepr
from ..settings.wording import explained
from ..stores.base import Dump, HistoryEntry
from .base import Settings

FORMAT = "uwsgi_waffle backup"
VERSION = 1
# From there on, Lua in Redis takes two numbers for one.
_NO_REVISION = 2**53


class BackupError(WaffleError):
    """A document is not a backup that this release can read."""


class Entry(OwnRepr, frozen=True, omit_defaults=True):
    """One setting in one committed change, as a store keeps it."""

    revision: int
    name: str
    at: datetime
    old_raw: str | None = None
    new_raw: str | None = None
    author: str | None = None
    reason: str | None = None

    def __repr__(self) -> str:
        # A raw text may be a secret's.
        return f"Entry(revision={self.revision}, name={self.name!r})"


class Backup(OwnRepr, frozen=True, kw_only=True):
    """The content of a backup.

    :ivar secrets: whether the values of secret settings, and of those that are not declared, are
        in it; else :data:`~uwsgi_waffle.masking.MASK` is in their place.
    :ivar settings: mapping of setting name to the very text that the store keeps.
    :ivar history: newest first.
    """

    format: Literal["uwsgi_waffle backup"] = "uwsgi_waffle backup"
    version: int = VERSION
    app: str
    at: datetime
    revision: int
    secrets: bool
    settings: dict[str, str]
    history: list[Entry]

    def __repr__(self) -> str:
        return f"<Backup of {self.app} at revision {self.revision}>"


def back_up(state: Settings, app: str, *, secrets: bool = False) -> Backup:
    """Return everything that the store keeps, as of one revision.

    :param app: the app's name, for people.
    :param secrets: keep the values of secret settings, and of those that are not declared.
    :raises StoreUnavailable: the store can't be read within its bound.
    """
    try:
        dump = state.store.dump()
    except StoreMissing:
        if state.snapshot.epoch:
            raise
        # None was made yet, and a command that only reads makes none.
        dump = Dump(0, "", {}, ())

    def kept(name: str, raw: str | None) -> str | None:
        declaration = state.declarations.get(name)
        shown = raw is None or secrets or (declaration is not None and not declaration.secret)
        return raw if shown else MASK

    return Backup(
        app=app,
        at=datetime.now(timezone.utc),
        revision=dump.revision,
        secrets=secrets,
        settings={name: kept(name, raw) or "" for name, raw in sorted(dump.raws.items())},
        history=[
            Entry(
                revision=entry.revision,
                name=entry.name,
                at=entry.at,
                old_raw=kept(entry.name, entry.old_raw),
                new_raw=kept(entry.name, entry.new_raw),
                author=entry.author,
                reason=entry.reason,
            )
            for entry in dump.history
        ],
    )


def read_backup(text: bytes) -> Backup:
    """Return the backup that a JSON document holds.

    :raises BackupError: it is something else, is damaged, or is of a newer release.
    """
    try:
        head = msgspec.json.decode(text)
        is_backup = isinstance(head, Mapping) and head.get("format") == FORMAT
        if is_backup and head.get("version") != VERSION:
            raise BackupError(
                f"this backup has version {head.get('version')!r}; this release reads {VERSION}"
            )
        if not is_backup:
            raise BackupError("it is not a backup: `flask waffle import` reads exports")
        backup = msgspec.convert(head, Backup)
    except (ValueError, RecursionError) as exc:
        raise BackupError(f"it is not a backup, or it is damaged: {explained(str(exc))}") from exc
    if any(entry.revision > backup.revision for entry in backup.history):
        raise BackupError("it is damaged: its history goes on after its revision")
    if not 0 <= backup.revision < _NO_REVISION:
        raise BackupError("it is damaged: no store counts to its revision")
    if len({(entry.revision, entry.name) for entry in backup.history}) < len(backup.history):
        raise BackupError("it is damaged: its history has a change twice")
    return backup


def plan_restore(state: Settings, backup: Backup) -> Dump:
    """Return what a restore would put into the store.

    A secret that the backup does not hold keeps the value that is stored now.
    """
    stored = state.snapshot.stored
    raws = {name: stored.get(name) if raw == MASK else raw for name, raw in backup.settings.items()}
    history = [HistoryEntry(**msgspec.structs.asdict(entry)) for entry in backup.history]
    history.sort(key=lambda entry: (-entry.revision, entry.name))
    return Dump(
        backup.revision,
        "",
        {name: raw for name, raw in raws.items() if raw is not None},
        tuple(history),
    )


def differences_of(state: Settings, dump: Dump) -> dict[str, str | None]:
    """Return the change of settings that loading a dump would be, as raw texts."""
    stored = state.snapshot.stored
    changed: dict[str, str | None] = {
        name: raw for name, raw in dump.raws.items() if stored.get(name) != raw
    }
    return {**changed, **{name: None for name in stored if name not in dump.raws}}
