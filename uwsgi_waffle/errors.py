"""The error tree: every error that this package raises is a :class:`WaffleError`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import NamedTuple


class WaffleError(Exception):
    """Root of every error raised by uwsgi_waffle."""


class ConfigurationError(WaffleError):
    """The app, its declarations or its server are set up in a way that can't work."""


class ChangeRefused(WaffleError):
    """A change was refused before anything was written.

    :ivar problems: mapping of every bad setting name to what is wrong with it.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(self.lines()))

    def lines(self) -> list[str]:
        """Return a line for each bad setting: "LIMIT: …", or "TAGS[0]: …" for one of its items."""
        return [
            f"{name}{text}" if text.startswith(("[", ".")) else f"{name}: {text}"
            for name, text in self.problems.items()
        ]

    def __reduce__(self) -> tuple[type[ChangeRefused], tuple[dict[str, str]]]:
        return type(self), (self.problems,)


class UnknownSettingError(ChangeRefused, KeyError):
    """At least one name is not a declared setting."""

    # KeyError shows the repr of its argument, which would quote the whole sentence.
    __str__ = Exception.__str__


class InvalidValueError(ChangeRefused, ValueError):
    """At least one value does not fit its declaration."""


class PinnedSettingError(ChangeRefused):
    """At least one setting is pinned: it keeps the value of ``app.config``, or its default."""


class StoreError(WaffleError):
    """The store refused or failed an operation."""


class StoreUnavailable(StoreError):
    """The store can't be reached, or did not answer within its bound.

    A change that ends so was not made, unless it is an :class:`OutcomeUnknown`.
    """


class StoreMissing(StoreUnavailable):
    """The database can be reached, but holds no settings: none were made, or they are lost."""


class StoreLost(StoreUnavailable):
    """The store that this host knows is gone, or another one is in its place.

    Its values stay in force until ``flask waffle recreate`` says what comes after them.
    """


class OutcomeUnknown(StoreUnavailable):
    """The connection broke within the commit: the change may have been made, or not.

    It is never made twice. Read the settings, or name the revision you expect when you repeat it.
    """


class RevisionConflict(StoreError):
    """Someone else changed settings since the revision that the caller expected.

    :ivar expected: the revision the caller named.
    :ivar actual: the store's revision; nothing was written.
    """

    def __init__(self, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"expected revision {expected}, but the store is at {actual}: "
            "read the settings again and repeat the change"
        )

    def __reduce__(self) -> tuple[type[RevisionConflict], tuple[int, int]]:
        return type(self), (self.expected, self.actual)


class UnknownRevisionError(WaffleError, LookupError):
    """The store does not know how settings were at this revision."""


class Laggard(NamedTuple):
    """A process, or a host, that does not show that it serves a revision.

    :ivar host: its name.
    :ivar worker: number of the worker, or 0.
    :ivar pid: of the process, or 0 for a whole host.
    :ivar revision: what it serves, as far as that is known.
    :ivar age_s: seconds since that was known.
    :ivar why: the reason, for people.
    :ivar processes: how many processes it stands for: of a whole host, those that it last named; 0
        if it hides how many there are, as a store does that can't be read.
    """

    host: str
    worker: int
    pid: int
    revision: int
    age_s: float
    why: str
    processes: int = 1

    def __str__(self) -> str:
        if not (self.pid or self.processes):
            return f"{self.host}: {self.why}"
        worker = f" worker {self.worker}" if self.worker else ""
        which = f" (pid {self.pid})" if self.pid else ""
        if self.processes > 1:
            which = f" ({self.processes} processes)"
        return f"{self.host}{worker}{which} at revision {self.revision}: {self.why}"


class Laggards(WaffleError):
    """Not every process serves a revision, or shows that it does. The change itself stands.

    :ivar revision: the one that was waited for.
    :ivar laggards: those that do not show it.
    :ivar served: how many processes serve it.
    :ivar expected: how many were waited for, or 0.
    :ivar known: how many processes are known, with those that do not show it.
    :ivar all_known: there are no more, as far as the store and this host show.
    :ivar stands: the revision is known to be made, by who waits or by a process that serves it.
    """

    def __init__(
        self,
        revision: int,
        laggards: tuple[Laggard, ...],
        served: int,
        expected: int = 0,
        stands: bool = False,
    ) -> None:
        self.revision = revision
        self.laggards = laggards
        self.served = served
        self.expected = expected
        self.known = known = served + sum(each.processes for each in laggards)
        self.all_known = all(each.processes for each in laggards)
        # One that no process serves, and that who waits has not read, may not have been made yet.
        self.stands = stands or served > 0
        made = "stands, but " if self.stands else ""
        of = str(max(known, expected)) if self.all_known else "an unknown number"
        lines = [f"revision {revision} {made}is served by {served} of {of}"]
        if known < expected and self.all_known:
            lines.append(f"processes expected: {expected}, known: {known}")
        super().__init__("\n".join([*lines, *map(str, laggards)]))

    def __reduce__(self) -> tuple[type[Laggards], tuple[object, ...]]:
        given = self.revision, self.laggards, self.served, self.expected, self.stands
        return type(self), given


class NotifierError(WaffleError):
    """A change could not be announced, or notices can't be received."""


class WaffleWarning(UserWarning):
    """Something in the set-up works less well than it could; the text names the fix."""


def raise_unheld(
    error: BaseException | None, kinds: tuple[type[BaseException], ...] = (BaseException,)
) -> None:
    """Raise an error if it is of some kinds, and keep it in no frame; do nothing without one.

    An error in a frame of its traceback keeps all frames under that, and with them a request that
    is over, until a collection of garbage. So pass it on as it is returned, under no name.
    """
    try:
        if isinstance(error, kinds):
            raise error
    finally:
        del error


def warn_app(text: str) -> None:
    """Warn, by :class:`WaffleWarning`, at the line of the app that calls the package."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back and str(frame.f_globals["__name__"]).partition(".")[0] == __package__:
        frame = frame.f_back
        level += 1
    warnings.warn(text, WaffleWarning, stacklevel=level)
