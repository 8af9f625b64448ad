"""The settings of one app, in every process that serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import flask.globals
from flask import Flask, Request, has_request_context, request
from flask.ctx import AppContext
from flask.helpers import get_debug_flag

from . import runtime
from .config import DEFAULT_STORE_URL, ConfigKeys, Options
from .errors import ConfigurationError, OutcomeUnknown, StoreError
from .forking import PerProcess
from .masking import redact
from .notifiers.base import Notifier
from .notifiers.file import FileNotifier
from .preflight import (
    channel_notifier_maker,
    check_folder,
    check_release,
    check_runtime,
    check_watch_file,
    make_folder,
    warn_of_open_files,
)
from .process.engine import Engine
from .process.gate import Gate
from .process.manager import Manager
from .process.page import Page, is_open
from .process.page_file import page_path, refuse_remote
from .process.reading import LastKnown
from .process.tickets import Ticket, Tickets
from .process.token import Token
from .process.watcher import WATCHER, WatcherTask
from .reporting.apps import Enrolment, Neighbours
from .reporting.events import Events
from .reporting.tasks import WatcherTasks
from .settings.configured import configure
from .settings.declare import declare
from .signals import send_changed
from .snapshot import Change, Snapshot, initial_snapshot
from .stores import Dump, Store, store_from_url

if TYPE_CHECKING:
    from .reporting.barrier import Barrier, Reach

EXTENSION_NAME = "waffleconf"
# What has_request_context() asks, without the call.
_outer_request: Callable[[None], object] = getattr(
    flask.globals, "_cv_request", ContextVar("uwsgi_waffle_request")
).get


def state_of(app: Flask) -> WaffleState:
    """Return the settings of an app.

    :raises ConfigurationError: the app has no WaffleConf.
    """
    state = app.extensions.get(EXTENSION_NAME)
    if not isinstance(state, WaffleState):
        raise ConfigurationError(f"{app.name!r} has no WaffleConf: call init_app(app) first")
    return state


class WaffleState:
    """The settings of one app; ``app.extensions["waffleconf"]``.

    Has the methods of Flask-WaffleConf's state: ``parse_conf``, ``update_db``, ``update_conf``.

    :param configstore: keeps the settings; made from ``WAFFLE_STORE_URL`` if ``None``.
    """

    def __init__(self, app: Flask, configstore: Store | None) -> None:
        self.app = app
        folder = Path(app.instance_path)
        self.options = options = Options.from_config(app.config, folder)
        self.declarations = configure(
            declare(app.config.get(ConfigKeys.CONFS, {})),
            app.config,
            plain={**app.default_config, "DEBUG": get_debug_flag()},
            pinned=options.pinned,
        )
        where = runtime.detect()
        self._under_uwsgi = where.under_uwsgi
        # A server that is not known does not say how many processes there are: the user must.
        self._wanted = where.has_processes if options.multiproc is None else options.multiproc
        check_runtime(where, options, watched=self._wanted)
        in_folder = configstore is None and options.store_url == DEFAULT_STORE_URL
        self._makes_folder = in_folder or folder == options.watcher_file.parent
        # A command may only read: what is missing is made when it changes a setting or serves.
        self._may_make = not runtime.in_flask_command()
        if self._makes_folder:
            (make_folder if self._may_make else check_folder)(folder)
        check_watch_file(options.watcher_file, make=self._may_make, folder=folder)
        given: Any = {
            "timeout_s": options.store_timeout_s,
            "write_timeout_s": options.write_timeout_s,
            "history_limit": options.history_limit,
        }
        if configstore is None:
            self.store = store_from_url(
                options.store_url,
                folder=folder,
                prefix=options.store_prefix,
                makes_folder=self._makes_folder,
                **given,
            )
            check_release(getattr(self.store, "path", None))
        else:
            self.store = configstore.for_app(app, **given)
        self._store_name = self.store.identity
        if configstore is None and folder == options.watcher_file.parent:
            # Two apps with one URL and a prefix each have two stores, so that each has its own
            # page; a relative file is the same one wherever its folder is mounted.
            named = [redact(options.store_url), options.store_prefix]
            self._store_name = " ".join(filter(None, named))
        refuse_remote(self.page_file)
        self.tasks = WatcherTasks(
            app.name, options, self.declarations, self.store, store_name=self._store_name
        )
        self.neighbours = Neighbours(self.store, app.name, folder, self.declarations)
        self._introduced = False
        self.tasks.add(lambda _: Enrolment(self.neighbours))
        self._events = Events(
            app, self.store, self.declarations, lambda text: self.engine.manager.mask(text)
        )
        #: makes the notifier between hosts of a process; ``None`` if there is none
        self.make_channel_notifier = channel_notifier_maker(options, self.store)
        self._key = f"uwsgi_waffle.{id(self)}"
        self._gate = Gate(
            app.wsgi_app,
            self._look,
            self._key,
            clears_environ=where.clears_environ,
            outer=_outer_request,
        )
        # Shared by code outside of requests; a request shares none before this process has a slot.
        self._outside = Tickets()
        self._seed = initial_snapshot(self.declarations)
        self._loaded = False
        self._engines = PerProcess(self._make_engine)

    @property
    def page_file(self) -> Path:
        """Where the page of this app's store is."""
        options = self.options
        return options.page_file or page_path(options.watcher_file, self._store_name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this app beside its store."""
        return (self.options.watcher_file, self.page_file, self.last_known_file)

    @property
    def store_files(self) -> tuple[Path, ...]:
        """The files in which the store keeps everything, if it keeps it in files."""
        # Flask-SQLAlchemy's db may be given its app only later.
        with contextlib.suppress(StoreError):
            return self.store.files()
        return ()

    @property
    def last_known_file(self) -> Path:
        """Where this host keeps the last known values."""
        return self.tasks.last_known_file

    def last_known(self) -> LastKnown | None:
        """Return the values that this host keeps from its last good read, or ``None``."""
        return self.tasks.last_known()

    @property
    def engine(self) -> Engine:
        """The engine of this app in this process."""
        return self._engines.get()

    @property
    def snapshot(self) -> Snapshot:
        """The request's own snapshot; outside of a request, the newest there is.

        A request sees one snapshot from its start to its end, also in threads that it has started
        with its context, and in those that outlive it.
        """
        if not has_request_context():
            return self.engine.manager.current()
        current = _request()
        snapshot: Snapshot | None = current.__dict__.get(self._key)
        if snapshot is None:
            ticket = self._ticket_of(current)
            # A context that no server made has no ticket, nor has a request that is over.
            snapshot = self.engine.manager.current() if ticket is None else ticket.snapshot
            current.__dict__[self._key] = snapshot
        return snapshot

    def load(self) -> None:
        """Read the store for the first time and put the values into ``app.config``.

        A store that can't be read is logged; what this host kept from the last good read is
        served, or else the defaults, and the next request, or the watcher, tries again.
        """
        manager = self.engine.manager
        self._apply(self._seed)
        with contextlib.suppress(StoreError):
            manager.refresh()
            if self._may_make:
                self._introduce()
        files = [*self.store_files, *self.files]
        warn_of_open_files([*files, *(path.parent for path in files)])
        self._loaded = True
        # A master that loads the app forks next: its workers begin with what it read.
        self._seed = manager.snapshot

    def attach(self) -> None:
        """Put the request-start check into the app, and launch the watcher where it belongs."""
        # Assigned to the instance, as the Flask documentation has it for middleware.
        self.app.wsgi_app = self._gate.wsgi_app  # type: ignore[method-assign,assignment]
        where = runtime.detect()
        if where.is_in_worker:
            self._begin(self.engine)
            return
        context = self._make_app_context(self.app.app_context)
        self.app.app_context = context  # type: ignore[method-assign]  # as above
        # What was opened to load the settings must not be carried across a fork.
        self.store.close()
        if where.under_uwsgi and not where.is_helper:
            runtime.on_postfork(self._start_in_worker)

    def add_task(self, make: Callable[[Engine], WatcherTask]) -> None:
        """Have the watchers of this app do one task more, the one that runs here included."""
        self.tasks.add(make)
        engine = self._engines.peek()
        if engine is not None:
            engine.add_task(make)

    def commit(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None,
        reason: str | None,
        expected_revision: int | None,
    ) -> int:
        """Make a change of raw texts that were checked already; return its revision.

        :param raws: mapping of setting name to JSON text; ``None`` resets to the default.
        :raises PinnedSettingError: a setting is pinned; nothing was written.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store failed; nothing was written.
        """
        self.declarations.refuse_pinned(raws)
        engine = self.engine
        manager = engine.manager
        if not raws:
            return manager.current().revision
        before = manager.snapshot
        self._make_missing(engine)
        try:
            revision = manager.commit(
                raws,
                author=author,
                reason=reason,
                expected_revision=expected_revision,
                may_apply=self._may_apply,
            )
        except OutcomeUnknown as exc:
            self._events.unknown(raws, exc, author=author, reason=reason)
            raise
        finally:
            self._renew()
        if not engine.watching:
            self.tasks.changed(manager)
        self._events.changed(
            raws, revision, before=before, after=manager.snapshot, author=author, reason=reason
        )
        return revision

    def replace(self, dump: Dump, *, expected_revision: int | None) -> None:
        """Replace settings, revision and history in the store; every process serves them then.

        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store refuses, or can't do this; nothing was written.
        """
        engine = self.engine
        manager = engine.manager
        before = manager.snapshot
        self._make_missing(engine)
        try:
            manager.replace(dump, expected_revision=expected_revision, may_apply=self._may_apply)
        finally:
            self._renew()
        if not engine.watching:
            self.tasks.changed(manager)
        self._events.replaced(before, manager.snapshot)

    def recreate(self, dump: Dump | None, epochs: Iterable[str], *, revision: int | None) -> None:
        """Have the store stand in for those that are gone; see :meth:`Manager.recreate`.

        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within a commit.
        :raises StoreError: the store refuses, or can't do this.
        """
        engine = self.engine
        manager = engine.manager
        before = manager.snapshot
        self._make_missing(engine)
        manager.recreate(dump, epochs, revision=revision)
        if not engine.watching:
            self.tasks.changed(manager)
        self._renew()
        self._events.replaced(before, manager.snapshot)

    def wait(
        self,
        revision: int | None,
        *,
        timeout_s: float,
        drained: bool = False,
        expected: int = 0,
    ) -> Reach:
        """Wait until every process of every host serves a revision; see :meth:`WaffleConf.wait`.

        :return: how many processes serve it.
        :raises Laggards: some process does not show it in time.
        """
        barrier = self.barrier(revision, drained=drained)
        return barrier.wait(timeout_s, expected=expected)

    def barrier(self, revision: int | None, *, drained: bool = False) -> Barrier:
        """Return what waits for a revision; for the one that the caller is served if ``None``."""
        # Imported by those who wait: a worker pays memory for every module.
        from .reporting.barrier import Barrier

        manager = self.engine.manager
        if revision is None:
            revision = max(self.snapshot.revision, manager.current().revision)
        own = self._own_ticket() if drained and has_request_context() else None
        return Barrier(manager, self.store, revision, drained=drained, own=own)

    def _own_ticket(self) -> Ticket | None:
        """Give the running request a ticket that no other shares; return that."""
        shared = self._ticket_of(_request())
        if shared is None:
            return None
        own = self.engine.manager.tickets.issue()
        own.snapshot = shared.snapshot
        _request().environ[self._key] = own
        return own

    def start(self) -> None:
        """Start the watcher in this process, unless it runs."""
        engine = self.engine
        self._make_missing(engine)
        self._serve(engine)
        engine.start()

    def _serve(self, engine: Engine) -> None:
        if not engine.manager.serves:
            engine.manager.serve_as(self.app.name, runtime.detect().worker_id)

    def refresh(self) -> Snapshot:
        """Read the store now; return the newest snapshot.

        It is applied between requests: one that runs, the caller's too, keeps what it has.

        :raises StoreError: the store can't be read; what is served stays.
        """
        manager = self.engine.manager
        manager.refresh(may_apply=manager.between_requests)
        return manager.snapshot

    def renew(self, *, complete: bool = False) -> Snapshot:
        """Read the store now and go on with what it has, in the caller's request too.

        :param complete: read every row again, not only those that are newer.
        :raises StoreError: the store can't be read; what is served stays.
        """
        manager = self.engine.manager
        manager.refresh(complete=complete, may_apply=self._may_apply)
        self._renew()
        return manager.snapshot

    @property
    def token(self) -> str:
        """See :attr:`WaffleConf.token`."""
        return str(Token.of(self.snapshot))

    def require(self, token: str | None) -> bool:
        """See :meth:`WaffleConf.require`."""
        wanted = Token.parse(token)
        if wanted is None or wanted.is_of(self.snapshot):
            return True
        is_reached = self.engine.manager.require(wanted, may_apply=self._may_apply)
        # The request may have begun before its process had what it has now.
        self._renew()
        return is_reached

    @contextlib.contextmanager
    def override(self, values: Mapping[str, object]) -> Iterator[None]:
        """See :meth:`WaffleConf.override`."""
        raws = self.declarations.encode(values)
        typed = {name: self.declarations[name].decode(raw) for name, raw in raws.items()}
        try:
            with self.engine.manager.override(typed):
                self._renew()
                yield
        finally:
            self._renew()

    def parse_conf(self, keys: Iterable[str] = ()) -> dict[str, Any]:
        """Return current typed values by name: of the given settings, or of all.

        Kept from Flask-WaffleConf. In a request the values are those of its one revision; the
        store is read only if there is something new.

        :raises UnknownSettingError: a key is not declared.
        """
        wanted = list(keys)
        self.declarations.require(wanted)
        snapshot = self.snapshot
        return {name: snapshot[name] for name in wanted or snapshot}

    def update_db(self, new_values: Mapping[str, object]) -> None:
        """Change settings, as :meth:`WaffleConf.update` does. Kept from Flask-WaffleConf.

        :raises UnknownSettingError: a key is not declared; nothing was written.
        :raises InvalidValueError: a value does not fit; nothing was written.
        """
        raws = self.declarations.encode(new_values)
        self.commit(raws, author=None, reason=None, expected_revision=None)

    def update_conf(self) -> None:
        """Read the whole store now and put the values into ``app.config``.

        Kept from Flask-WaffleConf. Blocks for at most the store's timeout.

        :raises StoreError: the store can't be read; what is served stays.
        """
        self.renew(complete=True)

    def _ticket_of(self, current: Request) -> Ticket | None:
        """Return the ticket of a request while it runs.

        Source: uWSGI has one environment for all requests of a core, so that a context which
        outlives its request finds the next one's there. Werkzeug, ``Request.__init__``, notes in
        the environment whose it is.
        """
        environ = current.environ
        ticket: Ticket | None = environ.get(self._key)
        return ticket if environ.get("werkzeug.request") is current else None

    def _may_apply(self) -> bool:
        """Return whether a change that is made here may change ``app.config`` at once."""
        if has_request_context() and f"{self._key}.nested" not in _request().environ:
            # A request that makes a change itself reads what it wrote.
            own = self._ticket_of(_request()) is not None
        else:
            own = False
        return own or self.engine.manager.between_requests()

    def _renew(self) -> None:
        if has_request_context():
            _request().__dict__[self._key] = self.engine.manager.snapshot

    def _look(self, environ: dict[str, Any]) -> None:
        # All that a request may have to see to at its start; what shares a ticket can wait for it
        # for a few milliseconds. A child that is forked shares its parent's until then.
        engine = self._current_engine()
        if not engine.manager.may_make:
            # What can't be made shows in the state.
            with contextlib.suppress(ConfigurationError):
                self._make_missing(engine)
        self._serve(engine)
        self._gate.tickets = self._outside = engine.manager.tickets
        nested = has_request_context()
        if nested:
            # As a test client makes it in a view: the outer request goes on after it.
            environ[f"{self._key}.nested"] = True
        engine.manager.admit(environ, self._key, nested=nested)
        if not (self._introduced or engine.manager.reading.failing):
            self._introduce()

    def _make_app_context(self, inner: Callable[[], AppContext]) -> Callable[[], AppContext]:
        """Have code in an app context outside of requests find current values in ``app.config``."""

        def app_context() -> AppContext:
            if not self._outside.holds():
                self._attend()
            return inner()

        return app_context

    def _attend(self) -> None:
        # A request that was just given its ticket makes an app context, too.
        if not self._gate.admitting.get():
            # In a mule or a spooler of uWSGI only an explicit start() counts.
            engine = self.engine if self._under_uwsgi else self._current_engine()
            self._outside = engine.manager.tickets
            engine.manager.current()

    def _current_engine(self) -> Engine:
        engine = self._engines.get()
        # Its watcher says so itself, which is ten times cheaper than to ask whether it is alive.
        if self._wanted and not (engine.manager.watched or engine.watching or engine.stopped):
            self._launch(engine)
        return engine

    def _introduce(self) -> None:
        """Say in the store that this app uses it; warn of one that shares it by mistake."""
        self._introduced = True
        self.neighbours.enroll()
        # Once for a server, not once for each of its workers.
        if runtime.detect().worker_id <= 1:
            self.neighbours.warn()

    def _make_missing(self, engine: Engine) -> None:
        """Make folder, watch file, page and store where they are missing, now or soon.

        :raises ConfigurationError: the instance folder can't be made.
        """
        if not engine.manager.may_make:
            if self._makes_folder:
                make_folder(Path(self.app.instance_path))
            engine.manager.make()

    def _launch(self, engine: Engine) -> None:
        try:
            self._make_missing(engine)
            self._serve(engine)
            engine.start()
        except Exception as exc:
            # No thread to be had: the look at the watch file serves the requests.
            engine.manager.health.failed(WATCHER, exc)

    def _begin(self, engine: Engine) -> None:
        if self._wanted:
            self._launch(engine)
        else:
            self._events.started(engine.status())

    def _start_in_worker(self) -> None:
        # uWSGI calls this in mules and spoolers too, where only an explicit start() counts.
        if runtime.detect().worker_id <= 0:
            return
        if self._wanted:
            # Its watcher keeps app.config current, so that no request need pay for this.
            vars(self.app).pop("app_context", None)
            self._serve(self.engine)
            with contextlib.suppress(StoreError):
                self.engine.manager.refresh()
        self._begin(self.engine)

    def _make_engine(self) -> Engine:
        options = self.options
        page = Page(self.page_file, may_make=self._may_make)
        make_channel = self.make_channel_notifier
        manager = Manager(
            self.declarations,
            self.store,
            self._make_file_notifier(),
            page,
            snapshot=self._seed,
            apply=self._apply,
            changed=self._send_changed,
            remote=make_channel and self._make_publisher(make_channel),
            last_known=self.tasks.last_known,
            wait_s=options.store_timeout_s,
            resync_interval_s=options.resync_interval_s,
            poll_interval_s=options.poll_interval_s,
        )
        return Engine(
            manager,
            lambda: self._make_listener(page),
            poll_interval_s=options.poll_interval_s,
            make_tasks=self.tasks.make,
            started=self._events.started,
        )

    def _make_file_notifier(self) -> FileNotifier:
        return FileNotifier(self.options.watcher_file, poll_interval_s=self.options.poll_interval_s)

    def _make_publisher(self, make_channel: Callable[[], Notifier]) -> Notifier:
        from .notifiers.publisher import Publisher

        return Publisher(self.options.watchtype, make_channel)

    def _make_listener(self, page: Page) -> Notifier:
        def files(also: Iterable[Path] = ()) -> FileNotifier:
            return FileNotifier(
                self.options.watcher_file,
                poll_interval_s=self.options.poll_interval_s,
                also=also,
                # A look before the commit is over would only have to be made again.
                quiet=lambda: is_open(page.words()),
            )

        if self.make_channel_notifier is not None:
            # As the publisher: where there is no channel, a worker pays for neither.
            from .process.ear import Ear

            return Ear(
                self.options.watchtype,
                self.make_channel_notifier,
                files(),
                page,
                poll_interval_s=self.options.poll_interval_s,
            )
        return files(also=[page.path])

    def _apply(self, values: Mapping[str, Any]) -> None:
        self.app.config.update(values)

    def _send_changed(self, changes: list[Change]) -> None:
        # What the first load finds is where this process starts from, not a change.
        if changes and self._loaded:
            send_changed(self.app, changes)


def _request() -> Request:
    current: Request = cast(Any, request)._get_current_object()
    return current
