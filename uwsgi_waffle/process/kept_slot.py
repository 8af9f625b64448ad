"""The slot of a process that serves: taken, kept while its file may be replaced, and shown."""

from __future__ import annotations

from collections.abc import Callable

from ..ownership import scarcity
from ..snapshot import Snapshot
from .health import Health
from .page import Page, identity_of
from .reading import Reading
from .slots import Slot, Slots

#: the part that fails when this process has no slot
SLOT = "slot"


class KeptSlot:
    """The slot by which this process shows others of its host that it serves, and what.

    Any thread may call every method; none waits for another process, and none raises: what fails
    is shown in the state, and leaves the settings current.

    :param base: returns what was read last.
    """

    def __init__(
        self,
        slots: Slots,
        page: Page,
        reading: Reading,
        health: Health,
        base: Callable[[], Snapshot],
    ) -> None:
        self._slots = slots
        self._page = page
        self._reading = reading
        self._health = health
        self._base = base
        self._slot: Slot | None = None
        self._serves_as: tuple[str, int] | None = None
        self._has_left = False
        self._is_ear = False
        self._is_known = False
        self._is_failing = False

    @property
    def serves(self) -> bool:
        """Whether this process has, or should have, a slot."""
        return self._serves_as is not None

    @property
    def number(self) -> int | None:
        """The place of this process among the slots, if it has one."""
        slot = self._slot
        return None if slot is None else slot.number

    def serve_as(self, app: str, worker_id: int) -> None:
        """Take a slot, which is kept from now on, unless this process has left."""
        if not self._has_left:
            self._serves_as = app, worker_id
            self._take()

    def leave(self) -> None:
        """Give the slot back for good: this process ends, and may serve a request meanwhile."""
        self._has_left = True
        self._serves_as = self._slot = None

    def hear(self, *, ear: bool) -> None:
        """Show whether this process hears for its host what other hosts announce."""
        if ear != self._is_ear:
            self._is_ear = ear
            self.show()

    def know(self) -> None:
        """Show that other hosts know of this one."""
        if not self._is_known:
            self._is_known = True
            self.show()

    def show(self) -> bool:
        """Show how this process does; writes only what is new.

        :return: whether that is shown now.
        """
        slot, base = self._slot, self._base()
        if slot is None:
            return False
        try:
            slot.show(
                failing=self._reading.failing,
                uses_page=not self._page.problem,
                identity=identity_of(base),
                revision=base.revision,
                ear=self._is_ear,
                known=self._is_known,
            )
        except OSError as exc:
            self._failed(exc)
            return False
        return True

    def keep(self, oldest_held: Callable[[], int]) -> None:
        """Take another slot if the file was replaced, and answer what is asked; by the watcher.

        :param oldest_held: returns the oldest revision that a running request holds.
        """
        if not self.serves:
            return
        slot = self._slot
        is_there = slot is not None and slot.is_there
        if not is_there:
            self._take()
            slot = self._slot
        asked = self._page.asked
        if slot is not None and any(asked) and asked != slot.answered:
            try:
                slot.answer(asked, oldest_held())
            except OSError as exc:
                self._failed(exc)
                return
        if self._is_failing and is_there and self.show():
            # Its folder was away for a while, or its disk full.
            self._worked()

    def _take(self) -> None:
        serves_as = self._serves_as
        if serves_as is None:
            return
        try:
            self._slot = self._slots.take(*serves_as)
        except OSError as exc:
            self._failed(exc)
            return
        if self._has_left:
            # By another thread, since this one looked.
            self._slot = None
        elif self.show():
            self._worked()

    def _worked(self) -> None:
        if self._is_failing:
            self._is_failing = False
            self._health.works(SLOT)

    def _failed(self, exc: OSError) -> None:
        self._is_failing = True
        fix = scarcity(exc) or "make it and its folder writable for every worker"
        text = (
            f"{self._slots.path} can't be used ({exc.strerror or exc}): {fix}, so that wait() "
            "knows this process"
        )
        self._health.failed(SLOT, text, harmless=True)
