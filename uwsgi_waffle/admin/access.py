"""Who may use the page, what they may do there, and under which name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from flask import abort, g
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from ..errors import ConfigurationError
from ..settings.arguments import is_storable
from ..settings.declarations import PINNED, Declaration

Authorize = Callable[[], object]
Author = Callable[[], str | None]

#: the heading of settings without a group, and what rights call them
NO_GROUP = "General"

_ACCESS = "_uwsgi_waffle_access"
_MAX_NAME_LENGTH = 255
_UNDECIDED = "The app does not say who may use this page: pass authorize=… to admin_blueprint()."


class _Everything(Collection[str]):
    def __contains__(self, item: object) -> bool:
        return True

    def __iter__(self):  # type: ignore[no-untyped-def]  # never asked
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "everything"


@dataclass(frozen=True)
class Access:
    """The rights of a person on the page; ``authorize`` may return one.

    :param name: who it is, for the history; one short line.
    :param view: ``True``, or the groups and settings that are shown; ``General`` is the group of
        settings that have none.
    :param edit: ``True``, or the groups and settings that may be changed.
    :param roles: which settings that declare a ``role`` may be changed.
    :param secrets: whether secrets may be changed; their values are never shown.
    """

    name: str = ""
    view: bool | Collection[str] = True
    edit: bool | Collection[str] = False
    roles: Collection[str] = ()
    secrets: bool = False

    def may_view(self, declaration: Declaration) -> bool:
        """Return whether a setting is shown; one that may be changed always is."""
        return _is_within(self.view, declaration) or self._has_rights(declaration)

    def may_edit(self, declaration: Declaration) -> bool:
        """Return whether a setting may be changed; a pinned one never may."""
        return not declaration.pinned and self._has_rights(declaration)

    def _has_rights(self, declaration: Declaration) -> bool:
        return (
            _is_within(self.edit, declaration)
            and (declaration.role is None or declaration.role in self.roles)
            and (self.secrets or not declaration.secret)
        )


EVERYTHING = Access(edit=True, roles=_Everything(), secrets=True)


class Guard:
    """Asks the app's own function whether the current request may use the page.

    :param authorize: called without arguments in each request; without it all are refused.
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
        if self._authorize is None:
            abort(403, _UNDECIDED)
        verdict = self._authorize()
        if isinstance(verdict, Response):
            return verdict
        access = _access_of(verdict)
        if access is None:
            abort(403)
        if not access.name and self._author is not None:
            access = replace(access, name=self._author() or "")
            _check_name(access.name, "author")
        setattr(g, _ACCESS, access)
        return None

    def allows(self) -> bool:
        """Return whether :meth:`admit` would let this request through."""
        try:
            return self.admit() is None
        except HTTPException:
            return False


def why_locked(declaration: Declaration) -> str:
    """Return why a setting is locked for the person who makes the request."""
    return PINNED if declaration.pinned else "you may not change this"


def current_access() -> Access:
    """Return what the user of the current request may do."""
    access = g.get(_ACCESS)
    return access if isinstance(access, Access) else Access(view=False)


def current_author() -> str | None:
    """Return the name for the history of who makes the current request."""
    return current_access().name or None


def _access_of(verdict: object) -> Access | None:
    # Many an object is true without meaning it: a coroutine, ("no", 403), 403, a rendered page.
    if verdict is None or verdict is False or verdict == "":
        return None
    if verdict is True:
        return EVERYTHING
    if not isinstance(verdict, Access | str):
        raise ConfigurationError(
            "authorize must return True, the author's name, an Access, False, None or a response, "
            f"got {type(verdict).__name__}"
        )
    if isinstance(verdict, str):
        verdict = replace(EVERYTHING, name=verdict)
    _check_name(verdict.name, "authorize")
    name = verdict.name
    # A page that asks people to log in, for example.
    if len(name) > _MAX_NAME_LENGTH or "<" in name or len(name.splitlines()) > 1:
        raise ConfigurationError(
            "authorize must return a name of one line, with at most "
            f"{_MAX_NAME_LENGTH} characters and no '<'; got {len(name)} characters"
        )
    return verdict


def _check_name(name: object, returned_by: str) -> None:
    """Refuse a name that no history can have, before anything is typed under it."""
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{returned_by} must return a name that is a string, got {type(name).__name__}"
        )
    if not is_storable(name):
        raise ConfigurationError(
            f"{returned_by} must return a name that UTF-8 can write, without a NUL character"
        )


def _is_within(scope: bool | Collection[str], declaration: Declaration) -> bool:
    if isinstance(scope, bool):
        return scope
    if isinstance(scope, str):
        scope = (scope,)
    return declaration.name in scope or (declaration.group or NO_GROUP) in scope
