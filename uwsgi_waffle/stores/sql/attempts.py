"""When a store in an SQL database says something once more, and when it gives up."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ...backoff import Backoff
from ...errors import StoreMissing
from .databases import (
    is_failure,
    is_named,
    is_outage,
    is_read_only,
    is_transient,
    translated,
)
from .statements import Connections

T = TypeVar("T")
#: a connection, as the library has it
C = TypeVar("C")

_ATTEMPTS = 10


class Attempts(Generic[C]):
    """Runs statements on the connections of a process, and again where that may help.

    What the database raises comes out as an error of the store.

    :param connections: returns those of this process; opens none.
    :param timeout_s: within which reads are over.
    :param write_timeout_s: within which changes are.
    """

    def __init__(
        self,
        connections: Callable[[], Connections[C]],
        timeout_s: float,
        write_timeout_s: float,
    ) -> None:
        self._connections = connections
        self._timeout_s = timeout_s
        self._write_timeout_s = write_timeout_s

    def read(self, run: Callable[[C], T]) -> T:
        """Return what single statements on the kept connection return.

        A server that was restarted, or that closed what was idle or killed, has ended that
        connection: it is replaced, and the statements run once more.
        """
        deadline = time.monotonic() + self._timeout_s
        connections = self._connections()
        self._need_file()
        with translated(connections.shown, connections.passwords):
            try:
                with connections.reading(self._timeout_s) as connection:
                    return run(connection)
            except Exception as exc:
                rest_s = deadline - time.monotonic()
                if rest_s <= 0 or not is_failure(exc) or not is_outage(exc):
                    raise
            with connections.reading(rest_s) as connection:
                return run(connection)

    def commit(
        self,
        run: Callable[[C], T],
        *,
        may_retry: Callable[[BaseException], bool],
        before_commit: Callable[[], None] | None = None,
    ) -> T:
        """Return what a function returns whose statements are committed in one transaction.

        It runs again if the database gave the transaction up for another, and once on another
        connection: if the kept one turns out to be lost before the first statement, or leads to a
        server that takes no changes. Never when the commit was not answered.
        """
        connections = self._connections()
        self._need_file()
        call = None if before_commit is None else _Call(before_commit)
        try:
            with translated(connections.shown, connections.passwords):
                return self._again(connections, run, may_retry, call)
        except Exception as exc:
            if call is None or call.error is None or call.error is exc:
                raise
            # The database did not raise it, so that no word of it need be hidden.
            raise call.error from None

    def _again(
        self,
        connections: Connections[C],
        run: Callable[[C], T],
        may_retry: Callable[[BaseException], bool],
        call: _Call | None,
    ) -> T:
        deadline = time.monotonic() + self._write_timeout_s
        backoff = Backoff(0.02, 0.2)
        has_begun = False

        def begun(connection: C) -> T:
            nonlocal has_begun
            has_begun = True
            return run(connection)

        for attempt in itertools.count(1):
            try:
                return connections.change(begun, deadline - time.monotonic(), call)
            except Exception as exc:
                ours = not is_failure(exc) or (call is not None and call.error is not None)
                was_lost = (not has_begun and is_outage(exc)) or is_read_only(exc)
                again = (
                    is_transient(exc)
                    or (may_retry(exc) and attempt < _ATTEMPTS)
                    or (was_lost and attempt == 1)
                )
                pause_s = backoff.next_s()
                if ours or not again or time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
        raise AssertionError("counting ended")

    def _need_file(self) -> None:
        """Check that the file of an SQLite database is there, which connecting would make.

        :raises StoreMissing: it is not.
        """
        path = self._connections().file
        if path is None:
            return
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise StoreMissing(f"{path} holds no settings: there is no such file") from exc
        except OSError:
            # Of a folder that may not be entered nobody knows what it holds: connecting fails.
            return


class _Call:
    """Calls ``before_commit``, and keeps what it raises apart from the database's errors."""

    def __init__(self, before_commit: Callable[[], None]) -> None:
        self._before_commit = before_commit
        self.error: Exception | None = None

    def __call__(self) -> None:
        try:
            self._before_commit()
        except Exception as exc:
            self.error = exc
            raise


def is_collision(exc: BaseException) -> bool:
    """Return whether a row was there already, which the next attempt will find.

    As one that the user's own code put in.
    """
    return is_named(exc, "IntegrityError")
