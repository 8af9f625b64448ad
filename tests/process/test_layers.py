"""The settings of one process in layers: what was read, overrides, what ``app.config`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle.process.claims import Claims
from uwsgi_waffle.process.layers import Layers
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import Delta, Row, initial_snapshot

from ..support.rig import CONFS


class Layered:
    """Layers with the ``app.config`` that they change."""

    def __init__(self, folder: Path) -> None:
        declarations = declare(CONFS)
        self.applied: list[dict[str, Any]] = []
        self.config = declarations.defaults()
        self.layers = Layers(
            declarations, initial_snapshot(declarations), self._apply, Claims(folder / "said")
        )

    def _apply(self, values: Mapping[str, Any]) -> None:
        self.applied.append(dict(values))
        self.config.update(values)

    def take(self, revision: int, *, complete: bool = False, mark: str = "m", **raws: str) -> bool:
        rows = tuple(Row(name, raw) for name, raw in raws.items())
        return self.layers.take(Delta(revision, "e", rows, complete=complete, mark=mark))


@pytest.fixture
def layered(tmp_path: Path) -> Layered:
    return Layered(tmp_path)


def test_what_is_taken_is_applied_when_it_may_be(layered: Layered) -> None:
    layers = layered.layers
    settled = [layers.settled]
    assert layers.base is layers.newest is layers.applied
    assert layered.take(1, complete=True, LIMIT="7") is True
    settled.append(layers.settled)
    assert layers.newest is layers.base is not layers.applied
    assert (layers.newest["LIMIT"], layered.config["LIMIT"]) == (7, 10)
    changes = [(each.name, each.old, each.new) for each in layers.apply()]
    assert changes == [("LIMIT", 10, 7)]
    assert layers.applied is layers.newest
    assert layered.config["LIMIT"] == 7
    assert [*settled, layers.settled] == [True, False, True]


def test_delta_of_the_same_state_is_nothing_new(layered: Layered) -> None:
    layered.take(1, complete=True, LIMIT="7")
    layered.layers.apply()
    base = layered.layers.base
    assert layered.take(1) is False
    assert layered.layers.base is base
    assert layered.layers.settled
    # A complete one, or one with another mark, is another state.
    assert layered.take(1, mark="other")
    assert layered.take(1, mark="other", complete=True)


def test_only_what_a_delta_names_is_put_into_the_app(layered: Layered) -> None:
    layered.take(1, complete=True, LIMIT="7")
    layered.layers.apply()
    layered.take(2, SITENAME='"x"', UNDECLARED="1")
    layered.take(3, LIMIT="8")
    assert {(each.name, each.new) for each in layered.layers.apply()} == {
        ("SITENAME", "x"),
        ("LIMIT", 8),
    }
    assert layered.layers.apply() == []
    assert layered.applied == [
        {"SITENAME": "Shop", "LIMIT": 7, "TOKEN": "hush"},
        {"SITENAME": "x", "LIMIT": 8},
        {},
    ]


def test_override_lies_over_what_is_read_until_it_is_taken_away(layered: Layered) -> None:
    layers = layered.layers
    # Equal, and still two.
    first, second = {"LIMIT": 99}, {"LIMIT": 99}
    layers.override(first, on=True)
    layers.override(second, on=True)
    layers.apply()
    layered.take(1, complete=True, LIMIT="7", SITENAME='"x"')
    layers.apply()
    assert (layered.config["LIMIT"], layered.config["SITENAME"]) == (99, "x")
    assert (layers.base["LIMIT"], layers.newest["LIMIT"]) == (7, 99)
    layers.override(first, on=False)
    layers.apply()
    assert layered.config["LIMIT"] == 99
    layers.override(second, on=False)
    assert [(each.name, each.old, each.new) for each in layers.apply()] == [("LIMIT", 99, 7)]
    assert layers.newest is layers.base


def test_later_override_wins_whatever_ends_first(layered: Layered) -> None:
    layers = layered.layers
    first, second = {"LIMIT": 98}, {"LIMIT": 99}
    layers.override(first, on=True)
    layers.override(second, on=True)
    assert layers.newest["LIMIT"] == 99
    layers.override(first, on=False)
    assert layers.newest["LIMIT"] == 99


def test_fault_of_a_stored_value_and_its_end_are_logged_once(
    layered: Layered, caplog: pytest.LogCaptureFixture
) -> None:
    layered.take(1, complete=True, LIMIT="2000", SITENAME='"x"')
    layered.take(2, SITENAME='"y"')
    (fault,) = caplog.messages
    assert fault.startswith("the stored value of LIMIT does not fit its declaration")
    assert layered.layers.newest["LIMIT"] == 10
    # Another fault, of which the first is no end.
    layered.take(3, LIMIT='"text"')
    assert len(caplog.messages) == 2
    assert caplog.messages[1] != fault
    layered.take(4, LIMIT="5")
    layered.take(5, LIMIT="6")
    assert caplog.messages[2:] == ["nothing is wrong with the stored value of LIMIT any more"]
    # It may come again, and is said again.
    layered.take(6, LIMIT="2000")
    assert len(caplog.messages) == 4


def test_receivers_get_changes_in_order_of_name_in_every_worker(tmp_path: Path) -> None:
    names = [f"SETTING_{number}" for number in range(9, 0, -1)]
    declarations = declare({name: {"desc": "one of many", "default": 0} for name in names})
    layers = Layers(
        declarations, initial_snapshot(declarations), lambda values: None, Claims(tmp_path / "said")
    )
    layers.take(Delta(1, "e", tuple(Row(name, "1") for name in names), complete=False, mark="m"))
    assert [change.name for change in layers.apply()] == sorted(names)
