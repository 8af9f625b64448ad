"""The apps that share a store: what each declares, and whether that can be meant."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ..errors import StoreError
from ..settings.declarations import Declarations, type_name
from ..settings.shapes import shape_of
from ..stores.base import Store
from .host_defaults import HostDefaults, differences, differs_here, with_host

logger = logging.getLogger("uwsgi_waffle")

#: how long an app counts as living after it was last seen
LIVING_S = 7 * 86_400.0
_REFRESHED_S = 6 * 3600.0
_SHOWN_NAMES = 5
FIX = (
    "give each app a WAFFLE_STORE_PREFIX of its own, as shop_, before it stores anything "
    "(docs/stores.md, Two apps in one database)"
)


class AppRecord(msgspec.Struct, frozen=True):
    """The entry of an app about itself in the store.

    :ivar host: on which it was seen last.
    :ivar folder: its instance folder there.
    :ivar at: when that was, in seconds since 1970 by that host's clock.
    :ivar declares: mapping of setting name to its type as people read it.
    :ivar hosts: mapping of a host's name to what its configuration changes.
    """

    host: str
    folder: str
    at: float
    declares: dict[str, str]
    hosts: dict[str, HostDefaults] = {}


class Neighbours:
    """The apps that share the store of one app; any thread may call every method.

    :param app: the Flask app's name.
    :param clock: of this host, in seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        app: str,
        folder: Path,
        declarations: Declarations,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._app = app
        self._folder = folder
        self._clock = clock
        self._declares = {
            name: type_name(shape_of(declaration.type).base)
            for name, declaration in declarations.items()
        }
        self._differs = differs_here(declarations)

    def living(self) -> dict[str, AppRecord]:
        """Return the other apps that were seen of late, by name.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        return {
            app: record
            for app, record in self._records().items()
            if app != self._app and self._clock() - record.at < LIVING_S
        }

    def declared(self) -> dict[str, str]:
        """Return every setting that another living app declares, with that app's name.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        return {name: app for app, other in self.living().items() for name in other.declares}

    def conflicts(self) -> list[str]:
        """Return what shows that other apps share this store by mistake, for people.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        found = []
        for app, other in self.living().items():
            if problem := _conflict(self._declares, other.declares):
                found.append(f"{app!r} ({other.folder} on {other.host}) {problem}")
        return found

    def enroll(self) -> bool:
        """Say in the store that this app uses it, unless that was said of late.

        Blocks for at most the store's bounds. A store that can't keep it, or fails, is left.

        :return: whether it was new, or declares something else than before.
        """
        now, host = self._clock(), os.uname().nodename
        try:
            known = self._records().get(self._app)
            is_news = known is None or known.declares != self._declares
            if known is None or is_news or self._is_due(known, host, now):
                hosts = {} if known is None else known.hosts
                own = HostDefaults(now, self._differs)
                hosts = with_host(hosts, host, own, LIVING_S)
                record = AppRecord(host, str(self._folder), now, self._declares, hosts)
                self._store.enroll(self._app, msgspec.json.encode(record).decode())
            return is_news
        except StoreError as exc:
            logger.debug("this app could not be recorded in the store: %s", exc)
            return False

    def differing_hosts(self) -> list[str]:
        """Return each setting whose default or pin differs between this app's hosts, for people.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        known = self._records().get(self._app)
        hosts = {
            host: each.differs
            for host, each in (known.hosts if known is not None else {}).items()
            if self._clock() - each.at < LIVING_S
        }
        return differences({**hosts, os.uname().nodename: self._differs})

    def warn(self) -> None:
        """Log which other apps share this store by mistake; blocks for the store's bound."""
        try:
            conflicts = self.conflicts()
        except StoreError:
            return
        if conflicts:
            logger.warning("another app shares this store: %s; %s", "; ".join(conflicts), FIX)

    def _is_due(self, known: AppRecord, host: str, now: float) -> bool:
        own = known.hosts.get(host)
        return (
            own is None
            or own.differs != self._differs
            or max(abs(now - own.at), abs(now - known.at)) > _REFRESHED_S
        )

    def _records(self) -> dict[str, AppRecord]:
        found = {}
        for app, text in self._store.apps().items():
            try:
                found[app] = msgspec.json.decode(text, type=AppRecord)
            except (msgspec.MsgspecError, RecursionError):
                # Of another release, or spoilt by hand.
                continue
        return found


class Enrolment:
    """Says now and then that the app still uses the store; a task of a watcher."""

    def __init__(
        self, neighbours: Neighbours, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._neighbours = neighbours
        self._clock = clock
        # At the start it was said by who made the app.
        self._due = clock() + _REFRESHED_S

    def turn(self) -> None:
        """Say it if it is time to; blocks for at most the store's bounds."""
        if self._clock() >= self._due:
            self._due = self._clock() + _REFRESHED_S
            self._neighbours.enroll()

    def end(self) -> None:
        """Leave it: an app that stops is one that may start again."""


def _conflict(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    shared = sorted(ours.keys() & theirs.keys())
    others = [name for name in shared if ours[name] != theirs[name]]
    if others:
        shown = ", ".join(
            f"{name} as {theirs[name]}, not {ours[name]}" for name in others[:_SHOWN_NAMES]
        )
        return f"declares {shown}"
    if ours and theirs and not shared:
        return "declares none of the settings of this app"
    return None
