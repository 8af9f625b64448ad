"""Keeps Alembic's autogenerate away from the tables that the store makes itself."""

from __future__ import annotations

import sys
from typing import Any

# What stands after the prefix.
_NAMES = ("meta", "settings", "revisions", "history", "workers")

_ours: set[str] = set()
_is_registered = False


def leave_alone(prefix: str) -> None:
    """Let no migration drop the tables of a store, unless a metadata of the user's defines them.

    ``flask db migrate`` compares the database with the user's metadata, which lacks these tables:
    it would drop them, with all settings. Does nothing but remember the names in a process that
    has not imported Alembic, as Flask-Migrate does when it is imported.

    Source: Alembic 1.20, ``autogenerate/compare`` and ``util/langhelpers.py``: the functions of the
    level "schema" are called by their priority, then in the order of registration.

    :param prefix: what the names of the tables begin with.
    """
    global _is_registered
    _ours.update(prefix + name for name in _NAMES)
    if _is_registered or "alembic.autogenerate" not in sys.modules:
        return
    from alembic import util
    from alembic.autogenerate import comparators

    # Since 1.18 what is registered here comes first, unless it asks to be the last.
    priority = getattr(util, "DispatchPriority", None)
    order = {} if priority is None else {"priority": priority.LAST}
    comparators.dispatch_for("schema", **order)(_forget_ours)
    _is_registered = True


def _forget_ours(context: Any, upgrade_ops: Any, schemas: Any) -> None:
    """Take out of a migration what drops one of our tables, or an index of it."""
    defined = {table.name for table in context.sorted_tables}
    upgrade_ops.ops[:] = [
        each for each in upgrade_ops.ops if getattr(each, "table_name", None) not in _ours - defined
    ]
