"""The catalogue of rules: the id, the level, what is wrong, and the fix of each."""

from __future__ import annotations

import msgspec

from .model import Level

_INCLUDE = "`ini = …` with the path that `python -m uwsgi_waffle ini waffle --path` prints"


class Rule(msgspec.Struct, frozen=True):
    """One kind of finding.

    :ivar summary: one line, for lists of all rules.
    :ivar fix: what to write instead.
    """

    id: str
    level: Level
    summary: str
    fix: str


_TABLE: tuple[tuple[str, str, str], ...] = (
    (
        "E001",
        "Threads are off: the watcher stands still between requests.",
        f"Set `enable-threads = true`, or include the snippet: {_INCLUDE}.",
    ),
    (
        "E002",
        "An option the promises rest on is written with an underscore: uWSGI ignores it silently.",
        "Write the name with dashes.",
    ),
    (
        "E003",
        "No master: no one restarts a worker that died, and a stop can leave workers behind.",
        "Set `master = true`.",
    ),
    (
        "E004",
        "`py-call-osafterfork` aborts every worker on Python 3.13 and later.",
        "Remove it; if fork hooks are needed, `py-call-uwsgi-fork-hooks = true` is the other way.",
    ),
    (
        "E005",
        "pyuwsgi as an emperor in a virtual environment: no vassal starts.",
        "Set `emperor-wrapper = <venv>/bin/uwsgi`.",
    ),
    (
        "E006",
        "Several interpreters on Python 3.13 or later: each stop and reload aborts the worker.",
        "Set `single-interpreter = true`.",
    ),
    (
        "W001",
        "`lazy-apps` is missing: the app is loaded before the fork, and its state is copied.",
        f"Set `lazy-apps = true`, or include the snippet: {_INCLUDE}.",
    ),
    (
        "W002",
        "`lazy-apps` is switched off: the app is loaded before the fork, and its state is copied.",
        "Set `lazy-apps = true`, or remove the line that switches it off.",
    ),
    (
        "W003",
        "`lazy` is the deprecated way to load the app in each worker.",
        "Write `lazy-apps = true` instead.",
    ),
    (
        "W004",
        "`need-app` is not on: a worker whose app can't be loaded answers 500 until a restart.",
        "Set `need-app = true`.",
    ),
    (
        "W005",
        "Several apps without `single-interpreter`: each has its own watcher and its own copy.",
        "Set `single-interpreter = true`.",
    ),
    (
        "W006",
        "pyuwsgi in a virtual environment: a reload ends the server.",
        "Set `binary-path = <venv>/bin/python`, which `python -m uwsgi_waffle init` writes. In an "
        "emperor's file this needs `emperor-wrapper` too, or no vassal starts.",
    ),
    (
        "W007",
        "An explicit value has no effect: a file named by `inherit` is applied last and wins.",
        "Include that file by `ini = …` above your own line, or remove the line.",
    ),
    (
        "W008",
        "`gevent-monkey-patch` patches after the app was loaded, when its thread is a native one.",
        "Use `gevent-early-monkey-patch = true` instead.",
    ),
    (
        "W009",
        "gevent without a patch: what waits for the store or for Redis stops the whole worker.",
        "Set `gevent-early-monkey-patch = true`; leave it if the app's first lines patch.",
    ),
    (
        "W010",
        "An option is written with an underscore: uWSGI ignores it silently.",
        "Write the name with dashes.",
    ),
    (
        "W011",
        "An unknown name resembles an option the promises rest on: uWSGI ignores it silently.",
        "Correct the name; a name that is used as a placeholder is never reported.",
    ),
    (
        "W012",
        "An option is set to two different values: the last one wins.",
        "Remove one of them.",
    ),
    (
        "W013",
        "`enable-threads = false` is ignored since uWSGI 2.0.27, and stops the watcher before.",
        "Remove the line.",
    ),
    (
        "W014",
        "uWSGI switches between requests within one thread, and Flask can't distinguish them.",
        "Remove `async` and `ugreen`: use `threads`, or `gevent` with its snippet.",
    ),
)

#: Every rule, in the order of its id.
RULES: tuple[Rule, ...] = tuple(
    Rule(id_, "error" if id_.startswith("E") else "warning", summary, fix)
    for id_, summary, fix in _TABLE
)
