"""The health of one process: the state, and each failure with its time."""

from __future__ import annotations

import enum
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ..masking import redact, shortened
from .claims import Claims

logger = logging.getLogger("uwsgi_waffle")

_TIME = "%Y-%m-%d %H:%M:%S"
_TIMES = re.compile(r" \((?:since|from) [-0-9: to]+ UTC\)$")


class State(str, enum.Enum):
    """How the settings of this process are kept current.

    ``INITIALIZING``: the store was never read yet; ``Status.source`` shows what is served.
    ``VALID``: everything works.
    ``INTERRUPTED``: something fails; the settings of ``Status.source`` are served.
    ``OFF``: stopped by ``stop()``.
    """

    INITIALIZING = "INITIALIZING"
    VALID = "VALID"
    INTERRUPTED = "INTERRUPTED"
    OFF = "OFF"


# Dataclasses, which Flask's JSON knows: an app may show them as they are.
@dataclass(frozen=True, slots=True)
class Failure:
    """A part that fails, or that failed and works again.

    :ivar part: such as ``store``, ``watch file`` or ``announcing by redis``.
    :ivar error: what was wrong last; without passwords and values of secret settings.
    :ivar began_at: when the part began to fail, in UTC by this host's clock.
    :ivar ended_at: when it worked again, or ``None`` while it fails.
    :ivar harmless: it leaves the settings current, and the state as it is.
    """

    part: str
    error: str
    began_at: datetime
    ended_at: datetime | None = None
    harmless: bool = False

    def __str__(self) -> str:
        return self.text()

    def text(self, longest: int | None = None) -> str:
        """Return part, error and times on one line; at most so many characters of the error."""
        if self.ended_at is None:
            times = f"since {self.began_at:{_TIME}} UTC"
        else:
            times = f"from {self.began_at:{_TIME}} to {self.ended_at:{_TIME}} UTC"
        text = f"{self.part}: {self.error}"
        return f"{text if longest is None else shortened(text, longest)} ({times})"


def without_times(text: str) -> str:
    """Return the text of a failure without its times, so that those of several workers compare."""
    return _TIMES.sub("", text)


@dataclass(frozen=True, slots=True)
class Status:
    """How the settings of one process are doing: the record that commands, pages and metrics show.

    :ivar state: see :class:`State`.
    :ivar since: when the state began, in UTC.
    :ivar revision: the newest revision that was read.
    :ivar applied_revision: the revision that ``app.config`` is at.
    :ivar source: where the settings come from: ``store``, ``defaults``, ``master`` (read before
        the fork), or the path of the file of last known values.
    :ivar staleness_s: seconds since the store was last read with success, or ``None``.
    :ivar read_at: when that was, in seconds since 1970 by this host's clock, or ``None``.
    :ivar last_error: the last failure, also if it is over.
    :ivar failing: mapping of each part that fails now to its error.
    :ivar faults: mapping of setting name to what is wrong with its stored value.
    :ivar refreshes: how often the store was read.
    :ivar failures: how often it could not be read.
    :ivar notices: how the watcher hears of changes: ``watch file``, ``redis``, ``postgresql``, or
        ``none``.
    :ivar ear: this process receives, for its whole host, what other hosts announce.
    """

    state: State
    since: datetime
    revision: int
    applied_revision: int
    source: str
    staleness_s: float | None
    read_at: float | None
    last_error: Failure | None
    failing: dict[str, str]
    faults: dict[str, str]
    refreshes: int
    failures: int
    notices: str
    ear: bool
    pid: int
    worker_id: int
    watcher_alive: bool
    watcher_pid: int | None

    @property
    def served(self) -> str:
        """The source of the values that requests get now, for people."""
        if self.state is not State.INTERRUPTED and self.source == "store":
            return "the current settings"
        return describe_source(self.source, self.revision)


def describe_source(source: str, revision: int) -> str:
    """Return what is served, for people, while the store can't be read.

    :param source: see ``Status.source``.
    """
    if source == "store":
        return f"the settings of revision {revision}, as last read from the store"
    if source == "master":
        return (
            f"the settings of revision {revision}, as its parent process read them before the fork"
        )
    if source == "defaults":
        return "the declared defaults"
    return f"the last known values of revision {revision} from {source}"


class Health:
    """Keeps the state and the failures of one process; every method may be called by any thread.

    :param mask: returns an error's text without what may not be shown.
    :param claims: of this process: what another of its server has logged in the same words, and
        which is not over there, is not logged again.
    """

    def __init__(
        self, mask: Callable[[str], str] = redact, *, claims: Claims | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._mask = mask
        self._claims = claims
        # By part: what was logged here, and is not over.
        self._said: dict[str, str] = {}
        self._failing: dict[str, Failure] = {}
        # As they were raised, because masking a text costs more than to compare it.
        self._raised: dict[str, str] = {}
        self._initialized = False
        self._off = False
        self.state = State.INITIALIZING
        self.since = _now()
        self.last_error: Failure | None = None

    def failed(self, part: str, error: object, *, harmless: bool = False) -> None:
        """Record that a part fails; log it if it did not fail in the same way already.

        A failure that another process of the server has logged is logged here only if it lasts
        longer here.

        :param harmless: it is shown, but leaves the state as it is.
        """
        raised = str(error) or type(error).__name__
        with self._lock:
            known = self._failing.get(part)
            if known is not None and self._raised[part] == raised and known.harmless == harmless:
                failure = known
                if part in self._said:
                    return
            else:
                began_at = _now() if known is None else known.began_at
                failure = Failure(part, self._mask(raised), began_at, harmless=harmless)
                self._failing[part] = failure
                # What is harmless does not hide what is not: often it comes of that.
                if not harmless or self.state is not State.INTERRUPTED:
                    self.last_error = failure
                self._raised[part] = raised
                self._settle()
                self._unsay(part)
            if not self._may_say(failure):
                return
        logger.warning(
            "%s fails, which leaves the settings current: %s" if harmless else "%s fails: %s",
            part,
            failure.error,
            extra=_fields(failure, "fails"),
        )

    def works(self, part: str) -> None:
        """Record that a part works; log it, as loud as its failure, if it failed before."""
        # Read without the lock first: this is called after every good refresh.
        if part not in self._failing:
            return
        with self._lock:
            failure = self._failing.pop(part, None)
            if failure is None:
                return
            now = _now()
            over = replace(failure, ended_at=now)
            if self.last_error is failure:
                self.last_error = over
            self._settle()
            if not self._unsay(part):
                return
        lasted_s = (now - over.began_at).total_seconds()
        logger.warning("%s works again after %.0f s", part, lasted_s, extra=_fields(over, "works"))

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
            return {part: failure.error for part, failure in self._failing.items()}

    def _may_say(self, failure: Failure) -> bool:
        text = f"{failure.part}: {failure.error}"
        if self._claims is not None and not self._claims.take(text):
            return False
        self._said[failure.part] = text
        return True

    def _unsay(self, part: str) -> bool:
        text = self._said.pop(part, None)
        if text is not None and self._claims is not None:
            self._claims.drop(text)
        return text is not None

    def _settle(self) -> None:
        if self._off:
            state = State.OFF
        elif any(not failure.harmless for failure in self._failing.values()):
            state = State.INTERRUPTED
        else:
            state = State.VALID if self._initialized else State.INITIALIZING
        if state is not self.state:
            self.state = state
            self.since = _now()


def _fields(failure: Failure, event: str) -> dict[str, object]:
    return {"waffle_event": event, "waffle_part": failure.part, "waffle_error": failure.error}


def _now() -> datetime:
    return datetime.now(timezone.utc)
