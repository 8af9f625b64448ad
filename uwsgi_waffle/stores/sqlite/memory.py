"""Settings in memory, for tests: as the built-in store keeps them, and gone with it."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from ..base import HISTORY_LIMIT
from .store import SqliteStore
from .tables import DEFAULT_PREFIX

_MEMORY = "/dev/shm"


class MemorySqliteStore(SqliteStore):
    """Keeps settings as :class:`SqliteStore` does, for as long as it lives, for its process alone.

    The file lies in a folder of its own, in memory where the system has ``/dev/shm``, which goes
    with the store or with the process. A child that is forked from the process shares it; no other
    process can. Not for several workers: one that starts later has a store of its own.

    :param prefix: see :class:`SqliteStore`; likewise all others.
    """

    def __init__(
        self,
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout_s: float = 1.0,
        write_timeout_s: float = 5.0,
        history_limit: int = HISTORY_LIMIT,
    ) -> None:
        base = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
        folder = tempfile.mkdtemp(prefix="waffle-", dir=base)
        weakref.finalize(self, _remove, folder, os.getpid())
        super().__init__(
            Path(folder) / "waffle.db",
            prefix=prefix,
            timeout_s=timeout_s,
            write_timeout_s=write_timeout_s,
            history_limit=history_limit,
        )

    @property
    def outlives_process(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<MemorySqliteStore>"


def _remove(folder: str, owner: int) -> None:
    # A forked child that ends takes nothing from its parent.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
