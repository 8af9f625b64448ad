"""Health: the state, and each fault logged once."""

from __future__ import annotations

import random

import pytest

from uwsgi_waffle import State
from uwsgi_waffle.backoff import Backoff
from uwsgi_waffle.process.health import Health


def test_state_goes_from_initializing_by_interrupted_to_valid() -> None:
    health = Health()
    assert health.state == "INITIALIZING"
    health.failed("store", "down")
    assert health.state == "INTERRUPTED"
    health.works("store")
    assert health.state == "INITIALIZING"
    health.initialized()
    assert health.state == "VALID"


def test_state_is_valid_only_when_nothing_fails_any_more() -> None:
    health = Health()
    health.initialized()
    health.failed("store", "down")
    health.failed("redis", "down")
    health.works("store")
    assert health.state == "INTERRUPTED"
    assert health.failing() == {"redis": "down"}
    health.works("redis")
    assert health.state == "VALID"


def test_off_hides_faults_until_it_is_switched_on_again() -> None:
    health = Health()
    health.initialized()
    health.switch(off=True)
    health.failed("store", "down")
    assert health.state == "OFF"
    health.switch(off=False)
    assert health.state == "INTERRUPTED"


def test_since_changes_with_the_state_only() -> None:
    health = Health()
    health.failed("store", "down")
    since = health.since
    health.failed("store", "still down")
    assert health.since is since
    health.works("store")
    assert health.since > since
    assert health.since.utcoffset() is not None


def test_each_fault_is_logged_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "uwsgi_waffle")
    health = Health()
    for _ in range(5):
        health.failed("store", "down")
    health.failed("store", "locked")
    for _ in range(5):
        health.works("store")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert "down" in caplog.messages[0]
    assert "locked" in caplog.messages[1]
    assert caplog.messages[2] == "store works again"


def test_last_error_stays_after_recovery() -> None:
    health = Health()
    health.failed("store", ValueError())
    health.works("store")
    assert health.last_error == "store: ValueError"
    assert health.failing() == {}


def test_failing_is_a_copy() -> None:
    health = Health()
    health.failing()["store"] = "x"
    assert health.failing() == {}


def test_state_is_written_as_its_name() -> None:
    assert State("VALID") == "VALID"


def test_backoff_grows_to_its_cap_and_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    backoff = Backoff(first_s=0.1, cap_s=2.0)
    waits = [backoff.next_s() for _ in range(7)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.1)


def test_backoff_survives_hours_of_outage() -> None:
    backoff = Backoff(cap_s=2.0)
    assert all(0 < backoff.next_s() <= 2.0 for _ in range(5000))


def test_backoff_is_jittered_by_half() -> None:
    backoff = Backoff(first_s=2.0, cap_s=2.0)
    waits = {backoff.next_s() for _ in range(100)}
    assert len(waits) > 50
    assert min(waits) >= 1.0
    assert max(waits) <= 2.0
