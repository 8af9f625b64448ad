"""The row of each host among the reports of workers: what all its processes serve.

It stays when its host falls silent, until a command removes it: a host that can't be heard may
still serve. Told from the reports of processes by a pid below zero.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ..errors import Laggard
from ..notifiers.base import MAX_ASKS
from ..process.manager import Manager
from ..process.slots import NONE_HELD, UNKNOWN_HELD, Question, SlotState
from ..stores.base import Store, WorkerReport
from ..stores.soundness import Found
from .reporter import LIFETIME_INTERVALS

logger = logging.getLogger("uwsgi_waffle")

#: seconds for which a row is kept: longer than anyone waits
KEPT_S = 1e9
STATE = "HOST"
_ASKED_LEAST_S = 0.02
_LEAST_S = 1.0
_MOST_BEHIND = 3


class HostRow(msgspec.Struct, frozen=True):
    """The answer of a host for all its processes.

    :ivar identity: of what each of them serves at its next request, as on the host's page.
    :ivar asks: the questions that this answers.
    :ivar processes: how many there are.
    :ivar oldest: the oldest revision that a running request holds, as of a question that asks for
        it; -1 if none does.
    :ivar silent_s: the host is silent when nothing was heard of it for longer.
    :ivar behind: worker, pid, revision and reason of those that do not serve it.
    """

    identity: str
    asks: list[str] = []
    processes: int = 0
    oldest: int = UNKNOWN_HELD
    silent_s: float = 30.0
    behind: list[tuple[int, int, int, str]] = []


def is_host(report: WorkerReport) -> bool:
    """Return whether a report is the row of a host."""
    return report.pid < 0


def processes(reports: Iterable[WorkerReport]) -> Found[WorkerReport]:
    """Return the reports that are of processes."""
    found = Found(report for report in reports if not is_host(report))
    found.damaged = reports.damaged if isinstance(reports, Found) else 0
    return found


def row_of(report: WorkerReport) -> HostRow | None:
    """Return what a host's row says, or ``None`` if it is damaged."""
    try:
        return msgspec.json.decode(report.last_error or "", type=HostRow)
    except (msgspec.MsgspecError, RecursionError):
        return None


def number_of(page: Path) -> int:
    """Return what stands for a page in the place of a pid: two hosts may have one name."""
    name = os.path.join(os.path.realpath(page.parent), page.name)
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def behind_here(manager: Manager, slots: Iterable[SlotState]) -> list[Laggard]:
    """Return the processes of this host that may serve less than this one does.

    All others look at the page when a request starts, which names what this process has read.
    """
    identity = manager.identity
    found = []
    for slot in slots:
        if slot.identity == identity or (slot.uses_page and not slot.failing):
            continue
        why = "the store fails there" if slot.failing else "it can't use the page"
        found.append(Laggard(slot.host, slot.worker, slot.pid, slot.revision, 0.0, why))
    return found


class HostReporter:
    """Keeps the row of this host; a task of a watcher.

    Of the processes of an app on one host that with the first slot writes it: when something
    changed, at most once a second, and once in an interval. A process that is asked answers at
    once, whichever it is.

    :param interval_s: seconds between two rows of which nothing changed.
    """

    def __init__(
        self,
        manager: Manager,
        store: Store,
        *,
        app: str,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._store = store
        self._app = app
        self._interval_s = interval_s
        self._clock = clock
        self._pid = os.getpid()
        # Those that wait, those that are answered by the next row, and those that were.
        self._new: list[str] = []
        self._draining: list[str] = []
        self._answered: list[str] = []
        self._owing = False
        self._question = self._new_question()
        self._oldest = UNKNOWN_HELD
        self._written: object = None
        self._asked_at = self._written_at = self._looked_at = float("-inf")
        self._registered = False

    def turn(self) -> None:
        """Write the row if it is time to; blocks for at most the store's bound."""
        manager, now = self._manager, self._clock()
        self._new = [*self._new, *manager.take_asks()][-MAX_ASKS:]
        is_late = now - self._looked_at >= min(_LEAST_S, self._interval_s)
        if not (self._new or self._draining or self._owing or is_late):
            return
        # What was asked is answered by a read that began after the question, and by requests that
        # began after that was marked.
        if manager.reading.is_asked or manager.reading.failing or manager.page.problem:
            return
        self._looked_at = now
        slots = manager.slots.living()
        ours = [slot for slot in slots if slot.app == self._app]
        # A command that only watches says nothing of a host where no process serves.
        if not (ours and manager.is_current()):
            return
        self._answer(slots)
        row = self._row(ours)
        is_due = row != self._written or now - self._written_at >= self._interval_s
        if (self._owing and now - self._asked_at >= _ASKED_LEAST_S) or (
            is_late and is_due and self._is_first(ours)
        ):
            self._asked_at = self._written_at = now
            self._write(row)
            self._written, self._owing = row, False

    def _answer(self, slots: list[SlotState]) -> None:
        """Move the questions that can be answered now to those that are."""
        drains = [ask for ask in self._new if ask.endswith(".drained")]
        done = [ask for ask in self._new if ask not in drains]
        self._new = drains
        if drains and not self._draining:
            # A new one: an answer to an earlier question may be older than what was asked.
            self._question = self._new_question()
            self._question.ask()
            self._new, self._draining = [], drains
        if self._draining:
            held = [self._question.oldest(slot) for slot in slots]
            known = [each for each in held if each is not None]
            if len(known) == len(held):
                self._oldest = min(known, default=NONE_HELD)
                done += self._draining
                self._draining = []
        if done:
            self._answered = list(dict.fromkeys([*self._answered, *done]))[-MAX_ASKS:]
            self._owing = True

    def _new_question(self) -> Question:
        return Question(self._manager.slots, self._manager.page.ask, clock=self._clock)

    def end(self) -> None:
        """Do nothing: a process whose watcher stops still serves."""

    def leave(self) -> None:
        """Remove the row if this was the last process of its host; called at the exit."""
        if self._pid != os.getpid():
            return
        try:
            # Before the look: of those that leave together the last one finds nobody.
            self._manager.leave_slot()
            if not any(slot.app == self._app for slot in self._manager.slots.living()):
                self._store.retract(self._report(HostRow("")))
        except Exception as exc:
            logger.debug("the row of this host was not removed: %s", exc)

    def _is_first(self, slots: list[SlotState]) -> bool:
        return bool(slots) and slots[0].number == self._manager.slot_number

    def _row(self, slots: list[SlotState]) -> HostRow:
        behind = behind_here(self._manager, slots)[:_MOST_BEHIND]
        return HostRow(
            self._manager.identity.hex(),
            self._answered,
            len(slots),
            self._oldest,
            max(1.0, LIFETIME_INTERVALS * self._interval_s),
            [(each.worker, each.pid, each.revision, each.why) for each in behind],
        )

    def _write(self, row: HostRow) -> None:
        if not self._registered:
            atexit.register(self.leave)
            self._registered = True
        self._store.report(self._report(row))

    def _report(self, row: HostRow) -> WorkerReport:
        return WorkerReport(
            app=self._app,
            host=os.uname().nodename,
            pid=number_of(self._manager.page.path),
            worker_id=0,
            revision=self._manager.snapshot.revision,
            staleness_s=self._manager.reading.staleness_s,
            state=STATE,
            last_error=msgspec.json.encode(row).decode(),
            lifetime_s=KEPT_S,
        )
