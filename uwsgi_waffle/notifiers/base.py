"""The interface of every notifier."""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

#: the questions of messages that came together; one that gets no answer is asked again
MAX_ASKS = 8


class Notice(msgspec.Struct, frozen=True):
    """A hint that the store may hold something newer; it carries no value and is not relied on.

    :ivar revision: the announced revision, or ``None`` if notices may have been lost, so that
        only a read of the store shows what is new.
    :ivar epoch: the life of the store that the revision belongs to; empty if it is not known.
    :ivar mark: of the change that made the revision; empty if it is not known.
    :ivar asks: questions of other hosts: what does this one serve?
    """

    revision: int | None
    epoch: str = ""
    mark: str = ""
    asks: tuple[str, ...] = ()


class Notifier(ABC):
    """Announces revisions to the watchers of other processes, and waits for theirs.

    One instance serves one process. Any thread may announce; only the watcher waits.
    """

    #: how logs and ``status()`` call this notifier
    name: str

    @property
    def is_ear(self) -> bool:
        """Whether it receives, for all processes of its host, what other hosts announce."""
        return False

    @abstractmethod
    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        """Announce a committed revision to every other process; blocks for a stated bound.

        :param epoch: the life of the store that the revision belongs to; empty if not known.
        :param mark: of the change that made it; empty if not known.
        :raises NotifierError: it could not be announced.
        """

    def ask(self, question: str, revision: int, epoch: str = "", mark: str = "") -> None:
        """Announce a revision, and ask every other host what it serves; blocks as an announcement.

        Does nothing where no other host is reached.

        :param question: hexadecimal digits, which the answers name; followed by ``.drained`` if
            they are to say which revisions the running requests hold; empty to ask nothing.
        :raises NotifierError: it could not be sent.
        """
        return

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
