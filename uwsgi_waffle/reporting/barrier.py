"""The barrier: wait until every process of every host serves a revision, or say which does not.

Why it is never early, as long as the store answers:

- *This host.* The waiting process has read the store at the revision or later, and marked that on
  the page before it served it. Marking changes a word that every shared ticket carries, or happens
  while the page shows a change that is under way; so every request that starts from then on, in
  each process that uses the page, finds its ticket spent and reads what is newer. A process that
  was just forked, stopped or asleep does so, too, and need not be waited for. Only one for which
  the store fails, or that can't use the page, may serve less: its slot says so, from before its
  first request on.
- *Another host.* Its row holds the identity that the waiting process has read last, or answers a
  question that was asked within this wait by a read that began after it. Either is written after
  that host's page was marked, and so speaks for all who share the page, which may be other apps,
  or containers with names of their own.
- *Who starts meanwhile* reads the store before its first request, after the change was committed.

Not covered: a process that loses the store between its last look and its next request serves what
it read last, as it always does. It shows that in its state.
"""

from __future__ import annotations

import os
import secrets
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

from ..errors import Laggard, Laggards, StoreError
from ..process.health import State
from ..process.manager import Manager
from ..process.pids import is_alive
from ..process.slots import SlotState
from ..process.tickets import Ticket
from ..stores.base import Store, WorkerReport
from ..stores.soundness import sound_reports
from .host_rows import (
    KEPT_S,
    HostRow,
    address_of,
    behind_here,
    is_alone,
    is_host,
    is_silent,
    laggard_of,
    rows_elsewhere,
    silence_of,
)
from .question import Question

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1
# A question that was lost is asked again; so is one of requests that run. Each host answers each
# time, and on one store: a thousand are asked less often, and less and less.
_ASK_AGAIN_S = 0.25
_ASK_MOST_S = 2.0
_ASK_EACH_HOST_S = 0.002
_BUSY = "a request runs that began before"
_UNSAID = "it does not say which requests run"
_NO_SLOT = "no slot of it was found"
_OLDER = "it reads an older revision from the store"


class Reach(NamedTuple):
    """How far a revision has come.

    :ivar served: how many processes serve it.
    :ivar laggards: who does not show that.
    """

    served: int
    laggards: tuple[Laggard, ...]

    @property
    def of(self) -> int:
        """How many processes are known."""
        return self.served + sum(each.processes for each in self.laggards)


class Barrier:
    """Waits for one revision; made for one wait, in one thread.

    :param manager: of the process that waits.
    :param drained: wait also until no request runs that began at an older revision.
    :param own: the ticket of the request that waits, which nobody else shares.
    """

    def __init__(
        self,
        manager: Manager,
        store: Store,
        revision: int,
        *,
        drained: bool = False,
        own: Ticket | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._store = store
        self._revision = revision
        self._drained = drained
        # The request alone holds it: an error of the store, or that of this wait, may be kept with
        # this barrier, and by the ticket the request would seem to run on.
        self._own: Callable[[], Ticket | None] = weakref.ref(own) if own else lambda: None
        self._clock = clock
        self._ask = secrets.token_hex(8) + (".drained" if drained else "")
        self._ask_at = float("-inf")
        self._ask_pause_s = _ASK_AGAIN_S
        self._question = Question(manager.slots, manager.page, clock=clock)
        self._done: set[int] = set()
        self._host = os.uname().nodename
        self._address = address_of(manager.page.path)

    def wait(self, timeout_s: float, *, expected: int = 0) -> Reach:
        """Return once every process serves the revision; blocks for at most ``timeout_s``.

        And for one read of the store, which is asked at least once, and one message to other hosts.

        :param expected: wait until at least so many processes are known.
        :raises Laggards: some process does not show it in time; nothing is undone.
        """
        deadline = self._clock() + timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            reach = self.look()
            if not reach.laggards and reach.served >= expected:
                return reach
            rest_s = deadline - self._clock()
            if rest_s <= 0:
                stands = self._manager.snapshot.revision >= self._revision
                raise Laggards(self._revision, reach.laggards, reach.served, expected, stands)
            time.sleep(min(pause_s, rest_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def look(self) -> Reach:
        """Return how far the revision has come; blocks for the bounds of store and channel."""
        manager = self._manager
        if problem := self._behind_myself():
            own = manager.snapshot.revision
            return Reach(0, (Laggard(self._host, 0, os.getpid(), own, 0.0, problem, 0),))
        try:
            slots = manager.slots.living()
        except OSError as exc:
            why = f"{manager.slots.path} can't be read ({exc.strerror or exc})"
            return Reach(0, (Laggard(self._host, 0, 0, 0, 0.0, why, 0),))
        laggards = behind_here(manager, slots)
        if self._drained:
            known = {(each.host, each.pid) for each in laggards}
            busy = self._not_drained(slots)
            if busy:
                # The ear of this host waits for the channel, and looks at the page after that.
                self._ask_by_channel(1)
            laggards += [each for each in busy if (each.host, each.pid) not in known]
        served = len(slots) - len(laggards)
        try:
            reports = sound_reports(self._store.workers(KEPT_S))
        except StoreError as exc:
            why = f"which other hosts there are is not known: {exc}"
            return Reach(served, (*laggards, Laggard("the store", 0, 0, 0, 0.0, why, 0)))
        elsewhere = self._elsewhere(slots, reports)
        return Reach(served + elsewhere.served, (*laggards, *elsewhere.laggards))

    def _behind_myself(self) -> str:
        """Catch up; return why this process can't speak for its host, or nothing."""
        manager = self._manager
        try:
            if manager.snapshot.revision < self._revision or not self._is_marked():
                manager.refresh(may_apply=manager.between_requests)
        except StoreError as exc:
            return str(exc)
        if manager.page.problem:
            return manager.page.problem
        if manager.snapshot.revision < self._revision:
            return "the store has no such revision"
        return "" if self._is_marked() else "other changes are under way"

    def _is_marked(self) -> bool:
        """Return whether this host's page names what this process has read, if there is one."""
        # None is made by a command that only reads: no process of this host has ever served.
        return self._manager.page.inode is None or self._manager.is_current()

    # Requests that run

    def _not_drained(self, slots: list[SlotState]) -> list[Laggard]:
        unasked = ""
        if slots:
            try:
                self._question.ask()
            except OSError as exc:
                unasked = f"the page can't be written: {exc}"
        found = []
        for slot in slots:
            why = "" if slot.number in self._done else unasked or self._why_busy(slot)
            if why:
                laggard = Laggard(slot.host, slot.worker, slot.pid, slot.revision, 0.0, why)
                found.append(laggard)
            else:
                self._done.add(slot.number)
        return found

    def _why_busy(self, slot: SlotState) -> str:
        if slot.number == self._manager.slot.number:
            oldest: int | None = self._manager.oldest_held(but=self._own())
        else:
            oldest = self._question.oldest(slot)
        if oldest is None:
            return f"{_UNSAID}: it is stopped, busy, or has no watcher"
        return "" if oldest >= self._revision else _BUSY

    # Other hosts

    def _elsewhere(self, slots: list[SlotState], reports: list[WorkerReport]) -> Reach:
        page = self._manager.page
        rows = rows_elsewhere(reports, page, self._address, serves_here=bool(slots))
        here = {(slot.host, slot.pid) for slot in slots}
        speaking = {each.host for each, _ in rows}
        # Those who share the page; of the own name each process can be looked for.
        speaking |= {each.host for each in reports if is_host(each) and each.host != self._host}
        served = 0
        laggards: list[Laggard] = []
        for report in reports:
            place = report.host, report.pid
            if is_host(report) or place in here:
                continue
            if report.host in speaking:
                if not is_alone(report):
                    continue
            elif report.host == self._host and not is_alive(report.pid):
                continue
            if report.host == self._host and report.pid == os.getpid():
                continue
            if report.revision < self._revision or report.state == State.INTERRUPTED.value:
                why = report.last_error or "its report does not show it yet"
                laggards.append(laggard_of(report, why))
            elif self._drained:
                # A request of an earlier revision may run beside one that was applied.
                laggards.append(laggard_of(report, f"{_UNSAID}: {report.last_error or _NO_SLOT}"))
            else:
                served += 1
        hosts: dict[object, list[tuple[WorkerReport, HostRow | None]]] = {}
        for report, row in rows:
            key = (row and row.page) or (report.app, report.host, report.pid)
            hosts.setdefault(key, []).append((report, row))
        for each in hosts.values():
            found = self._answer_of(each)
            served += found.served
            laggards += found.laggards
        if laggards and rows:
            self._ask_by_channel(len(hosts))
        return Reach(served, tuple(laggards))

    def _ask_by_channel(self, hosts: int) -> None:
        if self._clock() >= self._ask_at:
            self._manager.ask_hosts(self._ask)
            # From now on, for a channel that stands still has taken its time: once in a look.
            self._ask_at = self._clock() + max(self._ask_pause_s, hosts * _ASK_EACH_HOST_S)
            if not self._drained:
                self._ask_pause_s = min(2 * self._ask_pause_s, _ASK_MOST_S)

    def _answer_of(self, rows: list[tuple[WorkerReport, HostRow | None]]) -> Reach:
        """Return what the rows of one page say: the newest that shows something speaks for all."""
        said = [(self._unsaid(report, row), report, row) for report, row in rows]
        why, report, row = min(said, key=lambda each: (each[0] is not None, each[1].age_s))
        if why or row is None:
            return Reach(0, (why,) if why else ())
        behind = tuple(
            Laggard(report.host, worker, pid, revision, report.age_s, why)
            for worker, pid, revision, why in row.behind
        )
        behind += (laggard_of(report, "its host names others that do not serve it"),) * row.unnamed
        return Reach(max(0, row.processes - len(behind)), behind)

    def _unsaid(self, report: WorkerReport, row: HostRow | None) -> Laggard | None:
        """Return a host whose row does not show that its page is marked; ``None`` if it does."""
        if row is None:
            return laggard_of(report, "its row is damaged")
        if is_silent(report, row):
            return silence_of(report, row)
        answers = self._ask in row.asks
        if not answers and (self._drained or row.identity != self._manager.identity.hex()):
            return laggard_of(report, "the host has not answered yet", row.processes)
        if report.revision < self._revision:
            return laggard_of(report, _OLDER, row.processes)
        if self._drained and row.oldest < self._revision:
            return laggard_of(report, _BUSY, row.processes)
        return None
