"""What every store does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ..snapshot import Delta


class HistoryEntry(NamedTuple):
    """One setting in one committed change.

    :ivar old_raw: JSON text before, or ``None`` for the default.
    :ivar new_raw: JSON text after, or ``None`` for the default.
    :ivar at: when it was committed, by the clock of the host that committed it, in UTC.
    """

    revision: int
    name: str
    old_raw: str | None
    new_raw: str | None
    author: str | None
    reason: str | None
    at: datetime


class Store(ABC):
    """Keeps raw values, one revision for all of them, and the history.

    A store sees names and JSON texts only; it knows nothing of types. An instance may be made
    before a fork and used after it, by any thread: connections belong to the process, never to
    the instance. Every method blocks for at most the store's stated timeouts.
    """

    def for_app(self, app: Any, *, timeout_s: float, write_timeout_s: float) -> Store:
        """Return the store that serves one app; called by ``init_app``, before anything else.

        For stores that need the app to find their database. Opens nothing.

        :param app: the Flask app.
        :param timeout_s: what ``WAFFLE_STORE_TIMEOUT`` says, for a store that was given none.
        :param write_timeout_s: what ``WAFFLE_WRITE_TIMEOUT`` says, likewise.
        """
        return self

    @abstractmethod
    def prepare(self) -> None:
        """Make what the store needs, unless it is there already. May be called again.

        :raises StoreUnavailable: the store can't be reached.
        :raises StoreError: it can be reached, but not prepared.
        """

    @abstractmethod
    def read_since(self, revision: int, epoch: str) -> Delta:
        """Return the rows that changed after a revision, read at one instant, in one query.

        Settings that were reset come as rows without raw text. With revision 0, another epoch,
        or a revision that the store has not reached, the delta is complete. Writes nothing.

        :raises StoreUnavailable: the store can't be read within its bound.
        """

    @abstractmethod
    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """Commit one change in one transaction; return the revision it made.

        :param raws: mapping of setting name to JSON text; ``None`` resets to the default.
        :raises RevisionConflict: the store is not at ``expected_revision``; nothing was written.
        :raises StoreUnavailable: the store can't be written within its bound.
        :raises StoreError: the store refuses to be written.
        """

    @abstractmethod
    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """Return the newest entries, newest first.

        :raises StoreUnavailable: the store can't be read within its bound.
        """

    @abstractmethod
    def close(self) -> None:
        """Close this process's connections; they open again when they are needed."""
