"""The row of each host among the reports of workers: what all its processes serve.

It stays when its host falls silent, until a command removes it: a host that can't be heard may
still serve. A pid below zero distinguishes it from the reports of processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from ..errors import Laggard, StoreError
from ..notifiers.base import MAX_ASKS
from ..process.kept_slot import SLOT
from ..process.manager import Manager
from ..process.page import Page
from ..process.pids import is_alive
from ..process.refresher import PAGE
from ..process.slots import MOST_SLOTS, NONE_HELD, UNKNOWN_HELD, SlotState, as_shown
from ..runtime import at_exit
from ..stores.base import Store, WorkerReport
from ..stores.soundness import Found, sound_reports
from .question import Question
from .reporter import LIFETIME_INTERVALS
from .spread import Failures, Spread

logger = logging.getLogger("uwsgi_waffle")

#: seconds for which a row is kept: longer than anyone waits
KEPT_S = 1e9
STATE = "HOST"
#: the part that fails when the row of this host can't be written
ROW = "reporting of this host"
_ASKED_LEAST_S = 0.02
_LEAST_S = 1.0
_ANSWERS_S = 0.05
_ANSWER_PAUSE_S = 0.001
_MOST_BEHIND = 3
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# For a row that no one asks for: all hosts have read by then.
_SPREAD_S = 2.0


class HostRow(msgspec.Struct, frozen=True):
    """The answer of a host for all its processes.

    :ivar identity: of what each of them serves at its next request, as on the host's page.
    :ivar asks: the questions that this answers.
    :ivar processes: how many there are.
    :ivar oldest: the oldest revision that a running request holds, as of a question that asks for
        it; -1 if none does.
    :ivar silent_s: the host is silent when nothing was heard of it for longer.
    :ivar behind: worker, pid, revision and reason of those that do not serve it.
    :ivar ears: the pids of those that hear what other hosts announce: one, or for a moment more.
    :ivar place: stands for the path of the page.
    :ivar unnamed: how many more do not serve it than are named.
    :ivar page: stands for the page itself: the row is about all who share it, and each of theirs
        speaks for all. Empty if that is not known.
    """

    identity: str
    asks: list[str] = []
    processes: int = 0
    oldest: int = UNKNOWN_HELD
    silent_s: float = 30.0
    behind: list[tuple[int, int, int, str]] = []
    ears: list[int] = []
    place: str = ""
    unnamed: Annotated[int, msgspec.Meta(ge=0, le=MOST_SLOTS)] = 0
    page: str = ""


def is_host(report: WorkerReport) -> bool:
    """Return whether a report is the row of a host."""
    return report.pid < 0


def processes(reports: Iterable[WorkerReport]) -> Found[WorkerReport]:
    """Return the reports that are of processes."""
    found = Found(report for report in reports if not is_host(report))
    found.damaged = reports.damaged if isinstance(reports, Found) else 0
    return found


def is_alone(report: WorkerReport) -> bool:
    """Return whether a process says that its host can't speak for it."""
    error = report.last_error or ""
    return error.startswith((f"{PAGE}: ", f"{SLOT}: ")) and " (since " in error


def row_of(report: WorkerReport) -> HostRow | None:
    """Return what a host's row says, or ``None`` if it is damaged."""
    try:
        return msgspec.json.decode(report.last_error or "", type=HostRow)
    except (msgspec.MsgspecError, RecursionError):
        return None


def ears_of(reports: Iterable[WorkerReport]) -> frozenset[tuple[str, int]]:
    """Return host and pid of the processes that hear what other hosts announce."""
    rows = [(report.host, row_of(report)) for report in reports if is_host(report)]
    return frozenset((host, pid) for host, row in rows if row is not None for pid in row.ears)


class Address(NamedTuple):
    """Where the row of a host is among the reports.

    :ivar place: stands for the path of the page.
    :ivar number: stands for the page in the place of a pid. Two hosts may have one name, as
        containers have that were given it, and machines that were copied, and a page at the same
        path; but two containers not the device that it is on, and two machines not their start.
    """

    place: str
    number: int


def address_of(page: Path) -> Address:
    """Return where the row of the host is that has a page."""
    name = os.path.join(os.path.realpath(page.parent), page.name)
    try:
        device = os.stat(page.parent).st_dev
    except OSError:
        device = 0
    place, number = (
        hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=4).digest()
        for text in (name, f"{_start()} {device} {name}")
    )
    return Address(place.hex(), -1 - (int.from_bytes(number, "big") >> 1))


def page_of(page: Page) -> str:
    """Return what stands for a page itself, or nothing if that is not known.

    For all who share it, also containers with a name each, and for no other page of any system
    that runs, also where an image was copied with a page in it.
    """
    start = _start()
    if page.problem or page.inode is None or not start:
        return ""
    return hashlib.blake2b(f"{start} {page.inode}".encode(), digest_size=8).hexdigest()


def _start() -> str:
    """Return what stands for the start of this machine's kernel, or nothing."""
    # Source: random(4): a random text for each start, the same in all containers of the machine.
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def rows_elsewhere(
    reports: Iterable[WorkerReport], own: Page, address: Address, *, serves_here: bool
) -> list[tuple[WorkerReport, HostRow | None]]:
    """Return the rows of other hosts, without those of which others say what there is to say.

    Those are of one that was killed and came back, and of one that shared its page with others.

    :param own: page of this host, whose rows are left out.
    :param address: of the row of this process.
    :param serves_here: processes of this host serve.
    """
    here = os.uname().nodename
    rows = [
        (each, row_of(each))
        for each in reports
        if is_host(each) and (each.host, each.pid) != (here, address.number)
    ]
    if rows and (page := page_of(own)):
        rows = [(each, row) for each, row in rows if row is None or row.page != page]
    # It may have come back with another device, as a container does.
    living = [(each, row) for each, row in rows if row and not is_silent(each, row)]
    heard = {(each.host, row.place) for each, row in living}
    if serves_here:
        heard.add((here, address.place))
    pages = {row.page for _, row in living} - {""}
    return [
        (each, row)
        for each, row in rows
        if not (row and is_silent(each, row))
        or not ((each.host, row.place) in heard or row.page in pages)
    ]


def is_silent(report: WorkerReport, row: HostRow) -> bool:
    """Return whether nothing was heard of a host for longer than its row says."""
    return report.age_s > row.silent_s


def silent_hosts(manager: Manager, reports: Iterable[WorkerReport]) -> list[Laggard]:
    """Return the other hosts that fell silent, and may serve what is older.

    :param reports: all that the store keeps.
    """
    serves_here = False
    with contextlib.suppress(OSError):
        serves_here = bool(manager.slots.living())
    page = manager.page
    rows = rows_elsewhere(reports, page, address_of(page.path), serves_here=serves_here)
    silent = [(each, row) for each, row in rows if row and is_silent(each, row)]
    # Of those who share a page each row is about all.
    by_page = {row.page or (each.host, each.pid): (each, row) for each, row in silent}
    return [silence_of(each, row) for each, row in by_page.values()]


def silence_of(report: WorkerReport, row: HostRow) -> Laggard:
    """Return a host that is silent as one that does not show what it serves."""
    why = (
        f"the host is silent for {report.age_s:.0f} s; if it is gone, remove it with "
        f"`flask waffle workers --forget {report.host}`"
    )
    return laggard_of(report, why, row.processes)


def laggard_of(report: WorkerReport, why: str, processes: int = 1) -> Laggard:
    """Return a process, or a host for so many, that does not show that it serves a revision."""
    pid = max(0, report.pid)
    # A host has said no more than that it is there when its first process starts.
    number = max(1, processes)
    return Laggard(report.host, report.worker_id, pid, report.revision, report.age_s, why, number)


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

    Of the processes of an app on one host that with the first slot writes it: within 4 s when
    something changed, and once in an interval. A process that is asked answers at once, whichever
    it is, for all who share its page: other apps, and containers with names of their own. A row
    that fails is made again; if that fails too, it is shown in the state, and logged.

    :param interval_s: seconds between two rows of which nothing changed.
    :param part: returns for which part of the spread, 0 to 1, a change waits to be written.
    """

    def __init__(
        self,
        manager: Manager,
        store: Store,
        *,
        app: str,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        part: Callable[[], float] = random.random,
    ) -> None:
        self._manager = manager
        self._store = store
        self._app = app
        self._as_shown = as_shown(os.uname().nodename), as_shown(app)
        self._interval_s = interval_s
        self._clock = clock
        self._pid = os.getpid()
        # Kept: the folder may be gone when the row is removed.
        self._address = address_of(manager.page.path)
        # Those that wait, those that are answered by the next row, and those that were.
        self._new: list[str] = []
        self._draining: list[str] = []
        self._answered: list[str] = []
        self._owing = False
        self._question = self._new_question()
        self._oldest = UNKNOWN_HELD
        self._written: object = None
        self._spread = Spread(min(_SPREAD_S, interval_s), part)
        self._asked_at = self._written_at = self._looked_at = float("-inf")
        self._registered = self._left = False
        self._failures = Failures(manager.health, ROW)
        if self._is_known():
            self._known()
        elif manager.slot.serves:
            # What was read before others knew of this host, they did not wait for.
            manager.read_after(self.introduce)

    def introduce(self) -> None:
        """Make this host known to others, before its first process reads what it serves.

        A change that is committed later is waited for here, too; one that was before is read. By
        the thread that reads; blocks for the store's bound. What fails is tried at the next read.
        """
        if self._manager.page.problem:
            # It speaks for itself alone, by its report: a row would stay as it is, and fall silent.
            return
        try:
            if not self._is_known():
                self._write(self._new_row())
        except Exception as exc:
            # A store may be the user's own, and one that keeps no row can be read all the same.
            logger.debug("the row of this host was not written: %s", exc)
        else:
            self._known()

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
        page, ours = page_of(manager.page), self._ours_of(slots)
        about = slots if page else ours
        # A command that only watches says nothing of a host where no process serves.
        if not (about and manager.is_current()):
            return
        self._answer(slots)
        row = self._row(about, page)
        is_news = self._spread.is_over(row != self._written, now)
        is_due = is_news or now - self._written_at >= self._interval_s
        if (self._owing and now - self._asked_at >= _ASKED_LEAST_S) or (
            is_late and is_due and self._is_first(ours)
        ):
            # What was asked does not wait because the change itself was reported just before.
            self._asked_at = now if self._owing else self._asked_at
            self._try_to_write(row)

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
        elif drains:
            # What stood on the page may have been lost.
            self._question.ask()
        if self._draining:
            oldest = self._oldest_of(slots, wait_s=_ANSWERS_S if drains else 0.0)
            if oldest is not None:
                self._oldest = oldest
                done += self._draining
                self._draining = []
        if done:
            self._answered = list(dict.fromkeys([*self._answered, *done]))[-MAX_ASKS:]
            self._owing = True

    def _oldest_of(self, slots: list[SlotState], *, wait_s: float) -> int | None:
        """Return the oldest revision that a request of this host holds; ``None`` if one is silent.

        :param wait_s: how long to wait for the answers, which the others give at once.
        """
        until = time.monotonic() + wait_s
        while True:
            self._question.follow()
            held = [
                self._manager.oldest_held()
                if slot.number == self._manager.slot.number
                else self._question.oldest(slot)
                for slot in slots
            ]
            known = [each for each in held if each is not None]
            if len(known) == len(held):
                return min(known, default=NONE_HELD)
            if time.monotonic() >= until:
                return None
            time.sleep(_ANSWER_PAUSE_S)
            slots = self._manager.slots.living()

    def _new_question(self) -> Question:
        return Question(self._manager.slots, self._manager.page, clock=self._clock)

    def end(self) -> None:
        """Do nothing: a process whose watcher stops still serves."""

    def leave(self) -> None:
        """Remove the row if this was the last process of its host; called at the exit."""
        if self._pid != os.getpid():
            return
        # The watcher may be about to write it once more.
        self._left = True
        try:
            # Before the look: of those that leave together the last one finds nobody.
            self._manager.slot.leave()
            if not self._ours():
                self._retract_killed()
                self._store.retract(self._report(self._new_row()))
                if self._ours():
                    # Of a process that came meanwhile the row may be gone, too.
                    self._store.report(self._report(self._new_row()))
        except Exception as exc:
            logger.debug("the row of this host was not removed: %s", exc)

    def _retract_killed(self) -> None:
        """Remove the reports of those that were killed, which no row would speak for any more."""
        for each in sound_reports(self._store.workers(KEPT_S)):
            is_ours = (each.app, each.host) == (self._app, os.uname().nodename)
            if is_ours and not (is_host(each) or is_alone(each) or is_alive(each.pid)):
                self._store.retract(each)

    def _known(self) -> None:
        # Whichever process leaves last, this host has a row to be removed.
        self._leave_at_exit()
        self._manager.reading.introduce = None
        self._manager.slot.know()

    def _leave_at_exit(self) -> None:
        if not self._registered:
            at_exit(self.leave)
            self._registered = True

    def _is_known(self) -> bool:
        with contextlib.suppress(OSError):
            return any(slot.known for slot in self._ours())
        return False

    def _ours(self) -> list[SlotState]:
        return self._ours_of(self._manager.slots.living())

    def _ours_of(self, slots: list[SlotState]) -> list[SlotState]:
        return [slot for slot in slots if (slot.host, slot.app) == self._as_shown]

    def _is_first(self, slots: list[SlotState]) -> bool:
        return bool(slots) and slots[0].number == self._manager.slot.number

    def _new_row(self) -> HostRow:
        """Return the row of a host of which no process has read anything yet."""
        return HostRow("", place=self._address.place, page=page_of(self._manager.page))

    def _row(self, slots: list[SlotState], page: str) -> HostRow:
        host, _ = self._as_shown
        behind = behind_here(self._manager, slots)
        named = [each for each in behind if each.host == host][:_MOST_BEHIND]
        return HostRow(
            self._manager.identity.hex(),
            self._answered,
            len(slots),
            self._oldest,
            max(1.0, LIFETIME_INTERVALS * self._interval_s),
            [(each.worker, each.pid, each.revision, each.why) for each in named],
            [slot.pid for slot in slots if slot.ear and slot.host == host],
            self._address.place,
            len(behind) - len(named),
            page,
        )

    def _try_to_write(self, row: HostRow) -> None:
        try:
            self._write(row)
        except StoreError as exc:
            self._failures.failed(exc)
        else:
            self._failures.end()
            self._known()
            self._written, self._written_at = row, self._clock()
            self._spread.end()
            self._owing = False

    def _write(self, row: HostRow) -> None:
        # Before it: a row whose writing fails may be there.
        self._leave_at_exit()
        if not self._left:
            self._store.report(self._report(row))

    def _report(self, row: HostRow) -> WorkerReport:
        return WorkerReport(
            app=self._app,
            host=os.uname().nodename,
            pid=self._address.number,
            worker_id=0,
            revision=self._manager.snapshot.revision,
            staleness_s=self._manager.reading.staleness_s,
            state=STATE,
            last_error=msgspec.json.encode(row).decode(),
            lifetime_s=KEPT_S,
        )
