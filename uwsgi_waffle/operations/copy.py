"""All that one store keeps, copied to another of any kind."""

from __future__ import annotations

from ..errors import StoreError
from ..stores.base import Dump, Store
from ..stores.epochs import word_of


def copy(source: Store, target: Store, *, overwrite: bool = False) -> Dump:
    """Copy settings, revision and history from one store to another; return what was copied.

    The target is prepared if it is not. It then stands in for the source: a host that knows that
    one takes it over.

    :param overwrite: replace what the target keeps, if anything.
    :raises RevisionConflict: the target was changed at the same time; nothing was written.
    :raises OutcomeUnknown: the connection broke within the commit.
    :raises StoreError: the target has settings already, is the source itself, or can't take
        them; or the source can't be read. Nothing was written.
    """
    dump = source.dump()
    target.prepare()
    there = target.read_since(0, "")
    if there.epoch == dump.epoch:
        raise StoreError("source and target are the same store")
    if (there.revision or there.rows) and not overwrite:
        raise StoreError(
            f"the target has settings already, at revision {there.revision}: name an empty store, "
            "or overwrite it"
        )
    if target.keeps_replaced:
        # Before it is filled, because nobody that knows the source reads it yet.
        earlier = source.replaced() if source.keeps_replaced else frozenset()
        target.stand_in({word_of(dump.epoch), *earlier})
    target.load(dump, expected_revision=there.revision)
    return dump
