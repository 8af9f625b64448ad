"""The blinker signal of this package, and how it is sent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

from blinker import Namespace
from flask import Flask, current_app, has_app_context

from .snapshot import Change

logger = logging.getLogger("uwsgi_waffle")

_signals = Namespace()

#: Sent by every process after it applied a change to ``app.config``; the sender is the app.
#: Receivers get ``name``, ``old``, ``new`` and ``revision``, and run within an app context, in the
#: thread that applied the change: a request's, before its view, or the watcher's. What a
#: receiver raises is logged and stops nothing; the change is committed and announced by then.
setting_changed = _signals.signal("setting-changed")


def send_changed(app: Flask, changes: Iterable[Change]) -> None:
    """Call the receivers of :data:`setting_changed`, within a context of the app; never raises."""
    # The context that is there may be that of another app, which changes this one.
    within = has_app_context() and current_app == app
    try:
        with contextlib.nullcontext() if within else app.app_context():
            for change in changes:
                _send(app, change)
    # SystemExit, a timeout of gevent's and the like, too: what went before them is done already.
    except BaseException:
        logger.exception("the app's own context failed around setting_changed")


def _send(app: Flask, change: Change) -> None:
    for receiver in setting_changed.receivers_for(app):
        try:
            receiver(
                app, name=change.name, old=change.old, new=change.new, revision=change.revision
            )
        except BaseException:
            logger.exception("a receiver of setting_changed failed on %s", change.name)
