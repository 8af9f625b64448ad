"""The blinker signals of this package, and how they are sent."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from blinker import Namespace
from flask import Flask, current_app, has_app_context

from .snapshot import Change

logger = logging.getLogger("uwsgi_waffle")

_signals = Namespace()

#: Sent by every process after it applied a change to ``app.config``; the sender is the app.
#: Receivers get ``name``, ``old``, ``new``, ``revision`` and ``secret``, and run within an app
#: context, in the thread that applied the change: a request's, before its view, or the watcher's.
#: ``old`` and ``new`` are the values in plain text, even if ``secret`` is true: never log or send
#: those. A receiver whose signature has no ``secret`` is called without it. What a receiver
#: raises is logged and stops nothing; the change is committed and announced by then.
setting_changed = _signals.signal("setting-changed")


#: Sent once for each change, by the process that made it, after the commit and the announcement;
#: the sender is the app. Receivers get the fields of :class:`SettingsUpdate`, and run within an app
#: context, in the thread that made the change, which waits for them. What a receiver raises is
#: logged and stops nothing. At most once: a process that dies after its commit, or whose commit has
#: an unknown outcome, sends nothing; the history has the change all the same.
settings_updated = _signals.signal("settings-updated")


class SettingsUpdate(NamedTuple):
    """One committed change, as receivers of :data:`settings_updated` get it.

    :ivar author: who made it, or ``None``.
    :ivar reason: why, or ``None``.
    :ivar names: of the settings that were set or reset.
    :ivar old: mapping of each name to the typed value before; a mask if it is secret.
    :ivar new: mapping of each name to the typed value after, likewise.
    """

    revision: int
    author: str | None
    reason: str | None
    names: tuple[str, ...]
    old: dict[str, Any]
    new: dict[str, Any]


def send_updated(app: Flask, update: SettingsUpdate) -> None:
    """Call the receivers of :data:`settings_updated`, within a context of the app; never raises."""
    _within(app, lambda: _send_update(app, update), "settings_updated")


def send_changed(app: Flask, changes: Iterable[Change]) -> None:
    """Call the receivers of :data:`setting_changed`, within a context of the app; never raises."""
    if not setting_changed.has_receivers_for(app):
        return

    def send() -> None:
        for change in changes:
            _send(app, change)

    _within(app, send, "setting_changed")


def _within(app: Flask, send: Callable[[], None], signal: str) -> None:
    # The context that is there may be that of another app, which changes this one.
    within = has_app_context() and current_app == app
    pid = os.getpid()
    try:
        with contextlib.nullcontext() if within else app.app_context():
            send()
    # SystemExit, a timeout of gevent's and the like, too: what went before them is done already.
    except BaseException:
        _raise_in_child(pid)
        logger.exception("the app's own context failed around %s", signal)


def _send_update(app: Flask, update: SettingsUpdate) -> None:
    pid = os.getpid()
    for receiver in settings_updated.receivers_for(app):
        try:
            receiver(app, **update._asdict())
        except BaseException:
            _raise_in_child(pid)
            logger.exception(
                "a receiver of settings_updated failed on revision %d", update.revision
            )


def _send(app: Flask, change: Change) -> None:
    pid = os.getpid()
    for receiver in setting_changed.receivers_for(app):
        try:
            details = {
                "name": change.name,
                "old": change.old,
                "new": change.new,
                "revision": change.revision,
            }
            if _takes(receiver, "secret"):
                details["secret"] = change.secret
            receiver(app, **details)
        except BaseException:
            _raise_in_child(pid)
            logger.exception("a receiver of setting_changed failed on %s", change.name)


def _raise_in_child(pid: int) -> None:
    """Raise what is handled just now, in a process that a receiver has forked.

    It ends by ``sys.exit()``, and would go on as a second copy of its parent.
    """
    if os.getpid() != pid:
        raise


def _takes(receiver: Callable[..., Any], keyword: str) -> bool:
    try:
        parameters = inspect.signature(receiver).parameters
    except (TypeError, ValueError):
        # Something written in C, which says nothing of its parameters.
        return True
    return keyword in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )
