"""Where requests come in: each gets its snapshot before anything of the app runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from time import monotonic
from typing import Any

from werkzeug.wsgi import ClosingIterator

from .tickets import TICKET_WORDS, Tickets

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Gate:
    """Gives each request its ticket, after a look for news if it can't share an earlier one.

    It stands before the app's request context, so that the session and the URL map, too, are
    opened with current settings. A request runs for as long as its WSGI environment holds the
    ticket: until the server closes its body, because a streamed body still runs code of the app.

    :ivar tickets: those of this process, once there was a look.
    :ivar admitting: whether this thread is within a request that had to look for news.
    :ivar wsgi_app: stands for the app's own; a plain function, which Python calls faster than
        an object.

    :param wsgi_app: the app's own callable.
    :param look: puts the ticket of a request that starts now into its environment.
    :param key: under which the ticket lies in the environment.
    :param clears_environ: the server empties the environment at the end of each request.
    :param outer: returns its argument unless another request of this thread runs already.
    """

    # Fewer places in memory that each request has to visit.
    __slots__ = ("_inner", "_key", "_look", "_outer", "admitting", "tickets", "wsgi_app")

    def __init__(
        self,
        wsgi_app: WsgiApp,
        look: Callable[[Environ], None],
        key: str,
        *,
        clears_environ: bool,
        outer: Callable[[None], object] = lambda nothing: nothing,
    ) -> None:
        self.tickets = Tickets()
        self.admitting: ContextVar[bool] = ContextVar("uwsgi_waffle_admitting", default=False)
        self.wsgi_app: WsgiApp = self._serve if clears_environ else self._serve_until_closed
        self._inner = wsgi_app
        self._look = look
        self._key = key
        self._outer = outer

    def _serve(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        ticket = self.tickets.shared
        # The environment alone holds it. A traceback that somebody keeps holds all frames below,
        # and by a ticket in this one the request would seem to run on.
        if (
            monotonic() < ticket.until
            and ticket.view[TICKET_WORDS] == ticket.words
            and self._outer(None) is None
        ):
            environ[self._key] = ticket
            del ticket
        else:
            del ticket
            token = self.admitting.set(True)
            try:
                self._look(environ)
                return self._inner(environ, start_response)
            except BaseException:
                # No server clears the environment of a request that a test client makes in a view.
                environ.pop(self._key, None)
                raise
            finally:
                self.admitting.reset(token)
        return self._inner(environ, start_response)

    def _serve_until_closed(
        self, environ: Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        try:
            body = self._serve(environ, start_response)
        except BaseException:
            environ.pop(self._key, None)
            raise
        # Nearly every body of Flask's is of this type; others a middleware has made.
        if type(body) is ClosingIterator or _may_run_code(body, environ):
            return _Body(body, environ, self._key)
        environ.pop(self._key, None)
        return body


def _may_run_code(body: Iterable[bytes], environ: Environ) -> bool:
    """Return whether code of the app may still run while a body is sent.

    A file is passed on as it is, or the server could not send it by sendfile.

    Source: uWSGI's ``wsgi.file_wrapper`` is a function that gives the file itself back, that of
    gunicorn and of wsgiref is a class; each server compares what it gets with what it gave.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    is_file = hasattr(body, "read") or (isinstance(wrapper, type) and isinstance(body, wrapper))
    return hasattr(body, "close") and not is_file


class _Body:
    """A response body whose close also ends the request."""

    def __init__(self, body: Any, environ: Environ, key: str) -> None:
        self._body = body
        self._environ = environ
        self._key = key

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            self._body.close()
        finally:
            self._end()

    def __del__(self) -> None:
        # A test client closes nothing by itself, and a request must not seem to run on.
        self._end()

    def _end(self) -> None:
        # Once only: a middleware that asks again in the same environment has a new ticket there.
        environ, self._environ = self._environ, {}
        environ.pop(self._key, None)
