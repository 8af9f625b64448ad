"""The settings of one app, in every process that serves it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flask import (
    Flask,
    current_app,
    has_app_context,
    has_request_context,
    request,
)

from . import runtime
from .config import DEFAULT_STORE_URL, ConfigKeys, Options
from .errors import ConfigurationError, NotifierError, StoreError, WaffleWarning
from .forking import PerProcess
from .masking import redact
from .notifiers.base import Notifier
from .notifiers.file import FileNotifier
from .process.engine import Engine
from .process.gate import Gate
from .process.lease import Ticket
from .process.manager import Manager
from .process.watcher import WATCHER, Chore
from .reporting.tasks import Chores
from .settings.declare import declare
from .signals import setting_changed
from .snapshot import Change, Snapshot, initial_snapshot
from .stores import Dump, Store, store_from_url

logger = logging.getLogger("uwsgi_waffle")

EXTENSION_NAME = "waffleconf"


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
        self.declarations = declare(app.config.get(ConfigKeys.CONFS, {}))
        where = runtime.detect()
        # Under another server nobody says how many processes there are: the user must.
        self._wanted = where.under_uwsgi if options.multiproc is None else options.multiproc
        self._check_runtime(where)
        in_folder = configstore is None and options.store_url == DEFAULT_STORE_URL
        if in_folder or folder == options.watcher_file.parent:
            _make_folder(folder)
        self._check_watch_file()
        timeouts = {
            "timeout_s": options.store_timeout_s,
            "write_timeout_s": options.write_timeout_s,
        }
        if configstore is None:
            self.store = store_from_url(options.store_url, folder=folder, **timeouts)
        else:
            self.store = configstore.for_app(app, **timeouts)
        # A store that the user made may have an address in its repr.
        made = type(configstore).__qualname__
        self.chores = Chores(
            app.name,
            options,
            self.declarations,
            self.store,
            store_name=redact(options.store_url) if configstore is None else made,
        )
        self._make_redis_notifier = _redis_notifier_maker(options)
        self._key = f"uwsgi_waffle.{id(self)}"
        self._gate = Gate(app.wsgi_app, self._look, self._key, clears_environ=where.clears_environ)
        self._seed = initial_snapshot(self.declarations)
        self._loaded = False
        self._engines = PerProcess(self._make_engine)

    @property
    def engine(self) -> Engine:
        """What runs for this app in this process."""
        return self._engines.get()

    @property
    def snapshot(self) -> Snapshot:
        """The request's own snapshot; outside of a request, the newest there is."""
        if not has_request_context():
            engine = self.engine
            # In a shell, a script or a mule nobody else may look whether there is news.
            return engine.manager.snapshot if engine.watching else engine.manager.begin_request()
        ticket: Ticket | None = request.environ.get(self._key)
        # A context that no server made has none.
        return self._pin() if ticket is None else ticket.snapshot

    def load(self) -> None:
        """Read the store for the first time and put the values into ``app.config``.

        A store that can't be read is logged; what this host kept from the last good read is
        served, or else the defaults, and the next request, or the watcher, tries again.
        """
        manager = self.engine.manager
        self._apply(self._seed)
        with contextlib.suppress(StoreError):
            manager.refresh()
        self._loaded = True
        # A master that loads the app forks next: its workers begin with what it read.
        self._seed = manager.snapshot

    def attach(self) -> None:
        """Put the request-start check into the app, and launch the watcher where it belongs."""
        # Assigned to the instance, as the Flask documentation has it for middleware.
        self.app.wsgi_app = self._gate.wsgi_app  # type: ignore[method-assign,assignment]
        where = runtime.detect()
        if where.worker_id > 0:
            if self._wanted:
                self._launch(self.engine)
            return
        # Whatever was opened to load the settings must not be carried across a fork.
        self.store.close()
        if where.under_uwsgi and self._wanted and not where.is_helper:
            runtime.on_postfork(self._start_in_worker)

    def add_chore(self, make: Callable[[Manager], Chore]) -> None:
        """Have the watchers of this app do one chore more, the one that runs here included."""
        self.chores.add(make)
        engine = self._engines.peek()
        if engine is not None:
            engine.add_chore(make)

    def update(
        self,
        values: Mapping[str, object],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """See :meth:`WaffleConf.update`."""
        raws = self.declarations.encode(values)
        return self.commit(raws, author=author, reason=reason, expected_revision=expected_revision)

    def reset(
        self,
        names: Iterable[str],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """See :meth:`WaffleConf.reset`."""
        if isinstance(names, str):
            names = [names]
        wanted = dict.fromkeys(names)
        self.declarations.require(wanted)
        return self.commit(
            wanted, author=author, reason=reason, expected_revision=expected_revision
        )

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
        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises StoreError: the store failed; nothing was written.
        """
        engine = self.engine
        manager = engine.manager
        if not raws:
            return manager.snapshot.revision
        revision = manager.update(
            raws, author=author, reason=reason, expected_revision=expected_revision
        )
        if not engine.watching:
            self.chores.changed(manager)
        self._renew()
        return revision

    def replace(self, dump: Dump, *, expected_revision: int | None) -> None:
        """Replace settings, revision and history in the store; every process serves them then.

        :raises RevisionConflict: the store is at another revision; nothing was written.
        :raises OutcomeUnknown: the connection broke within the commit.
        :raises StoreError: the store refuses, or can't do this; nothing was written.
        """
        engine = self.engine
        engine.manager.replace(dump, expected_revision=expected_revision)
        if not engine.watching:
            self.chores.changed(engine.manager)
        self._renew()

    def refresh(self) -> Snapshot:
        """Read the store now and apply what is new; return the newest snapshot.

        :raises StoreError: the store can't be read; the last good settings stay.
        """
        manager = self.engine.manager
        manager.refresh()
        return manager.snapshot

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
        here = has_request_context()
        snapshot = self.snapshot if here else self.engine.manager.begin_request()
        return {name: snapshot[name] for name in wanted or snapshot}

    def update_db(self, new_values: Mapping[str, object]) -> None:
        """Change settings, as :meth:`WaffleConf.update` does. Kept from Flask-WaffleConf.

        :raises UnknownSettingError: a key is not declared; nothing was written.
        :raises InvalidValueError: a value does not fit; nothing was written.
        """
        self.update(new_values)

    def update_conf(self) -> None:
        """Read the whole store now and put the values into ``app.config``.

        Kept from Flask-WaffleConf. Blocks for at most the store's timeout.

        :raises StoreError: the store can't be read; the last good values stay.
        """
        self.engine.manager.refresh(complete=True)
        self._renew()

    def _pin(self) -> Snapshot:
        """Have this request see the newest settings from here on."""
        manager = self.engine.manager
        ticket = request.environ[self._key] = manager.lease.issue()
        ticket.snapshot = manager.snapshot
        return ticket.snapshot

    def _renew(self) -> None:
        # A request that makes a change itself reads what it wrote.
        if has_request_context():
            self._pin()

    def _look(self, environ: dict[str, Any]) -> None:
        # All that a request may have to see to at its start: with a lease it can wait for a few
        # milliseconds. A child that is forked meanwhile serves what its parent knew, as fresh.
        engine = self._engines.get()
        manager = engine.manager
        # Its watcher says so itself, which is ten times cheaper than to ask whether it is alive.
        if self._wanted and not (manager.watched or engine.watching or engine.stopped):
            self._launch(engine)
        self._gate.lease = manager.lease
        manager.admit(environ, self._key)

    def _launch(self, engine: Engine) -> None:
        try:
            engine.start()
        except Exception as exc:
            # No thread to be had: the look at the watch file serves the requests.
            engine.manager.health.failed(WATCHER, exc)

    def _start_in_worker(self) -> None:
        # uWSGI calls this in mules and spoolers too, where only an explicit start() counts.
        if runtime.detect().worker_id > 0:
            with contextlib.suppress(StoreError):
                self.engine.manager.refresh()
            self._launch(self.engine)

    def _make_engine(self) -> Engine:
        options = self.options
        watch_file = self._make_file_notifier()
        manager = Manager(
            self.declarations,
            self.store,
            watch_file,
            snapshot=self._seed,
            apply=self._apply,
            changed=self._send_changed,
            remote=self._make_redis_notifier and self._make_redis_notifier(),
            last_known=self.chores.last_known,
            may_carry=self._may_carry,
            wait_s=options.store_timeout_s,
            resync_interval_s=options.resync_interval_s,
        )
        return Engine(
            manager,
            self._make_redis_notifier or self._make_file_notifier,
            poll_interval_s=options.poll_interval_s,
            make_chores=self.chores.make,
        )

    def _make_file_notifier(self) -> FileNotifier:
        return FileNotifier(self.options.watcher_file, poll_interval_s=self.options.poll_interval_s)

    def _may_carry(self, names: Iterable[str]) -> bool:
        if not self.options.redis_rows:
            return False
        return self.options.redis_secrets or not any(self.declarations[n].secret for n in names)

    def _apply(self, values: Mapping[str, Any]) -> None:
        self.app.config.update(values)

    def _send_changed(self, changes: list[Change]) -> None:
        # What the first load finds is where this process starts from, not a change.
        if not changes or not self._loaded:
            return
        # The context that is there may be that of another app, which changes this one.
        within = has_app_context() and current_app == self.app
        try:
            with contextlib.nullcontext() if within else self.app.app_context():
                for change in changes:
                    self._send(change)
        except Exception:
            logger.exception("the app's own context failed around setting_changed")

    def _send(self, change: Change) -> None:
        for receiver in setting_changed.receivers_for(self.app):
            try:
                receiver(
                    self.app,
                    name=change.name,
                    old=change.old,
                    new=change.new,
                    revision=change.revision,
                )
            except Exception:
                logger.exception("a receiver of setting_changed failed on %s", change.name)

    def _check_runtime(self, where: runtime.Runtime) -> None:
        if not where.under_uwsgi:
            return
        if self._wanted and not where.has_threads:
            raise ConfigurationError(
                "uWSGI runs without threads, so the watcher could not advance between requests: "
                "set enable-threads = true (or include the snippet that "
                "`python -m uwsgi_waffle ini` prints), or set WAFFLE_MULTIPROC = False to do "
                "without a watcher"
            )
        if where.worker_id == 0 and not where.is_helper:
            problem = (
                "the app is loaded before uWSGI forks its workers, which then share what it "
                "opened: set lazy-apps = true (or include the snippet that "
                "`python -m uwsgi_waffle ini` prints)"
            )
            if self.options.require_lazy_apps:
                raise ConfigurationError(f"{problem}; {ConfigKeys.REQUIRE_LAZY_APPS} is set")
            warnings.warn(problem, WaffleWarning, stacklevel=5)

    def _check_watch_file(self) -> None:
        path = self.options.watcher_file
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"the folder {path.parent} of the watch file does not exist: "
                f"create it, or name another file in {ConfigKeys.WATCHER_FILE}"
            )
        try:
            FileNotifier(path).ensure()
        except NotifierError as exc:
            raise ConfigurationError(str(exc)) from exc
        if not os.access(path, os.W_OK):
            warnings.warn(
                f"the watch file {path} is not writable for this process, whose changes other "
                "workers will see only at their next resync: make it writable for every worker, "
                f"or name another in {ConfigKeys.WATCHER_FILE}",
                WaffleWarning,
                stacklevel=5,
            )


def _make_folder(folder: Path) -> None:
    # Only the instance folder is made: a folder that the user named may be misspelt.
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"the instance folder {folder} can't be made ({exc.strerror}): make it writable, or "
            f"name other places in {ConfigKeys.STORE_URL} and {ConfigKeys.WATCHER_FILE}"
        ) from exc


def _redis_notifier_maker(options: Options) -> Callable[[], Notifier] | None:
    if options.watchtype != "redis" or options.multiproc is False:
        return None
    try:
        from .notifiers.redis import RedisNotifier
    except ImportError:
        warnings.warn(
            "redis-py is not installed, so only this host will learn of changes at once: "
            "pip install 'uwsgi-waffle[redis]', or set WAFFLE_WATCHTYPE = 'file'",
            WaffleWarning,
            stacklevel=6,
        )
        return None

    def make() -> Notifier:
        return RedisNotifier(
            options.redis_url, options.redis_channel, timeout_s=options.redis_timeout_s
        )

    # Made once here, so that a bad URL is an error at the start, not in a worker's thread.
    make().close()
    return make
