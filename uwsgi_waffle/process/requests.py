"""The request that runs: which settings it sees, and when a change that it makes shows in it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from ..snapshot import Snapshot
from .manager import Manager
from .tickets import Ticket


class Requests:
    """Finds the ticket and the snapshot of the request that runs in the caller's context.

    :ivar by_test_client: whether there was a request of Werkzeug's test client, not within another.

    :param key: under which a request's environment holds its ticket.
    :param current: returns that request, which is one of Werkzeug's; ``None`` outside of requests.
    :param manager: returns the manager of this process.
    """

    def __init__(
        self, key: str, current: Callable[[], Any], manager: Callable[[], Manager]
    ) -> None:
        self.by_test_client = False
        self._key = key
        self._nested_key = f"{key}.nested"
        self._current = current
        self._manager = manager

    def snapshot(self) -> Snapshot:
        """Return the request's own snapshot; outside of a request, the newest there is.

        A request sees one snapshot from its start to its end, also in threads that it has started
        with its context, and in those that outlive it.
        """
        current = self._current()
        if current is None:
            return self._manager().current()
        snapshot: Snapshot | None = current.__dict__.get(self._key)
        if snapshot is None:
            ticket = self._ticket_of(current)
            # A context that no server made has no ticket, nor has a request that is over.
            snapshot = self._manager().current() if ticket is None else ticket.snapshot
            current.__dict__[self._key] = snapshot
        return snapshot

    def renew(self) -> None:
        """Let the request go on with what its process has now; nothing outside of one."""
        current = self._current()
        if current is not None:
            current.__dict__[self._key] = self._manager().snapshot

    def may_apply(self) -> bool:
        """Return whether a change that is made here may change ``app.config`` at once."""
        current = self._current()
        # A request that makes a change itself reads what it wrote.
        own = (
            current is not None
            and self._nested_key not in current.environ
            and self._ticket_of(current) is not None
        )
        manager = self._manager()
        if own or manager.between_requests():
            return True
        if current is None and self.by_test_client:
            # A test client closes no body, and the error of a request, as a 404 is one, holds
            # itself by its traceback, and that body, until garbage is collected.
            gc.collect()
            return manager.between_requests()
        return False

    def note_nested(self, environ: dict[str, Any]) -> None:
        """Note that a request begins within another, which goes on after it.

        As a test client makes it in a view.
        """
        environ[self._nested_key] = True

    def take_own(self) -> Ticket | None:
        """Give the request a ticket that no other shares; return that, if it had any."""
        current = self._current()
        shared = None if current is None else self._ticket_of(current)
        if shared is None:
            return None
        own = self._manager().tickets.issue()
        own.snapshot = shared.snapshot
        current.environ[self._key] = own
        return own

    def _ticket_of(self, current: Any) -> Ticket | None:
        """Return the ticket of a request while it runs.

        Source: uWSGI has one environment for all requests of a core, so that a context which
        outlives its request finds the next one's there. Werkzeug, ``Request.__init__``, notes in
        the environment whose it is; Flask, ``RequestContext.pop``, takes that out when the view is
        done, before ``stream_with_context`` goes on, and when a thread ends that has a copy of the
        context, which may be long before or after. Then two strings show whose it is, for uWSGI
        2.0.21 to 2.0.31 makes new ones for each request, and Werkzeug keeps them as they are. Two,
        because a middleware may put a constant in the place of one.
        """
        environ = current.environ
        ticket: Ticket | None = environ.get(self._key)
        owner = environ.get("werkzeug.request", self)
        is_own = owner is current or (
            owner is None
            and environ.get("wsgi.url_scheme") is current.scheme
            and environ.get("REMOTE_ADDR") is current.remote_addr
        )
        return ticket if is_own else None
