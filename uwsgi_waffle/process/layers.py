"""The settings of one process in layers: what was read, overrides, what ``app.config`` holds.

Knows no store, no clock, no file and no lock; the manager's lock guards it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..settings.declarations import Declarations
from ..snapshot import Change, Delta, Snapshot, advance, diff, overlay
from .claims import Claims

logger = logging.getLogger("uwsgi_waffle")


class Layers:
    """The newest settings, and those that ``app.config`` holds.

    The two differ while a request runs that must not see its settings change.

    :ivar base: what was read from the store, without overrides.
    :ivar newest: the base with the overrides over it.
    :ivar applied: what ``app.config`` holds.
    :ivar settled: they are the same. May be read without the lock.

    :param apply: called with the values that changed, to put them into ``app.config``.
    :param claims: of this process, so that one of a server's processes logs a fault.
    """

    def __init__(
        self,
        declarations: Declarations,
        snapshot: Snapshot,
        apply: Callable[[Mapping[str, Any]], None],
        claims: Claims,
    ) -> None:
        self.base = snapshot
        self.newest = snapshot
        self.applied = snapshot
        self.settled = True
        self._declarations = declarations
        self._apply_values = apply
        self._claims = claims
        self._overrides: list[Mapping[str, Any]] = []
        self._touched: set[str] = set()

    def take(self, delta: Delta) -> bool:
        """Lay a delta over the base; return whether there is anything new.

        A stored value that its declaration refuses is logged once, and its end; its default is
        served.
        """
        base = self.base
        if not delta.complete and (delta.revision, delta.mark) == (base.revision, base.mark):
            return False
        snapshot = advance(base, delta, self._declarations)
        for name, fault in snapshot.faults.items():
            if base.faults.get(name) != fault and self._claims.take(f"{name}: {fault}"):
                logger.error(
                    "the stored value of %s does not fit its declaration, its default is served: "
                    "%s; correct it with an update, or declare it so that it fits",
                    name,
                    fault,
                )
        for name, fault in base.faults.items():
            # A fault that became another is over, too, though nothing is well.
            if (
                snapshot.faults.get(name) != fault
                and self._claims.drop(f"{name}: {fault}")
                and name not in snapshot.faults
            ):
                logger.error("nothing is wrong with the stored value of %s any more", name)
        self._replace(
            snapshot, self._declarations if delta.complete else [row.name for row in delta.rows]
        )
        return True

    def override(self, values: Mapping[str, Any], *, on: bool) -> None:
        """Lay other values over the base, or take them away again.

        :param values: distinguished by identity, because contexts of several threads need not end
            in the order in which they began.
        """
        others = [other for other in self._overrides if other is not values]
        self._overrides = [*others, values] if on else others
        self._replace(self.base, values)

    def apply(self) -> list[Change]:
        """Put what is new into ``app.config``; return the changes."""
        newest = self.newest
        changes = diff(self.applied, newest, self._touched, self._declarations)
        self._apply_values({name: newest.by_name[name] for name in self._touched})
        self._touched.clear()
        self.applied = newest
        # Last: a request that finds it settled takes what is applied.
        self.settled = True
        return changes

    def _replace(self, base: Snapshot, names: Iterable[str]) -> None:
        # First: a request that starts now must not take what is applied for the newest.
        self.settled = False
        self._touched.update(name for name in names if name in self._declarations)
        self.base = base
        for values in self._overrides:
            base = overlay(base, values)
        self.newest = base
