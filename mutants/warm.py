"""Runs tests in forks of a process that has imported what they need, but for the package.

To import it all takes longer than most mutants live.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

_OTHERS = (
    *("pytest", "hypothesis.stateful", "flask.testing", "flask_wtf.csrf", "msgspec", "psutil"),
    *("sqlalchemy.orm", "flask_sqlalchemy", "peewee", "redis.cluster", "redis.sentinel"),
)
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(_OTHERS))


def passes(tree: Path, tests: list[str], limit_s: float, longest_s: float) -> bool | None:
    """Return whether tests pass in a copy of the repository, or ``None`` if that takes too long.

    What they have started is ended with them.

    :param limit_s: for all of them.
    :param longest_s: for a single one.
    """
    process = _CONTEXT.Process(target=_run, args=(tree, tests, longest_s))
    process.start()
    process.join(limit_s)
    in_time = process.exitcode is not None
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    if not in_time or b"from pytest-timeout" in _output(tree).read_bytes():
        return None
    return process.exitcode == 0


def _run(tree: Path, tests: list[str], longest_s: float) -> None:
    os.setsid()
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    # The copy has all compiled modules but the one that is changed, which the next mutant replaces.
    sys.dont_write_bytecode = True
    os.environ["WAFFLE_FUZZ"] = "unshrunk"
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(_output(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    options = ["-qx", "-p", "no:cacheprovider", f"--timeout={longest_s}"]
    # Of plugins that were imported before pytest began.
    options += ["-W", "ignore:Module already imported"]
    code = pytest.main([*options, *tests], plugins=[_OneLimit()])
    sys.stdout.flush()
    # Threads that a mutant left behind are not waited for.
    os._exit(code)


class _OneLimit:
    """A plugin of pytest: tests lose their own limits, which are minutes for some."""

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        for item in session.items:
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "timeout"]


def _output(tree: Path) -> Path:
    return tree / "output.txt"
