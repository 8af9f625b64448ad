"""Tickets: which settings a request sees from its start to its end, and who may share them."""

from __future__ import annotations

import weakref
from time import monotonic

from ..snapshot import Snapshot
from .page import TICKET_WORDS
from .page_file import TICKET_S, Absent, View
from .slots import NONE_HELD, UNKNOWN_HELD

__all__ = ["TICKET_S", "TICKET_WORDS", "Ticket", "Tickets"]


class Ticket:
    """The ticket that a request holds from its start to its end; many may share one.

    Requests that start share the ticket of an earlier one while its copy of the page's words
    equals the page's, and for at most :data:`TICKET_S`: a page that was replaced, a watch file
    that was touched or a resync that is due is noticed after that.

    :ivar snapshot: what they see; every read in them comes from this one revision.
    :ivar words: ``opened``, ``closed`` and ``seq`` of the page from before the store was read.
    :ivar view: the page that has them.
    :ivar until: shared before this time only, by the monotonic clock.
    """

    __slots__ = ("__weakref__", "snapshot", "until", "view", "words")

    snapshot: Snapshot

    def __init__(self) -> None:
        self.until = 0.0
        self.view: View = Absent()
        self.words = b""


class Tickets:
    """The tickets of one process.

    :ivar shared: the ticket that a request which starts now shares, if it still holds.
    """

    __slots__ = ("_issued", "shared")

    def __init__(self) -> None:
        self.shared = Ticket()
        self._issued: weakref.WeakSet[Ticket] = weakref.WeakSet()

    @property
    def unused(self) -> bool:
        """Whether no request that runs holds a ticket; ask after :meth:`revoke`."""
        return not self._issued

    def oldest(self, *, newest: int, but: Ticket | None = None) -> int:
        """Return the oldest revision that a running request holds; the next one looks for itself.

        :data:`~uwsgi_waffle.process.slots.NONE_HELD` if no request runs, and
        :data:`~uwsgi_waffle.process.slots.UNKNOWN_HELD` while one looks which revision it gets.

        :param newest: the revision of this process; above it is one from before a restore.
        :param but: leave out this one, which nobody else shares.
        """
        self.revoke()
        try:
            held = [each.snapshot.revision for each in self._issued if each is not but]
        except (AttributeError, RuntimeError):
            # It has no snapshot yet, or came meanwhile.
            return UNKNOWN_HELD
        return UNKNOWN_HELD if max(held, default=0) > newest else min(held, default=NONE_HELD)

    def holds(self) -> bool:
        """Return whether a request that starts now may share the ticket; the gate asks inline."""
        shared = self.shared
        return monotonic() < shared.until and shared.view[TICKET_WORDS] == shared.words

    def issue(self) -> Ticket:
        """Return a new ticket, which no other request shares yet."""
        ticket = Ticket()
        self._issued.add(ticket)
        return ticket

    def share(self, ticket: Ticket, view: View, words: bytes, looked_at: float) -> None:
        """Let the requests that start from now on share a ticket.

        :param words: as they were before the read that the ticket's snapshot comes from.
        :param looked_at: when the look began that found nothing new, by the monotonic clock.
        """
        ticket.view = view
        ticket.words = words
        ticket.until = looked_at + TICKET_S
        self.shared = ticket

    def revoke(self) -> None:
        """Have the next request look for itself."""
        self.shared.until = 0.0
        self.shared = Ticket()
