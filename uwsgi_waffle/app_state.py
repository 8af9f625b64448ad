"""The settings of one app, in every process that serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import flask.globals
from flask import Flask, Request, has_request_context, request
from flask.helpers import get_debug_flag

from . import runtime
from .config import DEFAULT_STORE_URL, ConfigKeys, Options
from .errors import ConfigurationError, OutcomeUnknown, StoreError
from .forking import PerProcess, unseen_forks
from .masking import redact
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
from .process.manager import Manager
from .process.notices import Notices
from .process.page import Page
from .process.page_file import page_path, refuse_remote
from .process.reading import LastKnown
from .process.requests import Requests
from .process.serving import Serving
from .process.token import Token
from .process.watcher import WatcherTask
from .reporting.apps import Enrolment, Neighbours
from .reporting.events import Events
from .reporting.tasks import WatcherTasks
from .settings.arguments import check_seconds, check_texts, check_whole
from .settings.configured import configure
from .settings.declare import declare
from .signals import send_changed
from .snapshot import Change, Snapshot, initial_snapshot
from .stores import Dump, Store, store_from_url

if TYPE_CHECKING:
    from .reporting.barrier import Barrier, Reach

T = TypeVar("T")

EXTENSION_NAME = "waffleconf"
#: why :attr:`WaffleState.knows_hosts` is false, for people
NO_REPORTS = "WAFFLE_REPORT_INTERVAL is 0, or the store can't keep reports"
# The proxy, which pretends to be a request.
_REQUEST: Any = request
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
        unseen_forks.expect(where.may_be_forked)
        # A server that is not known does not say how many processes there are: the user must.
        watched = where.has_processes if options.multiproc is None else options.multiproc
        check_runtime(where, options, watched=watched)
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
                named=ConfigKeys.STORE_URL,
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
        self.tasks.add(lambda _: Enrolment(self.neighbours))
        self._events = Events(
            app, self.store, self.declarations, lambda text: self.engine.manager.mask(text)
        )
        self.notices = Notices(
            options.watcher_file,
            channel=options.watchtype,
            make_channel=channel_notifier_maker(options, self.store),
            poll_interval_s=options.poll_interval_s,
        )
        self._seed = initial_snapshot(self.declarations)
        self._loaded = False
        self._engines = PerProcess(self._make_engine)
        key = f"uwsgi_waffle.{id(self)}"
        self._requests = Requests(key, _current_request, lambda: self.engine.manager)
        self.serving = Serving(
            app,
            self.store,
            self._engines,
            self._requests,
            key,
            watched=watched,
            in_request=has_request_context,
            outer=_outer_request,
            introduce=self._introduce,
        )

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
        """The request's own snapshot; outside of a request, the newest there is."""
        return self._requests.snapshot()

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
                self.serving.introduce()
        files = [*self.store_files, *self.files]
        warn_of_open_files([*files, *(path.parent for path in files)])
        self._loaded = True

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
        :raises InvalidValueError: author, reason or revision is none; nothing was written.
        :raises PinnedSettingError: a setting is pinned; nothing was written.
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store failed; nothing was written.
        """
        check_texts(author=author, reason=reason)
        check_whole(expected_revision=expected_revision)
        self.declarations.refuse_pinned(raws)
        manager = self.engine.manager
        if not raws:
            return manager.current().revision
        before = manager.snapshot

        def commit() -> int:
            try:
                return manager.changes.commit(
                    raws,
                    author=author,
                    reason=reason,
                    expected_revision=expected_revision,
                    may_apply=self._requests.may_apply,
                )
            except OutcomeUnknown as exc:
                self._events.unknown(raws, exc, author=author, reason=reason)
                raise

        revision = self._followed(commit)
        self._events.changed(raws, revision, before=before, author=author, reason=reason)
        return revision

    def replace(self, dump: Dump, *, expected_revision: int | None) -> None:
        """Replace settings, revision and history in the store; every process serves them then.

        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store refuses, or can't do this; nothing was written.
        """
        manager = self.engine.manager
        before = manager.snapshot
        self._followed(
            lambda: manager.changes.replace(
                dump, expected_revision=expected_revision, may_apply=self._requests.may_apply
            )
        )
        self._events.replaced(before, manager.snapshot)

    def recreate(self, dump: Dump | None, epochs: Iterable[str], *, revision: int | None) -> None:
        """Have the store stand in for those that are gone; see :meth:`.Changes.recreate`.

        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within a commit.
        :raises StoreError: the store refuses, or can't do this.
        """
        manager = self.engine.manager
        before = manager.snapshot
        self._followed(lambda: manager.changes.recreate(dump, epochs, revision=revision))
        self._events.replaced(before, manager.snapshot)

    def _followed(self, change: Callable[[], T]) -> T:
        """Make a change; have the caller's request and the last known values follow it."""
        try:
            made = change()
        finally:
            self._requests.renew()
        engine = self.engine
        if not engine.watching:
            self.tasks.changed(engine.manager)
        return made

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
        check_seconds(timeout_s=timeout_s)
        check_whole(revision=revision)
        barrier = self.barrier(revision, drained=drained)
        return barrier.wait(timeout_s, expected=expected)

    @property
    def knows_hosts(self) -> bool:
        """Whether this app's processes report to the store, so that other hosts are waited for."""
        return bool(self.options.report_interval_s) and type(self.store).report is not Store.report

    def barrier(self, revision: int | None, *, drained: bool = False) -> Barrier:
        """Return what waits for a revision; for the one that the caller is served if ``None``."""
        # Imported by those who wait: a worker pays memory for every module.
        from .reporting.barrier import Barrier

        manager = self.engine.manager
        if revision is None:
            revision = max(self.snapshot.revision, manager.current().revision)
        own = self._requests.take_own() if drained else None
        return Barrier(manager, self.store, revision, drained=drained, own=own)

    def start(self) -> None:
        """Start the watcher in this process, unless it runs; see :meth:`.WaffleConf.start`.

        Here as well, because the hooks of servers have the app alone.

        :raises ConfigurationError: the instance folder can't be made.
        """
        self.serving.start()

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
        manager.refresh(complete=complete, may_apply=self._requests.may_apply)
        self._requests.renew()
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
        is_reached = self.engine.manager.require(wanted, may_apply=self._requests.may_apply)
        # The request may have begun before its process had what it has now.
        self._requests.renew()
        return is_reached

    @contextlib.contextmanager
    def override(self, values: Mapping[str, object]) -> Iterator[None]:
        """See :meth:`WaffleConf.override`."""
        raws = self.declarations.encode(values)
        typed = {name: self.declarations[name].decode(raw) for name, raw in raws.items()}
        try:
            with self.engine.manager.override(typed):
                self._requests.renew()
                yield
        finally:
            self._requests.renew()

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

    def _make_engine(self) -> Engine:
        options = self.options
        page = Page(self.page_file, may_make=self._may_make)
        parent = self._engines.inherited()
        manager = Manager(
            self.declarations,
            self.store,
            self.notices.host(),
            page,
            # What app.config holds here.
            snapshot=self._seed if parent is None else parent.manager.applied,
            source="defaults" if parent is None else parent.manager.source_after_fork,
            apply=self._apply,
            changed=self._send_changed,
            remote=self.notices.publisher(),
            last_known=self.tasks.last_known,
            make_folder=self._make_folder,
            wait_s=options.store_timeout_s,
            resync_interval_s=options.resync_interval_s,
            poll_interval_s=options.poll_interval_s,
        )
        return Engine(
            manager,
            lambda: self.notices.listener(page),
            poll_interval_s=options.poll_interval_s,
            make_tasks=self.tasks.make,
            started=self._events.started,
        )

    def _make_folder(self) -> None:
        if self._makes_folder:
            make_folder(Path(self.app.instance_path))

    def _introduce(self) -> None:
        """Say in the store that this app uses it; warn of one that shares it by mistake."""
        self.neighbours.enroll()
        # Once for a server, not once for each of its workers.
        if runtime.detect().worker_id <= 1:
            self.neighbours.warn()

    def _apply(self, values: Mapping[str, Any]) -> None:
        self.app.config.update(values)

    def _send_changed(self, changes: list[Change]) -> None:
        # What the first load finds is where this process starts from, not a change.
        if changes and self._loaded:
            send_changed(self.app, changes)


def _current_request() -> Request | None:
    return _REQUEST._get_current_object() if has_request_context() else None
