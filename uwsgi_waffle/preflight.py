"""Checks at the start of an app, and the files it needs, before its store is read."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from . import runtime
from .config import ConfigKeys, Options
from .errors import ConfigurationError, NotifierError, WaffleWarning
from .notifiers.base import Notifier
from .notifiers.file import FileNotifier

# Frames between a warning and the line of the app that calls init_app().
_STACKLEVEL = 6


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
    if where.worker_id == 0 and not where.is_helper:
        problem = (
            "the app is loaded before uWSGI forks its workers, which then share what it "
            "opened: set lazy-apps = true (or include the snippet that "
            "`python -m uwsgi_waffle ini` prints)"
        )
        if options.require_lazy_apps:
            raise ConfigurationError(f"{problem}; {ConfigKeys.REQUIRE_LAZY_APPS} is set")
        warnings.warn(problem, WaffleWarning, stacklevel=_STACKLEVEL)


def make_folder(folder: Path) -> None:
    """Make the instance folder; another that the user named may be misspelt.

    :raises ConfigurationError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
        warnings.warn(
            f"the watch file {path} is not writable for this process, whose changes other "
            "workers will see only at their next resync: make it writable for every worker, "
            f"or name another in {ConfigKeys.WATCHER_FILE}",
            WaffleWarning,
            stacklevel=_STACKLEVEL,
        )


def redis_notifier_maker(options: Options) -> Callable[[], Notifier] | None:
    """Return what makes the Redis notifier of a process, or ``None`` if there is to be none.

    :raises ConfigurationError: the URL is not one of Redis.
    """
    if options.watchtype != "redis" or options.multiproc is False:
        return None
    try:
        from .notifiers.redis import RedisNotifier
    except ImportError:
        warnings.warn(
            "redis-py is not installed, so only this host will learn of changes at once: "
            "pip install 'uwsgi-waffle[redis]', or set WAFFLE_WATCHTYPE = 'file'",
            WaffleWarning,
            stacklevel=_STACKLEVEL,
        )
        return None

    def make() -> Notifier:
        return RedisNotifier(
            options.redis_url, options.redis_channel, timeout_s=options.redis_timeout_s
        )

    # Made once here, so that a bad URL is an error at the start, not in a worker's thread.
    make().close()
    return make
