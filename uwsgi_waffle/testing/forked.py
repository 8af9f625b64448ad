"""Forked processes that run a function each, for tests of what processes share."""

from __future__ import annotations

import ast
import contextlib
import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

#: longest time that the processes of one test may take, in seconds
LIMIT_S = 40.0


def in_processes(count: int, run: Callable[[int], Any]) -> list[Any]:
    """Run a function in so many forked processes at once; return what each returned.

    :param run: called with the process's number, from 0. Its result must be a Python literal.
    :raises AssertionError: a process raised, died or took more than :data:`LIMIT_S`.
    """
    with children(count, run) as running:
        return results(running)


@contextlib.contextmanager
def children(count: int, run: Callable[[int], Any]) -> Iterator[list[tuple[int, int]]]:
    """Start forked processes that run a function; give the pid and the pipe of each.

    They begin together when the context is entered, and are killed when it is left.
    """
    gate, start = os.pipe()
    running: list[tuple[int, int]] = []
    try:
        for number in range(count):
            output, target = os.pipe()
            with warnings.catch_warnings():
                # Python 3.12 warns of forks beside threads; that these work is what is tested.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                _run_child(number, run, gate, start, target)
            os.close(target)
            running.append((pid, output))
        os.close(start)
        start = -1
        yield running
    finally:
        if start >= 0:
            os.close(start)
        os.close(gate)
        for pid, output in running:
            os.close(output)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _run_child(
    number: int, run: Callable[[int], Any], gate: int, start: int, target: int
) -> None:  # pragma: no cover - runs in a forked process
    # Never returns: the test run goes on in the parent only.
    try:
        os.close(start)
        # Ends when the parent closes the other end: all children begin together.
        os.read(gate, 1)
        result = "=" + repr(run(number))
    except BaseException:
        result = "!" + traceback.format_exc()
    with contextlib.suppress(OSError), os.fdopen(target, "wb") as file:
        file.write(result.encode())
    os._exit(0)


def results(running: list[tuple[int, int]]) -> list[Any]:
    """Wait for processes of :func:`children`; return what each returned."""
    deadline = time.monotonic() + LIMIT_S
    found = []
    for pid, output in running:
        data = b""
        while True:
            rest_s = max(0.0, deadline - time.monotonic())
            if not select.select([output], [], [], rest_s)[0]:
                raise AssertionError(f"process {pid} takes more than {LIMIT_S} s")
            chunk = os.read(output, 65_536)
            if not chunk:
                break
            data += chunk
        text = data.decode()
        if not text.startswith("="):
            raise AssertionError(f"process {pid} failed: {text[1:] or 'it died'}")
        found.append(ast.literal_eval(text[1:]))
    return found
