"""Health: the state, and each fault logged once."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pytest
from flask import Flask, jsonify

from uwsgi_waffle import State
from uwsgi_waffle.backoff import Backoff
from uwsgi_waffle.process.health import (
    Failure,
    Health,
    Status,
    describe_source,
    without_times,
)


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
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert caplog.messages == [
        "store fails: down",
        "store fails: locked",
        "store works again after 0 s",
    ]
    fields = [
        (vars(record)["waffle_event"], vars(record)["waffle_error"]) for record in caplog.records
    ]
    assert fields == [("fails", "down"), ("fails", "locked"), ("works", "locked")]
    assert {vars(record)["waffle_part"] for record in caplog.records} == {"store"}


def test_last_error_stays_after_recovery_with_its_times() -> None:
    health = Health()
    health.failed("store", "first")
    health.failed("store", ValueError())
    failing = health.last_error
    assert failing is not None
    assert (failing.part, failing.error, failing.ended_at) == ("store", "ValueError", None)
    health.works("store")
    over = health.last_error
    assert over is not None
    assert health.failing() == {}
    # From the part's first error on, whose text has changed since.
    assert over.began_at == failing.began_at
    assert over.ended_at is not None
    assert over.ended_at >= over.began_at


def test_failure_that_was_over_before_another_began_leaves_the_newer_one() -> None:
    health = Health()
    health.failed("store", "down")
    health.failed("redis", "away")
    health.works("store")
    assert health.last_error is not None
    assert (health.last_error.part, health.last_error.ended_at) == ("redis", None)


def test_harmless_failure_hides_no_other_one() -> None:
    health = Health()
    health.failed("metrics", "odd", harmless=True)
    assert health.last_error is not None
    assert health.last_error.part == "metrics"
    health.failed("store", "down")
    health.failed("metrics", "odder", harmless=True)
    assert health.last_error.part == "store"
    assert health.failing() == {"metrics": "odder", "store": "down"}


def test_text_of_a_failure_has_its_times_which_can_be_left_out() -> None:
    began = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
    failing = Failure("store", "gone (x)", began)
    assert not failing.harmless
    assert str(failing) == "store: gone (x) (since 2026-03-04 05:06:07 UTC)"
    over = Failure("store", "gone (x)", began, began.replace(hour=8))
    assert str(over) == "store: gone (x) (from 2026-03-04 05:06:07 to 2026-03-04 08:06:07 UTC)"
    assert over.text(9) == "store: g… (from 2026-03-04 05:06:07 to 2026-03-04 08:06:07 UTC)"
    assert {without_times(str(each)) for each in (failing, over)} == {"store: gone (x)"}


def test_error_is_masked_before_it_is_kept_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.failed("store", "postgresql://ann:pass@db refused")
    assert health.failing() == {"store": "postgresql://ann:***@db refused"}
    assert "pass" not in caplog.text + str(health.last_error)


@pytest.mark.parametrize(
    ("source", "served"),
    [
        ("store", "the settings of revision 7, as last read from the store"),
        ("master", "the settings of revision 7, as its parent process read them before the fork"),
        ("defaults", "the declared defaults"),
        ("/x.last", "the last known values of revision 7 from /x.last"),
    ],
)
def test_what_is_served_while_the_store_is_down_is_said_as_it_is(source: str, served: str) -> None:
    assert describe_source(source, 7) == served


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


def test_status_can_be_answered_by_a_view_as_it_is() -> None:
    health = Health()
    health.failed("store", "away")
    with Flask(__name__).test_request_context():
        answer = jsonify(health.last_error).get_json()
    assert (answer["part"], answer["error"]) == ("store", "away")


@pytest.mark.parametrize(
    ("fails", "source", "served"),
    [
        (False, "store", "the current settings"),
        (True, "store", "the settings of revision 7, as last read from the store"),
        (
            False,
            "master",
            "the settings of revision 7, as its parent process read them before the fork",
        ),
        (True, "defaults", "the declared defaults"),
    ],
)
def test_status_says_what_is_served(fails: bool, source: str, served: str) -> None:
    state = State.INTERRUPTED if fails else State.VALID
    now = datetime.now(timezone.utc)
    status = Status(
        *(state, now, 7, 7, source, 0.0, 0.0, None, {}, {}, 1, 0, "none", False),
        *(1, 0, False, None),
    )
    assert status.served == served


def test_log_says_which_failures_are_harmless(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.failed("metrics", "odd", harmless=True)
    health.failed("store", "down")
    assert caplog.messages == [
        "metrics fails, which leaves the settings current: odd",
        "store fails: down",
    ]
