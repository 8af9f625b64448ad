"""The server that runs this process, or a command; the only module that imports ``uwsgi``."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import Any

import msgspec

# What a server of several processes imports before the app -> its name.
_OTHERS = {
    "gunicorn.arbiter": "gunicorn",
    "granian.server": "granian",
    "celery.apps.worker": "celery",
}
# As uWSGI has it, in both spellings.
_ENV_BEHAVIOUR = ("wsgi-env-behaviour", "wsgi-env-behavior")


class Runtime(msgspec.Struct, frozen=True):
    """Where this code runs.

    :ivar under_uwsgi: inside a uWSGI server.
    :ivar worker_id: 1 and up in a worker, 0 elsewhere (the master, a mule, a spooler).
    :ivar has_threads: threads advance between requests.
    :ivar has_master: there is a master process.
    :ivar is_helper: this is a mule or a spooler.
    :ivar gevent: requests are greenlets.
    :ivar clears_environ: the WSGI environment of a request is emptied at its end.
    :ivar workers: how many workers the server has at most; 0 if it does not say.
    :ivar other: the name of another server of several processes; empty if none is known.
    """

    under_uwsgi: bool = False
    worker_id: int = 0
    has_threads: bool = True
    has_master: bool = False
    is_helper: bool = False
    gevent: bool = False
    clears_environ: bool = False
    workers: int = 0
    other: str = ""

    @property
    def has_processes(self) -> bool:
        """Whether a server of several processes is known to run here."""
        return self.under_uwsgi or bool(self.other)

    @property
    def may_be_forked(self) -> bool:
        """Whether uWSGI forks this process later, or makes it a worker, and says nothing to Python.

        Source: uWSGI 2.0.30, measured: of 28 servers in whose master a thread of Python ran
        meanwhile, the workers of 7 waited for the interpreter's lock without an end.
        """
        return self.under_uwsgi and not self.worker_id and not self.is_helper

    @property
    def is_in_worker(self) -> bool:
        """Whether this process is surely a worker that forks no more.

        Source: granian 2.8, measured: its main process does not load the app.
        """
        return self.worker_id > 0 or self.other == "granian"


def detect() -> Runtime:
    """Return where this code runs, asked of the server itself.

    ``worker_id`` at import shows lazy-apps: it is 0 while the master loads an app that will be
    forked, and positive when a worker loads it. ``uwsgi.opt`` can't show it, because an option that
    is on by default is absent from it.

    Source: uWSGI 2.0.21 to 2.0.31, measured; threads are on by default since 2.0.27
    (commit 1caea16d), and ``uwsgi.has_threads`` is right on all of them. One environment serves
    all requests of a core and is cleared after each, also if the app failed or the client went
    away, unless ``wsgi-env-behaviour`` is ``holy``: then each request gets its own, which lives
    until the next one.
    """
    uwsgi = _module()
    if uwsgi is None:
        # Source: gunicorn 27.0, granian 2.8 and Celery 5.7: seen in their workers' sys.modules.
        return Runtime(other=next((_OTHERS[name] for name in _OTHERS if name in sys.modules), ""))
    return Runtime(
        under_uwsgi=True,
        worker_id=uwsgi.worker_id(),
        has_threads=bool(getattr(uwsgi, "has_threads", 0)),
        has_master=uwsgi.masterpid() > 0,
        is_helper=uwsgi.mule_id() > 0 or bool(getattr(uwsgi, "i_am_the_spooler", bool)()),
        gevent=getattr(uwsgi, "loop", None) == b"gevent",
        clears_environ=b"holy" not in map(getattr(uwsgi, "opt", {}).get, _ENV_BEHAVIOUR),
        workers=getattr(uwsgi, "numproc", 0),
    )


def in_flask_command() -> bool:
    """Return whether a command of ``flask`` runs here, which may only read.

    That a request or a change comes later, as under ``flask run``, is not known yet.

    Source: Flask 2.3 to 3.1, ``FlaskGroup.make_context``: the outermost context of click holds a
    ``ScriptInfo``. Click is not imported for this.
    """
    click = sys.modules.get("click")
    context = None if click is None else click.get_current_context(silent=True)
    found = None if context is None else context.find_root().obj
    return any(kind.__module__ == "flask.cli" for kind in type(found).__mro__)


def on_postfork(function: Callable[[], None]) -> None:
    """Let uWSGI call a function in every process that it forks from this one.

    Goes through ``uwsgidecorators.postfork`` where that works, and else through
    ``uwsgi.post_fork_hook``; a hook that was set before is still called.

    Source: uWSGI 2.0.21 to 2.0.31, measured: ``uwsgidecorators`` overwrites a hook that was set
    before it is imported, raises a plain ``Exception`` without a master, and is missing from
    Debian's plugin package.
    """
    uwsgi = _module()
    if uwsgi is None:
        raise RuntimeError("there is no uWSGI in this process")
    earlier = getattr(uwsgi, "post_fork_hook", None)
    try:
        import uwsgidecorators
    except Exception:  # a plain Exception is what it raises without a master
        uwsgidecorators = None
    chain = getattr(uwsgidecorators, "postfork_chain_hook", None)
    # Imported earlier and hidden by another hook since, its chain may run never, or within that.
    if chain is None or uwsgi.post_fork_hook != chain:
        uwsgi.post_fork_hook = _chained(earlier, function)
        return
    if earlier is not None and earlier != chain:
        uwsgidecorators.postfork(earlier)
    uwsgidecorators.postfork(function)


def at_exit(function: Callable[[], object]) -> None:
    """Have a function called when this process ends by itself.

    Source: granian 2.8 forks its workers by :mod:`multiprocessing`. CPython 3.10 to 3.13,
    ``BaseProcess._bootstrap``: such a child calls the finalizers of that, and none of ``atexit``.
    Celery 5.7, ``process_destructor``: one of its pool calls neither, but sends a signal.
    """
    parent = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    if parent is None or parent() is None:
        atexit.register(function)
    else:
        from multiprocessing.util import Finalize

        Finalize(None, function, exitpriority=0)
    if (celery := sys.modules.get("celery.signals")) is not None:
        celery.worker_process_shutdown.connect(lambda **_: function(), weak=False)


def new_threads_may_call() -> bool:
    """Return whether a thread that starts now may call those functions that release the GIL.

    A native thread of a gevent worker may not; once gevent has patched ``threading``, a new
    thread is a greenlet of the main one, and may.

    Source: uWSGI 2.0.30 with gevent 26.9, measured: ``metric_set`` in a native thread ends the
    worker with SIGSEGV, because gil_gevent_release (plugins/gevent/gevent.c) releases a state
    that only the loop's own thread has taken.
    """
    if not detect().gevent:
        return True
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def set_metric(name: str, value: int) -> None:
    """Set a metric of uWSGI's, if the server's ini declares it; else nothing happens.

    Costs about 300 ns. Only for threads that :func:`new_threads_may_call` allows.

    Source: uWSGI 2.0.21 and 2.0.30, measured: ``metric_set`` of a name that no ``metric =`` line
    declares returns ``None`` and raises nothing.
    """
    uwsgi = _module()
    # Missing from a uWSGI that was built without metrics.
    setter = getattr(uwsgi, "metric_set", None)
    if setter is not None:
        setter(name, value)


def _chained(first: Callable[[], object] | None, second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        if first is not None:
            first()
        second()

    return both


def _module() -> Any | None:
    try:
        import uwsgi
    except ImportError:
        return None
    # Some package of that name may lie on the path of an ordinary Python.
    return uwsgi if hasattr(uwsgi, "worker_id") else None
