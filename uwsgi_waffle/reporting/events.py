"""Lines of the log for a process that started, and for each change that it made."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..masking import MASK, redact, visible
from ..process.health import Status
from ..settings.declarations import Declarations
from ..signals import SettingsUpdate, send_updated, settings_updated
from ..snapshot import Snapshot
from ..stores.base import Store

logger = logging.getLogger("uwsgi_waffle")

_MOST_NAMES = 10
# So many entries of the history are looked through for a change among those of others.
_ENTRIES = 100
_NOBODY = "an unnamed author"


class Events:
    """Says what one app's process does: in the log, and by ``settings_updated``.

    :param app: the Flask app.
    :param mask: returns a text without the values of secret settings.
    """

    def __init__(
        self, app: Any, store: Store, declarations: Declarations, mask: Callable[[str], str]
    ) -> None:
        self._app = app
        self._store = store
        self._declarations = declarations
        self._mask = mask

    def started(self, status: Status) -> None:
        """Log what this process serves from which store, and how it hears of changes."""
        store = visible(redact(repr(self._store)))
        logger.info(
            "%s of %s starts, pid %d: serving %s, at revision %d of %s; %s",
            f"worker {status.worker_id}" if status.worker_id else "a process",
            self._app.name,
            status.pid,
            status.served,
            status.applied_revision,
            store,
            f"notices by {status.notices}" if status.watcher_alive else "not watching",
            extra={
                "waffle_event": "starts",
                "waffle_app": self._app.name,
                "waffle_worker": status.worker_id,
                "waffle_pid": status.pid,
                "waffle_state": status.state.value,
                "waffle_source": status.source,
                "waffle_revision": status.applied_revision,
                "waffle_store": store,
                "waffle_notices": status.notices,
                "waffle_watching": status.watcher_alive,
            },
        )

    def changed(
        self,
        raws: Mapping[str, str | None],
        revision: int,
        *,
        before: Snapshot,
        author: str | None,
        reason: str | None,
    ) -> None:
        """Say that this process has committed a change.

        If there are receivers of ``settings_updated``, this reads the history: it blocks for at
        most the store's timeout, and for the receivers.

        :param before: what this process knew before the change.
        """
        heard = settings_updated.has_receivers_for(self._app)
        if not heard and not logger.isEnabledFor(logging.INFO):
            return
        update = self._update(raws, revision, author, reason)
        self._log(update)
        if heard:
            # A revision that is one higher does not show that nobody was faster: the one that this
            # process knew may have come back as another, after a restore.
            old = {name: before.stored.get(name) for name in raws} | self._kept(revision, len(raws))
            self._send(update, old, raws)

    def replaced(self, before: Snapshot, after: Snapshot) -> None:
        """Say that this process has replaced all that the store holds."""
        new = {
            name: after.stored.get(name)
            for name in sorted({*before.stored, *after.stored})
            if before.stored.get(name) != after.stored.get(name)
        }
        update = self._update(new, after.revision, None, "the store was restored or copied to")
        self._log(update)
        if settings_updated.has_receivers_for(self._app):
            self._send(update, dict(before.stored), new)

    def unknown(
        self, names: Iterable[str], error: object, *, author: str | None, reason: str | None
    ) -> None:
        """Log a change of which this process does not know whether it was committed."""
        update = self._update(names, 0, author, reason)
        logger.warning(
            "a change of %s by %s may have been made, or not: %s",
            _listed(update.names),
            visible(update.author or _NOBODY),
            self._mask(redact(str(error))),
            extra=self._fields("unknown", update),
        )

    def _update(
        self, names: Iterable[str], revision: int, author: str | None, reason: str | None
    ) -> SettingsUpdate:
        return SettingsUpdate(
            revision=revision,
            author=author and self._mask(author),
            reason=reason and self._mask(reason),
            names=tuple(names),
            old={},
            new={},
        )

    def _log(self, update: SettingsUpdate) -> None:
        logger.info(
            "revision %d of %s: %s changed %s%s",
            update.revision,
            self._app.name,
            visible(update.author or _NOBODY),
            _listed(update.names),
            visible(f": {update.reason}") if update.reason else "",
            extra={**self._fields("changed", update), "waffle_revision": update.revision},
        )

    def _fields(self, event: str, update: SettingsUpdate) -> dict[str, object]:
        return {
            "waffle_event": event,
            "waffle_app": self._app.name,
            "waffle_names": list(update.names),
            "waffle_author": update.author,
            "waffle_reason": update.reason,
        }

    def _send(
        self,
        update: SettingsUpdate,
        old: Mapping[str, str | None],
        new: Mapping[str, str | None],
    ) -> None:
        def values(raws: Mapping[str, str | None]) -> dict[str, Any]:
            return {name: self._value(name, raws.get(name)) for name in update.names}

        send_updated(self._app, update._replace(old=values(old), new=values(new)))

    def _kept(self, revision: int, count: int) -> dict[str, str | None]:
        # If that fails, what this process knew must do.
        with contextlib.suppress(Exception):
            entries = self._store.history(limit=_ENTRIES + count)
            return {entry.name: entry.old_raw for entry in entries if entry.revision == revision}
        return {}

    def _value(self, name: str, raw: str | None) -> Any:
        declaration = self._declarations.get(name)
        # What is not declared any more may have been secret.
        if declaration is None or declaration.secret:
            return MASK
        if raw is None:
            return declaration.default
        try:
            return declaration.decode(raw)
        except ValueError:
            # What is served.
            return declaration.default


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMES
    shown = ", ".join(map(visible, names[:_MOST_NAMES])) or "nothing"
    return f"{shown} and {more} more" if more > 0 else shown
