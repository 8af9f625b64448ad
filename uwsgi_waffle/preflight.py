"""Checks at the start of an app, and the files it needs, before its store is read."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import runtime
from .config import ConfigKeys, Options
from .errors import ConfigurationError, NotifierError, warn_app
from .forking import undivided
from .notifiers.base import Notifier
from .notifiers.file import FileNotifier
from .stores.base import Channel, Store

# The link that many deploy tools point at the release that runs.
_CURRENT = "current"
# As 20261125, 20261125101500, 2026-11-25_10-15-00, 20261125T101500Z
_TIME = re.compile(r"20\d\d[-_.]?[01]\d[-_.]?[0-3]\d([-_.T]?\d\d[-_.:]?\d\d([-_.:]?\d\d)?Z?)?")
#: of the instance folder, whatever the umask takes away more
FOLDER_MODE = 0o775


def check_runtime(where: runtime.Runtime, options: Options, *, watched: bool) -> None:
    """Check that uWSGI is set up for what the app wants.

    :param watched: a watcher thread is wanted.
    :raises ConfigurationError: it runs without threads, or loads the app before it forks though
        ``WAFFLE_REQUIRE_LAZY_APPS`` is set.
    """
    if not where.under_uwsgi:
        return
    if watched and not where.has_threads:
        raise ConfigurationError(
            "uWSGI runs without threads, so the watcher could not advance between requests: "
            "set enable-threads = true (or include the snippet that "
            "`python -m uwsgi_waffle ini` prints), or set WAFFLE_MULTIPROC = False to do "
            "without a watcher"
        )
    if where.may_be_forked:
        problem = (
            "the app is loaded before uWSGI forks its workers, which then share what it "
            "opened: set lazy-apps = true (or include the snippet that "
            "`python -m uwsgi_waffle ini` prints)"
        )
        if options.require_lazy_apps:
            raise ConfigurationError(f"{problem}; {ConfigKeys.REQUIRE_LAZY_APPS} is set")
        warn_app(problem)


def make_folder(folder: Path) -> None:
    """Make the instance folder; another that the user named may be misspelt.

    :raises ConfigurationError: it can't be made.
    """
    try:
        for missing in reversed([folder, *folder.parents]):
            # Its own mode, because a daemon of uWSGI's has no umask.
            missing.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as exc:
        raise _no_folder(folder, exc.strerror) from exc


def check_folder(folder: Path) -> None:
    """Check that the instance folder is there or can be made; makes nothing.

    :raises ConfigurationError: it can't be made.
    """
    if folder.is_dir():
        return
    above = next(parent for parent in folder.parents if os.path.lexists(parent))
    if folder.exists() or not above.is_dir():
        raise _no_folder(folder, os.strerror(errno.ENOTDIR))
    if not os.access(above, os.W_OK | os.X_OK):
        raise _no_folder(folder, os.strerror(errno.EACCES))


def _no_folder(folder: Path, reason: str | None) -> ConfigurationError:
    return ConfigurationError(
        f"the instance folder {folder} can't be made ({reason}): make it writable, or "
        f"name other places in {ConfigKeys.STORE_URL} and {ConfigKeys.WATCHER_FILE}"
    )


def warn_of_open_files(paths: Iterable[Path]) -> None:
    """Warn if every user of this machine may write to one of these files or folders."""
    found = [
        f"{path} ({stat.filemode(status.st_mode)})"
        for path in dict.fromkeys(paths)
        if (status := _status(path)) is not None and status.st_mode & stat.S_IWOTH
    ]
    if found:
        warn_app(
            "any user of this machine may change the app's settings, or put other files in the "
            f"place of its own: {', '.join(found)}: take the right from others (chmod o-w), or "
            "move them into a folder of the app's own",
        )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def check_watch_file(path: Path, *, make: bool, folder: Path) -> None:
    """Check that the watch file can be used; warn if this process may not write to it.

    :param make: make it unless it is there.
    :param folder: the instance folder, which may be made later.
    :raises ConfigurationError: its folder is missing, or it is no regular file.
    """
    if not path.parent.is_dir() and path.parent != folder:
        raise ConfigurationError(
            f"the folder {path.parent} of the watch file does not exist: "
            f"create it, or name another file in {ConfigKeys.WATCHER_FILE}"
        )
    if make or os.path.lexists(path):
        try:
            FileNotifier(path).ensure()
        except NotifierError as exc:
            raise ConfigurationError(str(exc)) from exc
    if os.path.lexists(path) and not os.access(path, os.W_OK):
        warn_app(
            f"the watch file {path} is not writable for this process, whose changes other "
            "workers will see only at their next resync: make it writable for every worker, "
            f"or name another in {ConfigKeys.WATCHER_FILE}",
        )


def release_of(folder: Path) -> Path | None:
    """Return the folder of the release that a folder lies in, or ``None`` if it lies in none.

    It is one below ``releases``, one that is named by a time, or the one that a link named
    ``current`` beside it, or beside its parent, leads to. Links are followed, so that a folder that
    all releases link to is no part of any of them.
    """
    folder = Path(folder).resolve()
    for release in (folder, *folder.parents[:-1]):
        above = release.parent
        if above.name == "releases" or _TIME.fullmatch(release.name):
            return release
        for place in (above, above.parent):
            link = place / _CURRENT
            if link.is_symlink() and link.resolve() == release:
                return release
    return None


def check_release(path: Path | None) -> None:
    """Warn if a file of settings lies in a folder that the next deploy replaces.

    :param path: the database, or ``None`` if the settings are in no file.
    """
    release = None if path is None else release_of(path.parent)
    if release is not None:
        warn_app(
            f"the settings are in {path}, and {release} looks like one release among many: the "
            "next deploy would begin with the defaults, and while both run each would have "
            f"settings of its own. Name a place outside of it in {ConfigKeys.STORE_URL}, such as "
            "sqlite:////var/lib/shop/waffle.db, or give the app such an instance_path",
        )


def channel_notifier_maker(options: Options, store: Store) -> Callable[[], Notifier] | None:
    """Return what makes the notifier between hosts of a process, or ``None`` if there is none.

    The store gets to know its channel, so that each change announces itself if the store can do it.

    :raises ConfigurationError: the notices can't come by what ``WAFFLE_WATCHTYPE`` names.
    """
    if options.multiproc is False or options.watchtype == "file":
        return None
    if options.watchtype == "postgresql":
        return _postgresql_notifier_maker(options, store)
    return _redis_notifier_maker(options, store)


def _redis_notifier_maker(options: Options, store: Store) -> Callable[[], Notifier] | None:
    if importlib.util.find_spec("redis") is None:
        warn_app(
            "redis-py is not installed, so only this host will learn of changes at once: "
            "pip install 'uwsgi-waffle[redis]', or set WAFFLE_WATCHTYPE = 'file'",
        )
        return None

    def make() -> Notifier:
        # Only by the process that hears for its host, and by those that make a change. A child
        # would wait for a module that another thread was importing, without an end.
        with undivided:
            from .notifiers.redis import RedisNotifier

            return RedisNotifier(
                options.redis_url, options.redis_channel, timeout_s=options.redis_timeout_s
            )

    from .redis_servers.urls import check_redis_url

    # So that a bad URL is an error at the start, not in a worker's thread.
    check_redis_url(options.redis_url)
    if runtime.detect().gevent or "gevent" in sys.modules:
        # gevent's late patching breaks a thread that imports redis meanwhile.
        make().close()
    store.announce_on(Channel("redis", options.redis_channel, options.redis_url))
    return make


def _postgresql_notifier_maker(options: Options, store: Store) -> Callable[[], Notifier]:
    from .notifiers.postgresql import PostgresqlNotifier
    from .stores.sql.changes import SqlStore
    from .stores.sql.listening import ServerUrl, channel_of

    if not isinstance(store, SqlStore) or store.dialect not in ("", "postgresql"):
        raise ConfigurationError(
            f"{ConfigKeys.WATCHTYPE} is 'postgresql', but {store!r} is none: name a PostgreSQL in "
            f"{ConfigKeys.STORE_URL}, or set {ConfigKeys.WATCHTYPE} = 'redis' for several hosts, "
            "'file' for one"
        )
    channel = options.postgresql_channel or channel_of(store.prefix)
    url = ServerUrl(options.postgresql_url) if options.postgresql_url else None
    store.announce_on(Channel("postgresql", channel))

    def make() -> Notifier:
        return PostgresqlNotifier(
            store.listen if url is None else (lambda: url.connect(options.store_timeout_s)),
            store.notify,
            channel,
            shown=repr(store) if url is None else url.shown,
            is_store=url is None,
            timeout_s=options.store_timeout_s,
        )

    return make
