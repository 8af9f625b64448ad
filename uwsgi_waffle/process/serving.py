"""How one app is served: each request gets its ticket, and the watcher starts where it belongs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .. import runtime
from ..errors import ConfigurationError, StoreError, warn_app
from ..forking import PerProcess, unseen_forks
from ..stores.base import Store
from .engine import Engine
from .gate import Gate
from .requests import Requests
from .tickets import Tickets
from .watcher import WATCHER

#: set while a command runs: it serves nobody, so that it has no watcher and counts for none
in_command: ContextVar[bool] = ContextVar("in_command", default=False)


class Serving:
    """Has the requests of one Flask app served with current settings, in every process.

    :param app: the Flask app, whose ``wsgi_app`` and ``app_context`` are wrapped.
    :param key: under which a request's environment holds its ticket.
    :param watched: each process that serves is to have a watcher.
    :param in_request: returns whether a request runs in the caller's context.
    :param outer: see :class:`.Gate`.
    :param introduce: says in the store that this app uses it; called once in each process, when
        the store could be read.
    """

    def __init__(
        self,
        app: Any,
        store: Store,
        engines: PerProcess[Engine],
        requests: Requests,
        key: str,
        *,
        watched: bool,
        in_request: Callable[[], bool],
        outer: Callable[[None], object],
        introduce: Callable[[], None],
    ) -> None:
        where = runtime.detect()
        self._app = app
        self._store = store
        self._engines = engines
        self._requests = requests
        self._key = key
        # The master of gunicorn loads the app with --preload, and forks later.
        self._may_fork_later = where.under_uwsgi or where.other == "gunicorn"
        self._watched = watched
        self._in_request = in_request
        self._say_introduced = introduce
        self._introduced = False
        self._gate = Gate(
            app.wsgi_app, self.look, key, clears_environ=where.clears_environ, outer=outer
        )
        # Shared by code outside of requests; a request shares none before this process has a slot.
        self._outside = Tickets()

    def attach(self) -> None:
        """Put the look for news into the app, and launch the watcher where it belongs."""
        # Assigned to the instance, as the Flask documentation has it for middleware.
        self._app.wsgi_app = self._gate.wsgi_app
        where = runtime.detect()
        if where.is_in_worker:
            self._begin(self._engines.get())
            return
        self._app.app_context = self._make_app_context(self._app.app_context)
        # What was opened to load the settings must not be carried across a fork.
        self._store.close()
        if where.under_uwsgi and not where.is_helper:
            runtime.on_postfork(self._start_in_worker)

    def start(self) -> None:
        """Start the watcher in this process, unless it runs.

        :raises ConfigurationError: the instance folder can't be made.
        """
        if runtime.detect().may_be_forked:
            warn_app(
                "start() does nothing before uWSGI forks its workers, where the watcher starts by "
                "itself: remove the call, or make it in a mule, or in a function of @postfork"
            )
            return
        engine = self._engines.get()
        engine.manager.make()
        self._take_slot(engine)
        engine.start()

    def introduce(self) -> None:
        """Say in the store that this app uses it; blocks for the store's bounds."""
        self._introduced = True
        self._say_introduced()

    def look(self, environ: dict[str, Any]) -> None:
        """Put the ticket of a request that starts now into its environment; see :class:`.Gate`."""
        # All that a request may have to see to at its start; what shares a ticket can wait for it
        # for a few milliseconds. A child that is forked shares its parent's until then.
        nested = self._in_request()
        # Of a server's request Flask notes it only later.
        by_test_client = not nested and "werkzeug.request" in environ
        # An app that asks itself something while it is loaded, for a master or a command, serves
        # nobody yet.
        serves = not (in_command.get() or (by_test_client and self._may_be_master()))
        engine = self._current_engine() if serves else self._engines.get()
        if serves:
            if not engine.manager.may_make:
                # What can't be made shows in the state.
                with contextlib.suppress(ConfigurationError):
                    engine.manager.make()
            self._take_slot(engine)
        self._gate.tickets = self._outside = engine.manager.tickets
        if nested:
            self._requests.note_nested(environ)
        elif by_test_client:
            self._requests.by_test_client = True
        engine.manager.admit(environ, self._key, nested=nested)
        if serves and not (self._introduced or engine.manager.reading.failing):
            self.introduce()

    def _may_be_master(self) -> bool:
        return self._may_fork_later and not runtime.detect().worker_id

    def _make_app_context(self, inner: Callable[[], Any]) -> Callable[[], Any]:
        """Have code in an app context outside of requests find current values in ``app.config``."""

        def app_context() -> Any:
            if not self._outside.holds():
                self._attend()
            return inner()

        return app_context

    def _attend(self) -> None:
        # A request that was just given its ticket makes an app context, too.
        if not self._gate.admitting.get():
            # In a mule or a spooler of uWSGI, too, only an explicit start() counts.
            starts = not (self._may_fork_later or in_command.get())
            engine = self._current_engine() if starts else self._engines.get()
            self._outside = engine.manager.tickets
            engine.manager.current()

    def _current_engine(self) -> Engine:
        engine = self._engines.get()
        # Its watcher says so itself, which is ten times cheaper than to ask whether it is alive.
        if self._watched and not (engine.manager.watched or engine.watching or engine.stopped):
            self._launch(engine)
        return engine

    def _take_slot(self, engine: Engine) -> None:
        if not engine.manager.slot.serves:
            where = runtime.detect()
            # Without a master the process that loaded the app becomes a worker.
            unseen_forks.expect(where.may_be_forked)
            engine.manager.serve_as(self._app.name, where.worker_id)

    def _launch(self, engine: Engine) -> None:
        try:
            engine.manager.make()
            self._take_slot(engine)
            engine.start()
        except Exception as exc:
            # No thread to be had: the look at the watch file serves the requests.
            engine.manager.health.failed(WATCHER, exc)

    def _begin(self, engine: Engine) -> None:
        if self._watched:
            self._launch(engine)
        else:
            engine.say_started()

    def _start_in_worker(self) -> None:
        # uWSGI calls this in mules and spoolers too, where only an explicit start() counts.
        if runtime.detect().worker_id <= 0:
            return
        engine = self._engines.get()
        if self._watched:
            # Its watcher keeps app.config current, so that no request need pay for this.
            vars(self._app).pop("app_context", None)
            self._take_slot(engine)
            with contextlib.suppress(StoreError):
                engine.manager.refresh()
        self._begin(engine)
