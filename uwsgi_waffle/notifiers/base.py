"""What every notifier does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from ..snapshot import Delta


class Notice(NamedTuple):
    """A hint that the store may hold something newer; never the truth itself.

    :ivar revision: the announced revision, or ``None`` if notices may have been lost, so that
        only the store can tell.
    :ivar delta: the rows of that one change, where the notice carries them.
    """

    revision: int | None
    delta: Delta | None = None


class Notifier(ABC):
    """Announces revisions to the watchers of other processes, and waits for theirs.

    One instance serves one process. Any thread may announce; only the watcher waits.
    """

    #: how logs and ``status()`` call this notifier
    name: str

    @abstractmethod
    def announce(self, revision: int) -> None:
        """Tell every other process about a committed revision; blocks for a stated bound.

        :raises NotifierError: it could not be told.
        """

    def announce_rows(self, delta: Delta) -> None:
        """Announce a revision with its rows, where the notifier can carry them.

        :raises NotifierError: it could not be told.
        """
        self.announce(delta.revision)

    @abstractmethod
    def wait(self, timeout_s: float) -> Notice | None:
        """Return the next notice, or ``None`` when the time is over or :meth:`close` was called.

        Several notices that came together are returned as one.

        :raises NotifierError: notices can't be received. The next call tries again, after its
            own backoff, so that a caller need not wait between calls.
        """

    @abstractmethod
    def close(self) -> None:
        """End a wait that is under way, and free what is open. Any thread may call this."""
