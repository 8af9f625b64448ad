"""The Flask extension: what users import."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, cast, overload

from flask import Flask, current_app, has_app_context

from .app_state import EXTENSION_NAME, WaffleState, state_of
from .config import ConfigKeys
from .errors import ConfigurationError
from .process.health import Status
from .reporting.host_rows import processes
from .settings.arguments import check_seconds, check_strings, check_whole
from .snapshot import Snapshot
from .stores import Store, WorkerReport
from .stores.soundness import sound_reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint
    from typing_extensions import TypeVar

    from .operations import HistoryItem

    # So that an annotation may say WaffleConf alone; before Python 3.13 only checkers know it.
    ConfT = TypeVar("ConfT", default=Snapshot)
else:
    from typing import TypeVar

    ConfT = TypeVar("ConfT")


class WaffleConf(Generic[ConfT]):
    """Keeps declared settings of Flask apps consistent over all their processes.

    :param app: given to :meth:`init_app` at once; leave it out in an application factory.
    :param configstore: keeps the settings; made from ``WAFFLE_STORE_URL`` if left out.
    :param settings: a frozen ``msgspec.Struct`` that declares the settings, in place of
        ``WAFFLE_CONFS``; :attr:`conf` then is an instance of it.
    """

    @overload
    def __init__(
        self: WaffleConf[Snapshot],
        app: Flask | None = None,
        configstore: Store | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        app: Flask | None = None,
        configstore: Store | None = None,
        *,
        settings: type[ConfT],
    ) -> None: ...

    def __init__(
        self,
        app: Flask | None = None,
        configstore: Store | None = None,
        *,
        settings: type[ConfT] | None = None,
    ) -> None:
        self._settings = settings
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app, configstore)

    def init_app(self, app: Flask, configstore: Store | None = None) -> None:
        """Declare the app's settings, load them, and keep them current from now on.

        Reads the keys of :class:`~uwsgi_waffle.config.ConfigKeys` once. Under uWSGI it starts
        the watcher thread of this worker, or arranges that each worker starts its own after the
        fork. Blocks for at most the store's timeout.

        :raises ConfigurationError: it is no Flask app, it has this extension already, a key or a
            declaration is unusable, a folder is missing, or uWSGI runs without threads.
        """
        # By what is needed of it: Quart shares a base class with Flask.
        if not hasattr(type(app), "wsgi_app"):
            kind = type(app)
            raise ConfigurationError(
                f"{kind.__module__}.{kind.__qualname__} is no Flask app: pass the Flask app "
                "itself, not what wraps it; Quart and other frameworks are not served"
            )
        if EXTENSION_NAME in app.extensions:
            raise ConfigurationError(
                f"{app!r} has a WaffleConf already: call init_app once for each app, and use "
                "that instance"
            )
        settings = self._settings
        if settings and app.config.setdefault(ConfigKeys.CONFS, settings) is not settings:
            raise ConfigurationError(
                f"settings are declared twice, by {settings.__name__} and by {ConfigKeys.CONFS}: "
                "remove one"
            )
        state = WaffleState(app, configstore)
        state.load()
        state.serving.attach()
        app.extensions[EXTENSION_NAME] = state
        self._apps.add(app)

    @property
    def state(self) -> WaffleState:
        """The state of the current app; without an app context, of the only app there is.

        :raises ConfigurationError: it is not clear which app is meant.
        """
        if has_app_context():
            return state_of(current_app)
        if len(self._apps) == 1:
            (app,) = self._apps
            return state_of(app)
        raise ConfigurationError(
            f"this WaffleConf serves {len(self._apps)} apps: use it within app.app_context()"
        )

    @property
    def conf(self) -> ConfT:
        """All settings, read-only, from one revision.

        A mapping of name to typed value, :attr:`snapshot`; or, where a class declares the
        settings, an instance of that class. Within a request it is the same from its start to
        its end, in every thread, unless the request itself makes a change.
        """
        snapshot = self.snapshot
        if self._settings is None:
            return cast(ConfT, snapshot)
        return snapshot.as_class(self._settings)

    @property
    def snapshot(self) -> Snapshot:
        """All settings as a read-only mapping of name to typed value, from one revision."""
        return self.state.snapshot

    @property
    def revision(self) -> int:
        """The revision that :attr:`conf` comes from."""
        return self.state.snapshot.revision

    def update(
        self,
        values: Mapping[str, object],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        wait_s: float | None = None,
    ) -> int:
        """Change settings, all or none, in every process; return the new revision.

        When it returns, the change is committed, and every request that starts on this host sees
        it; so does every request that starts after any process of this host has seen it. If it
        could only be committed, not announced, that is logged and shown in :meth:`status`, and
        other hosts see it at their next resync. Waits for nothing but its commit and its
        announcement: at most ``WAFFLE_WRITE_TIMEOUT`` for other writers and
        ``WAFFLE_REDIS_TIMEOUT`` for Redis. A receiver of :data:`setting_changed` runs after that.
        With ``wait_s`` it then does what :meth:`wait` does.

        :param values: mapping of setting name to a value of its declared type. An empty one
            changes nothing.
        :param author: who makes the change, for the history.
        :param reason: why, for the history.
        :param expected_revision: refuse if the store has moved on since this revision.
        :param wait_s: wait for at most so long until every process of every host serves it.
        :raises Laggards: some process does not show within ``wait_s`` that it serves the change,
            which stands all the same.
        :raises UnknownSettingError: a name is not declared; nothing was written.
        :raises InvalidValueError: a value, or another argument, does not fit; nothing was written.
        :raises PinnedSettingError: a setting is pinned; nothing was written.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit: the change may have been
            made; :meth:`refresh` shows whether it was.
        :raises StoreError: the store failed in any other way; nothing was written.
        """
        state = self._state_to_change(wait_s)
        raws = state.declarations.encode(values)
        made = state.commit(raws, author=author, reason=reason, expected_revision=expected_revision)
        return self._waited(made, wait_s)

    def reset(
        self,
        names: Iterable[str],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        wait_s: float | None = None,
    ) -> int:
        """Put settings back to their declared defaults; return the new revision.

        A change like any other: see :meth:`update`.

        :raises Laggards: see :meth:`update`.
        :raises UnknownSettingError: a name is not declared; nothing was written.
        :raises PinnedSettingError: a setting is pinned; nothing was written.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit: the change may have been
            made; :meth:`refresh` shows whether it was.
        :raises StoreError: the store failed in any other way; nothing was written.
        """
        state = self._state_to_change(wait_s)
        raws = dict.fromkeys([names] if isinstance(names, str) else names)
        state.declarations.require(raws)
        made = state.commit(raws, author=author, reason=reason, expected_revision=expected_revision)
        return self._waited(made, wait_s)

    def history(
        self, *, name: str | None = None, limit: int = 100, show_secrets: bool = False
    ) -> list[HistoryItem]:
        """Return the newest changes of one setting, or of all, newest first: who, when, what, why.

        Secrets are masked unless asked for. Blocks for at most the store's timeout.

        :raises StoreUnavailable: the store can't be read within its bound.
        """
        from . import operations

        check_whole(limit=limit)
        return operations.history(self.state, name=name, limit=limit, show_secrets=show_secrets)

    def rollback(
        self,
        revision: int,
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        wait_s: float | None = None,
    ) -> int:
        """Restore every setting to what it was at a revision; return the new revision.

        A change like any other: see :meth:`update`. If nothing differs, nothing is written.

        :raises Laggards: see :meth:`update`.
        :raises UnknownRevisionError: there is no such revision, or the history is too short.
        :raises ChangeRefused: names every setting that can't be restored; nothing was written.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit: the change may have been
            made; :meth:`refresh` shows whether it was.
        :raises StoreError: the store failed in any other way; nothing was written.
        """
        from . import operations

        made = operations.rollback(
            self._state_to_change(wait_s),
            revision,
            author=author,
            reason=reason,
            expected_revision=expected_revision,
        )
        return self._waited(made, wait_s)

    def wait(
        self, revision: int | None = None, timeout_s: float = 10.0, drained: bool = False
    ) -> None:
        """Return once every living process of every host serves a revision, or a later one.

        No request that starts after that, on any host, sees an older revision, as long as the
        store answers. A process that is killed is not waited for; neither is one that is stopped
        or idle, because it looks before it serves. Processes of this host are known at once, other
        hosts answer by the channel of ``WAFFLE_WATCHTYPE``, or, without one, when they next read
        the store.
        Commands, shells and other programs that serve no requests are not counted. Blocks for at
        most ``timeout_s``, one read of the store, and one message to other hosts.

        :param revision: the one of a change; if left out, the one that the caller is served.
        :param drained: return only when no request runs that began at an older revision, except
            the caller's own: two requests that drain at once wait for each other until their time
            is over. Each worker is asked, so that one that is stopped is waited for.
        :raises Laggards: some process does not show it in time; names each, and why.
        :raises InvalidValueError: an argument is no whole number, or no number of seconds.
        """
        self.state.wait(revision, timeout_s=timeout_s, drained=drained)

    def _state_to_change(self, wait_s: float | None) -> WaffleState:
        if wait_s is not None:
            # Not after the change, which would stand all the same.
            check_seconds(wait_s=wait_s)
        return self.state

    def _waited(self, revision: int, wait_s: float | None) -> int:
        if wait_s is not None:
            self.wait(revision, wait_s)
        return revision

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return the typed values of strings that a person wrote, in a form or on a command line.

        :raises UnknownSettingError: a name is not declared.
        :raises InvalidValueError: a string does not fit; names every bad key.
        """
        return self.state.declarations.parse(texts)

    def override(self, **values: object) -> contextlib.AbstractContextManager[None]:
        """Return a context in which this process serves other values; for your tests.

        Nothing is stored, and no other process sees it. Overrides may be nested.

        :raises UnknownSettingError: a name is not declared.
        :raises InvalidValueError: a value does not fit.
        """
        return self.state.override(values)

    def refresh(self) -> int:
        """Read the store now and apply what is new; return the revision.

        Needed only where neither requests nor a watcher do it. A request that calls it goes on
        with what was read; any other that runs keeps what it has. Blocks for at most the store's
        timeout.

        :raises StoreError: the store can't be read; what is served stays.
        """
        return self.state.renew().revision

    @property
    def token(self) -> str:
        """A short string that names what the caller is served, for :meth:`require` on any host.

        Digits, letters and ``-``; no value can be read from it. Within a request that made a
        change it names that change or a later one.
        """
        return self.state.token

    def require(self, token: str | None) -> bool:
        """Serve the caller at least what a :attr:`token` names; return whether that is certain.

        For people who save on one host and are then sent to another, which may not have learned
        of the change yet: keep the token in the user's session, and require it when a request
        begins. Unless this process has reached the token, it reads the store, once for each token,
        and serves what was read in the caller's request, too. A token whose change a restored
        backup has undone is ignored, and so is a string that is not a token. Blocks for at most
        ``WAFFLE_STORE_TIMEOUT``, and not at all while the store fails and the watcher tries again.

        :return: ``False`` only if the store could not be read; then what is served stays.
        :raises InvalidValueError: it is neither a string nor ``None``, as the bytes that some
            clients return.
        """
        check_strings(token=token)
        return self.state.require(token)

    def status(self) -> Status:
        """Return how the settings of this process are doing."""
        return self.state.engine.status()

    def workers(self) -> list[WorkerReport]:
        """Return the last report of every process that has a watcher, on every host.

        One that is behind a change by more than a second or two is stale. The list comes from the
        store, not from the processes: a dead one is in it for up to three times
        ``WAFFLE_REPORT_INTERVAL``. Blocks for at most the store's timeout.

        :raises StoreUnavailable: the store can't be read.
        """
        return processes(sound_reports(self.state.store.workers(86_400.0)))

    def admin_blueprint(
        self,
        authorize: Callable[[], object] | None = None,
        *,
        author: Callable[[], str | None] | None = None,
        name: str = "waffle_admin",
        title: str = "",
        brand: str = "",
        require_reason: bool = False,
    ) -> Blueprint:
        """Return the admin page, as a blueprint for the app to register.

        ``app.register_blueprint(waffle.admin_blueprint(authorize=…), url_prefix="/settings")``.
        One blueprint may serve several apps; each shows its own settings.

        :param authorize: called without arguments at each request of a page. It returns ``True``
            or the author's name to let the request in, ``False`` or ``None`` to refuse it (403),
            or a response to be sent instead; it may also abort. Without it, all are refused.
        :param author: returns who makes a change, for the history, if ``authorize`` does not.
        :param name: the blueprint's name, before the dot of its endpoints.
        :param title: the site's name on every page; the app's own name if it is empty.
        :param brand: address of a small picture beside the title, of this site or ``data:``.
        :param require_reason: nothing is saved without a reason.
        :raises ConfigurationError: Flask-WTF is missing, or what is given can't be called.
        """
        from .admin import make_blueprint

        return make_blueprint(
            authorize,
            author=author,
            name=name,
            title=title,
            brand=brand,
            require_reason=require_reason,
        )

    def health_blueprint(
        self,
        *,
        healthz: str | None = "/healthz",
        readyz: str | None = "/readyz",
        defaults_are_ready: bool = False,
        longest_staleness_s: float | None = None,
        details: bool = False,
        name: str = "waffle_health",
    ) -> Blueprint:
        """Return views for probes, which answer with the status as JSON, for the app to register.

        ``app.register_blueprint(waffle.health_blueprint())``. ``/healthz`` answers 200 as long as
        the worker answers at all. ``/readyz`` answers 503 if the worker serves the declared
        defaults because it could never read the store, and 200 otherwise, also while the store is
        down: then it serves what it read last. One blueprint may serve several apps.
        Each request blocks for at most ``WAFFLE_STORE_TIMEOUT``, as any does.

        :param healthz: path of the first view, or ``None`` for none.
        :param readyz: path of the second, likewise.
        :param defaults_are_ready: a worker that serves the defaults is ready, too.
        :param longest_staleness_s: a worker that has not read the store for longer is not ready.
        :param details: also show errors, paths and names of settings; only for a port that no one
            else reaches. Passwords and values of secret settings are never shown.
        :param name: the blueprint's name, before the dot of its endpoints.
        """
        from .reporting.health_views import make_blueprint

        return make_blueprint(
            self.status,
            name=name,
            healthz=healthz,
            readyz=readyz,
            defaults_are_ready=defaults_are_ready,
            longest_staleness_s=longest_staleness_s,
            details=details,
        )

    def start(self) -> None:
        """Start the watcher in this process, unless it runs.

        For mules, spoolers and programs of your own; workers start theirs themselves. It warns, and
        does nothing, where uWSGI has still to fork them.
        """
        self.state.start()

    def stop(self) -> None:
        """Stop the watcher of this process until :meth:`start`; blocks for at most 2 s.

        Requests still look at the watch file when they start.
        """
        self.state.engine.stop()
