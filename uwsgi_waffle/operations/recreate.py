"""A store whose data is lost: what may come in its place, and what then is put there."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..errors import StoreLost, StoreMissing
from ..process.engine import Engine
from ..process.reading import LastKnown
from ..stores.base import Dump
from .base import Settings


class Recreated(Settings, Protocol):
    """The part of an app's state that this needs."""

    @property
    def engine(self) -> Engine: ...
    def last_known(self) -> LastKnown | None: ...


class Loss(NamedTuple):
    """A store that this host knows, and that is gone.

    :ivar error: says what is there instead.
    :ivar epochs: what this host knows, by the words of the epochs.
    :ivar revision: of the store that is in its place, or ``None`` if there is none.
    """

    error: StoreLost
    epochs: frozenset[str]
    revision: int | None


def find_loss(state: Recreated) -> Loss | None:
    """Return what is lost, or ``None`` if the store is the one that this host knows.

    :raises StoreError: the store can't be read for another reason, or can't show a loss.
    """
    try:
        state.refresh()
    except StoreLost as exc:
        error = exc
    else:
        return None
    manager = state.engine.manager
    try:
        revision = state.store.read_since(0, "").revision
    except StoreMissing:
        return Loss(error, manager.known_epochs(), None)
    return Loss(error, manager.known_epochs(), revision)


def dump_of(known: LastKnown) -> Dump:
    """Return the last known values of a host as what is put into a store; without a history."""
    delta = known.delta
    raws = {name: raw for name, raw in delta.rows if raw is not None}
    return Dump(delta.revision, "", raws, ())
