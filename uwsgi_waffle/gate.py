"""Where requests come in: each gets its snapshot before anything of the app runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.wsgi import ClosingIterator

from .snapshot import Snapshot

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Ticket:
    """One request that runs.

    :ivar snapshot: what the request sees; every read in it comes from this one revision.
    """

    __slots__ = ("snapshot",)

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None


class Gate:
    """A WSGI callable that refreshes the settings at the start of each request.

    It stands before the app's request context, so that the session and the URL map, too, are
    opened with current settings. A request ends when the server closes its body, because a
    streamed body still runs code of the app.

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

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        environ[self._key] = ticket = Ticket()
        # Before the look at the settings: from here on the watcher leaves app.config alone.
        self._running.add(ticket)
        try:
            ticket.snapshot = self._begin()
            body = self._wsgi_app(environ, start_response)
        except BaseException:
            self._running.discard(ticket)
            raise
        # Nearly every body of Flask's is of this type; others a middleware has made.
        if type(body) is ClosingIterator or _may_run_code(body, environ):
            return _Body(body, self._running, ticket)
        self._running.discard(ticket)
        return body

    def ticket(self, environ: dict[str, Any]) -> Ticket:
        """Return a request's ticket; a context that no server made gets one of its own."""
        ticket: Ticket = environ.setdefault(self._key, Ticket())
        return ticket


def _may_run_code(body: Iterable[bytes], environ: dict[str, Any]) -> bool:
    """Return whether code of the app may still run while a body is sent.

    A file is passed on as it is, or the server could not send it by sendfile.

    Source: uWSGI's ``wsgi.file_wrapper`` is a function that gives the file itself back, that of
    gunicorn and of wsgiref is a class; each server compares what it gets with what it gave.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    is_file = hasattr(body, "read") or (isinstance(wrapper, type) and isinstance(body, wrapper))
    return hasattr(body, "close") and not is_file


class _Body:
    """A response body whose close also ends the request; iterating it costs nothing more."""

    __slots__ = ("_body", "_running", "_ticket")

    def __init__(self, body: Any, running: set[Ticket], ticket: Ticket) -> None:
        self._body = body
        self._running = running
        self._ticket = ticket

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            self._body.close()
        finally:
            self._running.discard(self._ticket)

    def __del__(self) -> None:
        # A test client closes nothing by itself, and a request must not seem to run for ever.
        self._running.discard(self._ticket)
