"""The numbers of each worker for uWSGI's stats server."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from uwsgi_waffle import StoreUnavailable
from uwsgi_waffle.ini import snippet_text
from uwsgi_waffle.reporting.uwsgi_metrics import METRICS, UwsgiMetrics
from uwsgi_waffle.runtime import set_metric

from ..support.rig import Rig
from ..support.steps import calls_of


class Metering:
    """Metrics with everything around them in a test's hand."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.calls: list[tuple[str, int]] = []
        self.metrics = UwsgiMetrics(
            self.rig.status,
            worker_id=2,
            set_metric=lambda name, value: self.calls.append((name, value)),
        )

    def turn(self, seconds: float = 0.0) -> dict[str, int]:
        """Let time go by and return what was set in this turn, by name."""
        self.rig.clock.advance(seconds)
        self.calls.clear()
        self.metrics.turn()
        return dict(self.calls)


@pytest.fixture
def metering(folder: Path) -> Metering:
    return Metering(folder)


def test_first_turn_sets_every_metric_that_the_snippet_declares(metering: Metering) -> None:
    assert metering.turn() == {
        "waffle.worker2.revision": 0,
        "waffle.worker2.refreshes": 0,
        "waffle.worker2.failures": 0,
        "waffle.worker2.last_read": -1,
    }
    for name in METRICS:
        assert (
            f"metric = name=waffle.worker%(_).{name},type=absolute,initial_value=-1\n"
            in snippet_text("metrics")
        )


def test_only_what_changed_is_set(metering: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uwsgi_waffle.process.reading.time.time", lambda: 5.0)
    metering.rig.manager.refresh()
    metering.turn()
    metering.rig.update(LIMIT=5)
    assert metering.turn() == {"waffle.worker2.revision": 1, "waffle.worker2.refreshes": 2}
    assert metering.turn() == {}


def test_time_of_the_last_read_is_set_and_stays(
    metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uwsgi_waffle.process.reading.time.time", lambda: 1_800_000_000.9)
    metering.rig.manager.refresh()
    assert metering.turn()["waffle.worker2.last_read"] == 1_800_000_000
    assert metering.turn(60.0) == {}


def test_failed_reads_are_counted(metering: Metering) -> None:
    metering.turn()
    metering.rig.memory.error = StoreUnavailable("down")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            metering.rig.manager.refresh()
    assert metering.turn() == {"waffle.worker2.failures": 2}


def test_turn_without_a_change_does_next_to_nothing(metering: Metering) -> None:
    metering.turn()
    assert calls_of(metering.metrics.turn) < 40


def test_without_uwsgi_nothing_happens() -> None:
    set_metric("waffle.worker1.revision", 1)


def test_uwsgi_without_metrics_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(worker_id=lambda: 1))
    set_metric("waffle.worker1.revision", 1)


def test_metric_goes_to_uwsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    fake = SimpleNamespace(worker_id=lambda: 1, metric_set=lambda *call: calls.append(call))
    monkeypatch.setitem(sys.modules, "uwsgi", fake)
    set_metric("waffle.worker1.revision", 7)
    assert calls == [("waffle.worker1.revision", 7)]
