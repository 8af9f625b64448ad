"""The watcher's other tasks harm neither the watcher nor each other."""

from __future__ import annotations

from pathlib import Path

from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.process.watcher import Watcher

from ..support.rig import Rig, StubNotifier, wait_until


class Recorded:
    """A chore that counts, and fails while it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.turns = 0
        self.ends = 0

    def turn(self) -> None:
        self.turns += 1
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        self.ends += 1
        if self.error is not None:
            raise self.error


class Broken(Recorded):
    pass


def test_failing_chore_is_shown_and_delays_nothing(folder: Path) -> None:
    rig = Rig(folder)
    notifier = StubNotifier()
    broken, sound = Broken(), Recorded()
    broken.error = ZeroDivisionError("its own fault")
    watcher = Watcher(rig.manager, notifier, poll_interval_s=0.002, tasks=[broken, sound])
    watcher.start()
    try:
        wait_until(lambda: sound.turns > 2)
        health = rig.manager.health
        assert health.failing() == {"Broken": "its own fault"}
        assert health.state.value == "VALID"
        rig.changed_elsewhere(SITENAME="New")
        notifier.put(Notice(1))
        wait_until(lambda: rig.config["SITENAME"] == "New")
        broken.error = None
        wait_until(lambda: health.failing() == {})
        broken.error = ZeroDivisionError("its own fault")
    finally:
        watcher.stop()
    assert (broken.ends, sound.ends) == (1, 1)
