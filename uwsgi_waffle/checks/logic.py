"""uWSGI's option logic: ``if-env``, ``for`` and their kin.

Source: uwsgi_logic_opt_* in uWSGI 2.0.31, core/config.c.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from .model import CheckError

_MAX_TIMES = 10_000
_MAX_WILDCARDS = 3

_ALIASES = {
    "ifenv": "if-env",
    "ifexists": "if-exists",
    "ifplugin": "if-plugin",
    "ifdir": "if-dir",
    "if-directory": "if-dir",
}
_TESTS = ("env", "opt", "reload", "hostname", "hostname-match", "exists", "plugin", "file", "dir")

#: Options that start a block.
KINDS = frozenset(
    {"for", "for-glob", "for-times", "for-readline", *_ALIASES}
    | {f"if-{test}" for test in _TESTS}
    | {f"if-not-{test}" for test in _TESTS}
)


def values(
    kind: str,
    argument: str,
    env: Mapping[str, str],
    option: Callable[[str], str | None],
    lines: Callable[[str], list[str]],
) -> Iterable[str | None]:
    """Return what ``%(_)`` stands for in each round of a block; nothing if it is skipped.

    :param option: returns the value of an option that was set before.
    :param lines: returns the lines of a file.
    :raises CheckError: there are more than 10,000 rounds.
    """
    kind = _ALIASES.get(kind, kind)
    if kind == "for":
        return [word for word in argument.split(" ") if word]
    if kind == "for-glob":
        return _matches(argument)
    if kind == "for-times":
        number = re.match(r"\s*\+?0*([0-9]{0,6})", argument)
        times = int(number[1] or 0) if number else 0
        if times > _MAX_TIMES:
            raise CheckError(f"for-times = {argument}: more than {_MAX_TIMES} rounds")
        return [str(n + 1) for n in range(times)]
    if kind == "for-readline":
        return lines(argument)
    negated = kind.startswith("if-not-")
    test = kind.removeprefix("if-not-" if negated else "if-")
    holds, value = _test(test, argument, env, option)
    return [value] if holds != negated else []


def _matches(pattern: str) -> list[str]:
    """Return the paths that a pattern names, folders with a slash at their end."""
    if len(re.findall(r"[^/]*[*?[][^/]*", pattern)) > _MAX_WILDCARDS:
        raise CheckError(f"for-glob = {pattern}: more than {_MAX_WILDCARDS} parts with wildcards")
    found = list(itertools.islice(glob.iglob(pattern), _MAX_TIMES + 1))
    if len(found) > _MAX_TIMES:
        raise CheckError(f"for-glob = {pattern}: more than {_MAX_TIMES} rounds")
    return sorted(_marked(path) for path in found) or [pattern]


def _marked(path: str) -> str:
    return f"{path}/" if os.path.isdir(path) and not path.endswith("/") else path


def _is_readable(name: str) -> bool:
    return os.access(name, os.R_OK)


def _test(
    test: str, argument: str, env: Mapping[str, str], option: Callable[[str], str | None]
) -> tuple[bool, str | None]:
    if test in {"env", "opt"}:
        name, equals, wanted = argument.partition("=")
        actual = env.get(name) if test == "env" else option(name)
        holds = actual is not None and (not equals or actual == wanted)
        return holds, actual
    if test == "reload":
        return False, ""
    if test == "hostname":
        return socket.gethostname() == argument, argument
    if test == "hostname-match":
        # Python refuses, or warns of, some patterns that the C library takes.
        with suppress(re.error, OverflowError, RecursionError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.search(argument, socket.gethostname()) is not None, argument
        return False, argument
    if test == "plugin":
        # Every server of a Python app has that one, built in or loaded.
        return argument.startswith("python"), argument
    checks = {"exists": _is_readable, "file": os.path.isfile, "dir": os.path.isdir}
    return checks[test](argument), argument
