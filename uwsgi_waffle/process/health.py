"""What works and what does not, in one process: the state, and each fault logged once."""

from __future__ import annotations

import enum
import logging
import threading
from datetime import datetime, timezone

import msgspec

logger = logging.getLogger("uwsgi_waffle")


class State(str, enum.Enum):
    """How the settings of this process are kept current.

    ``INITIALIZING``: the store was never read yet; defaults are served.
    ``VALID``: everything works.
    ``INTERRUPTED``: something fails; the last good snapshot is served.
    ``OFF``: stopped by ``stop()``.
    """

    INITIALIZING = "INITIALIZING"
    VALID = "VALID"
    INTERRUPTED = "INTERRUPTED"
    OFF = "OFF"


class Status(msgspec.Struct, frozen=True):
    """How the settings of one process are doing: the one record that everybody shows.

    :ivar state: see :class:`State`.
    :ivar since: when the state began, in UTC.
    :ivar revision: the newest revision that was read.
    :ivar applied_revision: the revision that ``app.config`` is at.
    :ivar source: where the settings come from: ``store``, ``defaults``, ``master`` (read before
        the fork), or the path of the file of last known values.
    :ivar staleness_s: seconds since the store was last read with success, or ``None``.
    :ivar read_at: when that was, in seconds since 1970 by this host's clock, or ``None``.
    :ivar last_error: the last thing that failed, also if it works again; without passwords and
        values of secret settings.
    :ivar failing: mapping of each part that fails now to its error.
    :ivar faults: mapping of setting name to what is wrong with its stored value.
    :ivar refreshes: how often the store was read.
    :ivar failures: how often it could not be read.
    :ivar notices: ``file`` or ``redis``: how the watcher hears of changes.
    """

    state: State
    since: datetime
    revision: int
    applied_revision: int
    source: str
    staleness_s: float | None
    read_at: float | None
    last_error: str | None
    failing: dict[str, str]
    faults: dict[str, str]
    refreshes: int
    failures: int
    notices: str
    pid: int
    worker_id: int
    watcher_alive: bool
    watcher_pid: int | None


class Health:
    """Keeps the state and the faults of one process; every method may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}
        self._harmless: set[str] = set()
        self._initialized = False
        self._off = False
        self.state = State.INITIALIZING
        self.since = datetime.now(timezone.utc)
        self.last_error: str | None = None

    def failed(self, part: str, error: object, *, harmless: bool = False) -> None:
        """Record that a part fails; log it if it did not fail in the same way already.

        :param harmless: it is shown, but leaves the state as it is.
        """
        text = str(error) or type(error).__name__
        with self._lock:
            if harmless:
                self._harmless.add(part)
            news = self._failing.get(part) != text
            self._failing[part] = text
            self.last_error = f"{part}: {text}"
            self._settle()
        if news and harmless:
            logger.warning("%s fails, which leaves the settings current: %s", part, text)
        elif news:
            logger.warning("%s fails: %s", part, text)

    def works(self, part: str) -> None:
        """Record that a part works; log it if it failed before."""
        # Read without the lock first: this is called after every good refresh.
        if part not in self._failing:
            return
        with self._lock:
            recovered = self._failing.pop(part, None) is not None
            self._settle()
        if recovered:
            logger.info("%s works again", part)

    def initialized(self) -> None:
        """Record that the store was read once."""
        if not self._initialized:
            with self._lock:
                self._initialized = True
                self._settle()

    def switch(self, *, off: bool) -> None:
        """Record that the watcher was stopped by its owner, or started again."""
        with self._lock:
            self._off = off
            self._settle()

    def failing(self) -> dict[str, str]:
        """Return each part that fails now, with its error."""
        with self._lock:
            return dict(self._failing)

    def _settle(self) -> None:
        if self._off:
            state = State.OFF
        elif self._failing.keys() - self._harmless:
            state = State.INTERRUPTED
        else:
            state = State.VALID if self._initialized else State.INITIALIZING
        if state is not self.state:
            self.state = state
            self.since = datetime.now(timezone.utc)
