"""Assertions of the contracts, and how they skip a test; imported without pytest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

from ..snapshot import Delta
from ..stores.base import Store


def stored(store: Store) -> dict[str, str]:
    """Return the raw texts of every setting that is not at its default, by name."""
    delta = store.read_since(0, "")
    assert delta.complete
    assert len({row.name for row in delta.rows}) == len(delta.rows)
    return {name: raw for name, raw in delta.rows if raw is not None}


def read_after(store: Store, known: Delta) -> Delta:
    """Return what a reader reads next that has a delta already, and everything before it."""
    if known.mark:
        return store.read_since(known.revision, known.epoch, known.mark)
    # A store that keeps no marks need not take one.
    return store.read_since(known.revision, known.epoch)


@contextlib.contextmanager
def raises(expected: type[BaseException]) -> Iterator[list[Any]]:
    """Assert that the body raises; gives a list that the exception is put into."""
    caught: list[Any] = []
    try:
        yield caught
    except expected as exc:
        caught.append(exc)
    else:
        raise AssertionError(f"{expected.__name__} was not raised")


def skip(reason: str) -> NoReturn:
    """Skip the test that runs."""
    import pytest

    pytest.skip(reason)
