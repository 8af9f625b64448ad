"""How long a look at the watch file vouches for the requests that start after it."""

from __future__ import annotations

import time
import weakref

from ..snapshot import Snapshot

#: Seconds. A change returns that long after its announcement, so that every look from before
#: is too old by then to vouch for anything.
LEASE_S = 0.02


class Ticket:
    """What a request holds from its start to its end; many may share one.

    :ivar snapshot: what they see; every read in them comes from this one revision.
    :ivar until: requests that start before this time, by the monotonic clock, may share it.
    """

    __slots__ = ("__weakref__", "snapshot", "until")

    snapshot: Snapshot

    def __init__(self) -> None:
        self.until = 0.0


class Lease:
    """Lets the requests of one process start without a look of their own, for a short time.

    No request that starts after a change has returned misses it: its ticket is from a look that
    is younger than :data:`LEASE_S`, and the change returned that long after it was announced,
    so the look came after the announcement. Clocks that disagree can't break this, because all
    processes of a host read the same one.

    Source: clock_gettime(2), ``CLOCK_MONOTONIC``: system-wide, and no setting of the time
    affects it.

    :ivar ticket: what a request that starts now shares, unless its time is over.
    """

    __slots__ = ("_issued", "ticket")

    def __init__(self) -> None:
        self.ticket = Ticket()
        self._issued: weakref.WeakSet[Ticket] = weakref.WeakSet()

    @property
    def unused(self) -> bool:
        """Whether no request that runs holds a ticket; ask after :meth:`revoke`."""
        return not self._issued

    def issue(self) -> Ticket:
        """Return a new ticket, which nobody shares yet; whoever starts a request fills it."""
        ticket = Ticket()
        self._issued.add(ticket)
        return ticket

    def grant(self, ticket: Ticket, looked_at: float) -> None:
        """Let the requests that start now share a ticket.

        :param looked_at: when the look began that it rests on, by the monotonic clock.
        """
        ticket.until = looked_at + LEASE_S
        self.ticket = ticket

    def revoke(self) -> None:
        """Have the next request take a look of its own."""
        self.ticket.until = 0.0
        self.ticket = Ticket()


def outlast() -> None:
    """Wait until no request of this host starts by a look from before this call."""
    until = time.monotonic() + LEASE_S
    while (rest_s := until - time.monotonic()) > 0:
        time.sleep(rest_s)
