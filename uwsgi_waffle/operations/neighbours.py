"""Declarations of other apps that share the store: not ours to remove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .base import Settings


def kept_for_others(state: Settings, names: Iterable[str]) -> dict[str, str]:
    """Return which of some settings another living app declares, with that app's name.

    :raises StoreUnavailable: the store can't be read within its bound.
    """
    wanted = list(names)
    # Of a store that was never made nothing can be asked.
    declared = state.neighbours.declared() if wanted else {}
    return {name: declared[name] for name in wanted if name in declared}


def left_notice(left: Mapping[str, str]) -> str:
    """Return the sentence for people about settings that were left to other apps."""
    shown = ", ".join(f"{name} ({app})" for name, app in sorted(left.items()))
    return f"left as they are, because another app that shares the store declares them: {shown}"
