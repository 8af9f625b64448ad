"""Child processes that do one thing, and then hold what they have until they are killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def child_that(does: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Run a function in a forked child; yield, once it has returned there, what kills the child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kept = does()
            os.write(writing, b"x")
            while kept is not os:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    alive = True

    def kill() -> None:
        nonlocal alive
        if alive:
            alive = False
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    try:
        with open(reading, "rb", buffering=0) as answer:
            assert answer.read(1) == b"x", "the child failed"
        yield kill
    finally:
        kill()
