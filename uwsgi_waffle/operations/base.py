"""The words that the operations share, and how a raw text is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import RevisionConflict
from ..masking import MASK
from ..reporting.apps import Neighbours
from ..settings.declarations import Declaration, Declarations, DefaultFrom, differ
from ..settings.raws import cut
from ..snapshot import Snapshot
from ..stores.base import Store

#: stands for a value that is not stored; no JSON text, so it is not taken for a value
DEFAULT = "default"

Origin = Literal["default", "config", "pinned", "stored", "fault", "override"]


class Settings(Protocol):
    """The part of an app's state that the operations need."""

    @property
    def declarations(self) -> Declarations: ...
    @property
    def store(self) -> Store: ...
    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def neighbours(self) -> Neighbours: ...
    def refresh(self) -> Snapshot: ...
    def commit(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None,
        reason: str | None,
        expected_revision: int | None,
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One declared setting with its value, for people.

    Of a secret, ``value``, ``default`` and ``raw`` are :data:`~uwsgi_waffle.masking.MASK`, and
    ``choices`` is ``None``, unless they were asked for. Its ``repr`` shows none of them.

    :ivar type: its type as a person would write it, without constraints.
    :ivar raw: the stored JSON text, or ``None`` if nothing is stored.
    :ivar origin: ``default``; ``config``: the default, which ``app.config`` had before the
        extension; ``pinned``: the default, whatever is stored; ``stored``; ``fault``: what is
        stored does not fit, and the default is served; ``override``: this process serves another
        value.
    :ivar default_from: where the default comes from, ``declaration`` or ``config``.
    :ivar fault: what is wrong with the stored text, or ``None``.
    :ivar choices: the only allowed values as JSON knows them, also those of a ``Literal`` or an
        ``Enum``; ``None`` if there is no such list.
    """

    name: str
    desc: str
    group: str | None
    type: str
    value: Any = field(repr=False)
    default: Any = field(repr=False)
    raw: str | None = field(repr=False)
    origin: Origin
    secret: bool
    fault: str | None
    min: Any
    max: Any
    choices: tuple[Any, ...] | None = field(repr=False)
    default_from: DefaultFrom = "declaration"
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One setting in one committed change, as people may see it.

    Made of a store's :class:`~uwsgi_waffle.stores.base.HistoryEntry`, which has the raw texts,
    those of secrets too. Its ``repr`` shows neither text: secrets may have been asked for.

    :ivar old: JSON text, :data:`DEFAULT`, or :data:`~uwsgi_waffle.masking.MASK`.
    :ivar new: likewise.
    :ivar at: when it was committed, in UTC.
    """

    revision: int
    name: str
    old: str = field(repr=False)
    new: str = field(repr=False)
    author: str | None
    reason: str | None
    at: datetime


class Difference(NamedTuple):
    """One setting that a change would alter; the texts are as in :class:`HistoryItem`."""

    name: str
    old: str
    new: str

    def __repr__(self) -> str:
        return f"Difference(name={self.name!r}, …)"


def show_raw(state: Settings, name: str, raw: str | None, *, show_secrets: bool = False) -> str:
    """Return a raw text as a person may see it.

    A name that is no longer declared may have been a secret, so it is masked like one.
    """
    if raw is None:
        return DEFAULT
    declaration = state.declarations.get(name)
    if show_secrets or (declaration is not None and not declaration.secret):
        return cut(raw)
    return MASK


def is_same(declaration: Declaration | None, one: str | None, other: str | None) -> bool:
    """Return whether two raw texts mean the same value; being at the default is a thing apart."""
    if one == other:
        return True
    if one is None or other is None or declaration is None:
        return False
    try:
        # The items of a set come in any order.
        return not differ(declaration.decode(one), declaration.decode(other))
    except ValueError:
        return False


def commit(
    state: Settings, raws: Mapping[str, str | None], *, expected_revision: int | None, **who: Any
) -> int:
    """Make a change unless it is empty; return the revision that the settings are at then.

    :raises RevisionConflict: the store is at another revision; nothing was written.
    :raises OutcomeUnknown: the connection broke within the commit: it may have been made.
    :raises StoreError: the store failed in any other way; nothing was written.
    """
    current = state.snapshot.revision
    if raws:
        return state.commit(raws, expected_revision=expected_revision, **who)
    if expected_revision not in (None, current):
        assert expected_revision is not None
        raise RevisionConflict(expected_revision, current)
    return current
