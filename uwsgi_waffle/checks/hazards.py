"""Which options make uWSGI's parser do more than read a file.

Asked only to parse, uWSGI still runs ``exec://``, loads plugins and sends signals,
because it acts on some options the moment it meets them.

Source: the options with UWSGI_OPT_IMMEDIATE and uwsgi_setup_schemes in uWSGI 2.0.31.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from .model import Hazard
from .vocabulary import LAST_WINS, is_true

_SCHEME = re.compile(r"[A-Za-z]+://")
_INCLUDES = frozenset({"ini", "include", "inherit"})
_PLUGINS = frozenset({"autoload", "dlopen", "need-plugin", "need-plugins", "plugin", "plugins"})

# They bring in options that only uWSGI itself knows.
_OPAQUE_NAMES = """
    config declare-option declare-option2 early-envdir ini-paste ini-paste-logged
    inject-after inject-before js json ldap sqlite sqlite3 xml xmlconfig yaml yml zeus
"""
_OPAQUE = frozenset(_OPAQUE_NAMES.split())

# They act at once: start another server, signal, lock, connect, make a folder, print or stop.
_ACTS_NAMES = """
    binary-append-data build-plugin cflags config-py connect-and-read dot-h exit extract
    fallback-config flock flock-wait help immediate-gid immediate-uid iprint ldap-schema
    ldap-schema-ldif pause perl-version print-sym print-symbol pypy-ini-paste python-version
    reload resolve resume signal spooler spooler-external stop suspend usage version
"""
_ACTS = frozenset(_ACTS_NAMES.split())

# Their outcome is uWSGI's own business: another answer here would hide what follows.
_UNCERTAIN = frozenset(
    {
        "for-readline",
        "if-hostname-match",
        "if-not-hostname-match",
        "if-not-plugin",
        "if-plugin",
        "ifplugin",
    }
)

_PIDFILES = frozenset({"pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2"})


class _Line(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...


def is_scheme(value: str) -> bool:
    """Return whether uWSGI would open the value by a scheme, not as a file."""
    return value == "-" or _SCHEME.match(value) is not None


def of(key: str, value: str, file: str, line: int) -> list[Hazard]:
    """Return what is hazardous about one option."""
    text = f"{key} = {value}"
    if key == "declare-option" and "=" not in value.partition("=")[2]:
        # As in Debian's default.ini: the option is a name for placeholders, and sets nothing.
        return []
    if key in _PLUGINS:
        return [Hazard("plugins", text, file, line)]
    if key in _OPAQUE or (key in _INCLUDES and is_scheme(value)):
        return [Hazard("exec", text, file, line, opaque=True)]
    if key in _ACTS or key in _UNCERTAIN:
        return [Hazard("exec", text, file, line)]
    if key == "for-glob" and re.search(r"[\[\\]", value):
        # The C library and Python disagree about these patterns.
        return [Hazard("exec", text, file, line)]
    return of_value(key, value, file, line)


def of_value(key: str, value: str, file: str, line: int) -> list[Hazard]:
    """Return what is hazardous about the ``@(…)`` of a value: a command, or who knows what."""
    for match in re.finditer(r"@\((.*)", value):
        if _SCHEME.search(match[1]) or re.search(r"[$%@]\(", match[1]) or match[1][:1] == "-":
            return [Hazard("exec", f"{key} = {value}", file, line, opaque=key in LAST_WINS)]
    return []


def at_exit(options: Iterable[_Line]) -> tuple[Hazard, ...]:
    """Return the options which could delete files of a running server if uWSGI fails to parse.

    A parser that succeeds is left by ``_exit``. One that fails runs ``vacuum`` and the
    atexit hooks on its way out, and the pidfile may belong to the live server.

    Source: measured on uWSGI 2.0.21, 2.0.30 and 2.0.31; vacuum() in core/uwsgi.c.
    """
    options = list(options)
    vacuum = [o for o in options if o.key == "vacuum" and is_true(o.value)]
    files = [o for o in options if o.key in _PIDFILES or o.key in {"stats", "stats-server"}]
    hooks = [o for o in options if o.key.endswith("-as-user-atexit")]
    risky = hooks + (vacuum if files else [])
    return tuple(Hazard("exec", f"{o.key} = {o.value}", o.file, o.line) for o in risky)
