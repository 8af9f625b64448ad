"""The blinker signal of this package."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: Sent by every process after it applied a change to ``app.config``; the sender is the app.
#: Receivers get ``name``, ``old``, ``new`` and ``revision``, and run within an app context, in the
#: thread that applied the change: a request's, before its view, or the watcher's. An exception
#: in a receiver is logged and stops nobody.
setting_changed = _signals.signal("setting-changed")
