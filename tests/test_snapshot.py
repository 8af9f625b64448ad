"""Snapshots: one revision, laid over by deltas, never spoilt by a stored text."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import pytest

from uwsgi_waffle import InvalidValueError, RevisionConflict, UnknownSettingError
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import (
    Change,
    Delta,
    Row,
    Snapshot,
    advance,
    diff,
    initial_snapshot,
    overlay,
)

DECLARATIONS = declare(
    {
        "A": {"desc": "a", "default": 1, "max": 100},
        "B": {"desc": "b", "default": "b"},
        "S": {"desc": "s", "default": "hush", "secret": True},
    }
)
INITIAL = initial_snapshot(DECLARATIONS)


def delta(revision: int, *rows: tuple[str, str | None], complete: bool = False) -> Delta:
    return Delta(revision, "epoch", tuple(Row(*row) for row in rows), complete)


def after(*deltas: Delta) -> Snapshot:
    snapshot = INITIAL
    for each in deltas:
        snapshot = advance(snapshot, each, DECLARATIONS)
    return snapshot


def test_initial_snapshot_holds_every_default_at_revision_zero() -> None:
    assert INITIAL.revision == 0
    assert dict(INITIAL) == {"A": 1, "B": "b", "S": "hush"}


def test_delta_changes_what_it_names_and_keeps_the_rest() -> None:
    snapshot = after(delta(1, ("A", "2")), delta(2, ("B", '"x"')))
    assert dict(snapshot) == {"A": 2, "B": "x", "S": "hush"}
    assert snapshot.revision == 2
    assert snapshot.stored == {"A": "2", "B": '"x"'}


def test_complete_delta_puts_what_it_does_not_name_to_its_default() -> None:
    snapshot = after(delta(1, ("A", "2")), delta(2, ("B", '"x"'), complete=True))
    assert dict(snapshot) == {"A": 1, "B": "x", "S": "hush"}
    assert snapshot.stored == {"B": '"x"'}


def test_row_without_raw_puts_a_setting_to_its_default() -> None:
    snapshot = after(delta(1, ("A", "2")), delta(2, ("A", None)))
    assert snapshot["A"] == 1
    assert snapshot.stored == {}


def test_stored_text_that_does_not_fit_serves_the_default_and_is_kept() -> None:
    snapshot = after(delta(1, ("A", "2")), delta(2, ("A", "101"), ("B", "nonsense")))
    assert (snapshot["A"], snapshot["B"]) == (1, "b")
    assert "at most 100" in snapshot.faults["A"]
    assert snapshot.stored == {"A": "101", "B": "nonsense"}


@pytest.mark.parametrize("cure", [("A", "3"), ("A", None)])
def test_fault_goes_with_the_value_that_made_it(cure: tuple[str, str | None]) -> None:
    assert after(delta(1, ("A", "101")), delta(2, cure)).faults == {}
    assert after(delta(1, ("A", "101")), delta(2, cure, complete=True)).faults == {}


def test_fault_of_a_setting_that_a_complete_read_no_longer_has_is_gone() -> None:
    assert after(delta(1, ("A", "101")), delta(2, ("B", '"x"'), complete=True)).faults == {}
    # The rows of a partial read say nothing of the others.
    assert after(delta(1, ("A", "101")), delta(2, ("B", '"x"'))).faults.keys() == {"A"}


def test_setting_that_is_no_longer_declared_is_kept_and_served_nowhere() -> None:
    snapshot = after(delta(1, ("GONE", "1")))
    assert "GONE" not in snapshot
    assert snapshot.stored == {"GONE": "1"}
    assert snapshot.faults == {}


def test_earlier_snapshot_stays_as_it_was() -> None:
    first = after(delta(1, ("A", "2")))
    advance(first, delta(2, ("A", "3"), ("B", "nonsense")), DECLARATIONS)
    overlay(first, {"A": 7})
    assert dict(first) == {"A": 2, "B": "b", "S": "hush"}
    assert (first.revision, first.faults) == (1, {})


def test_snapshot_is_a_read_only_mapping() -> None:
    snapshot: Any = INITIAL
    with pytest.raises(TypeError):
        snapshot["A"] = 2
    with pytest.raises(TypeError):
        del snapshot["A"]
    with pytest.raises(AttributeError):
        snapshot.revision = 7


def test_unknown_name_is_a_key_error_with_the_nearest_name() -> None:
    declarations = declare({"SITENAME": {"desc": "d", "default": ""}})
    snapshot = initial_snapshot(declarations)
    with pytest.raises(UnknownSettingError, match="did you mean SITENAME"):
        snapshot["SITENAM"]
    assert snapshot.get("SITENAM", 7) == 7
    assert "SITENAM" not in snapshot


def test_overlay_keeps_the_revision() -> None:
    snapshot = overlay(after(delta(4)), {"A": 9})
    assert (snapshot["A"], snapshot.revision) == (9, 4)


def test_diff_tells_old_new_and_revision_of_what_differs() -> None:
    new = after(delta(3, ("A", "2"), ("B", '"b"')))
    assert diff(INITIAL, new, ["A", "B", "GONE"], DECLARATIONS) == [Change("A", 1, 2, 3)]


def test_diff_takes_values_that_can_not_be_compared_for_different() -> None:
    declarations = declare({"D": {"desc": "d", "default": [Decimal(1)], "type": list[Decimal]}})
    old = initial_snapshot(declarations)
    new = advance(old, delta(1, ("D", '["sNaN"]')), declarations)
    assert [change.name for change in diff(old, new, ["D"], declarations)] == ["D"]


def test_no_value_is_in_the_repr_of_a_snapshot() -> None:
    assert repr(INITIAL) == "<Snapshot revision=0 settings=3>"


def test_secret_is_masked_in_the_repr_of_a_change() -> None:
    (change,) = diff(INITIAL, after(delta(1, ("S", '"psst"'))), ["S"], DECLARATIONS)
    assert "psst" not in repr(change)
    assert "hush" not in repr(change)
    assert (change.old, change.new) == ("hush", "psst")


@pytest.mark.parametrize(
    "error",
    [RevisionConflict(3, 4), UnknownSettingError({"A": "a"}), InvalidValueError({"A": "a"})],
)
def test_errors_survive_being_sent_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
