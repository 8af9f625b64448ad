"""Who may use the page, and under which name."""

from __future__ import annotations

from collections.abc import Callable

from flask import abort, g
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from ..errors import ConfigurationError

Authorize = Callable[[], object]
Author = Callable[[], str | None]

_AUTHOR = "_uwsgi_waffle_author"


class Access:
    """Asks the app's own function whether the current request may use the page.

    :param authorize: called without arguments in each request; without it nobody may.
    :param author: returns the name for the history, if ``authorize`` does not.
    """

    def __init__(self, authorize: Authorize | None, author: Author | None = None) -> None:
        for name, function in (("authorize", authorize), ("author", author)):
            if function is not None and not callable(function):
                raise ConfigurationError(f"{name} must be a function without arguments")
        self._authorize = authorize
        self._author = author

    def admit(self) -> Response | None:
        """Let the request through, or return the response that ``authorize`` gave instead.

        :raises Forbidden: ``authorize`` says no, or there is none.
        :raises ConfigurationError: it returned something that is neither yes nor no.
        """
        verdict = self._authorize() if self._authorize is not None else False
        if isinstance(verdict, Response):
            return verdict
        # Many an object is true without meaning it: a coroutine, ("no", 403), an anonymous user.
        if verdict is not None and not isinstance(verdict, (bool, int, str)):
            raise ConfigurationError(
                "authorize must return True, the author's name, False, None or a response, "
                f"got {type(verdict).__name__}"
            )
        if not verdict:
            abort(403)
        name = verdict if isinstance(verdict, str) else self._author and self._author()
        setattr(g, _AUTHOR, name or None)
        return None

    def allows(self) -> bool:
        """Return whether :meth:`admit` would let this request through."""
        try:
            return self.admit() is None
        except HTTPException:
            return False


def current_author() -> str | None:
    """Return the name for the history of whoever makes the current request."""
    name = g.get(_AUTHOR)
    return None if name is None else str(name)
