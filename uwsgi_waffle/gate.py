"""Where requests come in: each gets its snapshot before anything of the app runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .snapshot import Snapshot

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Ticket:
    """One request that runs.

    :ivar snapshot: what the request sees; every read in it comes from this one revision.
    :ivar in_context: the app has pushed a context for it, whose teardown ends the request.
    """

    __slots__ = ("in_context", "snapshot")

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.snapshot = snapshot
        self.in_context = False


class Gate:
    """A WSGI callable that refreshes the settings at the start of each request.

    It stands before the app's request context, so that the session and the URL map, too, are
    opened with current settings.

    :param wsgi_app: the app's own callable.
    :param begin: returns the snapshot for a request that starts now.
    :param key: under which the ticket lies in the WSGI environment.
    """

    def __init__(self, wsgi_app: WsgiApp, begin: Callable[[], Snapshot], key: str) -> None:
        self._wsgi_app = wsgi_app
        self._begin = begin
        self._key = key
        self._running: set[Ticket] = set()

    @property
    def idle(self) -> bool:
        """Whether no request runs in this process."""
        return not self._running

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ[self._key] = ticket = Ticket()
        # Before the look at the settings: from here on the watcher leaves app.config alone.
        self._running.add(ticket)
        try:
            ticket.snapshot = self._begin()
            return self._wsgi_app(environ, start_response)
        finally:
            # With a context the request goes on: its body may still be streamed.
            if not ticket.in_context:
                self._running.discard(ticket)

    def entered(self, environ: dict[str, Any]) -> None:
        """Record that the app has pushed its context for a request."""
        ticket = environ.get(self._key)
        if ticket is not None:
            ticket.in_context = True

    def left(self, environ: dict[str, Any]) -> None:
        """Record that the app has torn its context down."""
        ticket = environ.get(self._key)
        if ticket is not None:
            ticket.in_context = False
            self._running.discard(ticket)

    def ticket(self, environ: dict[str, Any]) -> Ticket:
        """Return a request's ticket; a context that no server made gets one of its own."""
        ticket: Ticket = environ.setdefault(self._key, Ticket())
        return ticket
