"""Notices that carry the rows of a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uwsgi_waffle import NotifierError
from uwsgi_waffle.notifiers import Notice
from uwsgi_waffle.snapshot import Delta, Row

from ..support.rig import Rig, StubNotifier, Worker


class Carrier(StubNotifier):
    """Keeps the deltas that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: list[Delta] = []

    def announce_rows(self, delta: Delta) -> None:
        if self.error is not None:
            raise self.error
        self.deltas.append(delta)


def allow(names: Any) -> bool:
    return True


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A watcher on another host: it has a watch file of its own."""
    rig = Rig(tmp_path)
    rig.update(LIMIT=20)
    rig.manager.begin_request()
    return rig


def carried(revision: int, epoch: str = "first", **raws: str | None) -> Notice:
    rows = tuple(Row(name, raw) for name, raw in raws.items())
    return Notice(revision, Delta(revision, epoch, rows, complete=False))


def test_watcher_that_is_one_revision_behind_reads_no_store(rig: Rig) -> None:
    rig.memory.write({"LIMIT": "30"})
    before = rig.memory.calls["read_since"]
    rig.manager.follow(carried(2, LIMIT="30"))
    assert rig.config["LIMIT"] == 30
    assert rig.manager.snapshot.revision == 2
    assert rig.memory.calls["read_since"] == before


@pytest.mark.parametrize(
    "notice",
    [
        carried(3, LIMIT="30"),
        carried(2, epoch="another", LIMIT="30"),
        Notice(2),
    ],
    ids=["two behind", "another life of the store", "no rows"],
)
def test_any_other_notice_makes_it_read_the_store(rig: Rig, notice: Notice) -> None:
    rig.memory.write({"LIMIT": "25"})
    if notice.revision == 3:
        rig.memory.write({"LIMIT": "30"})
    rig.manager.follow(notice)
    assert rig.config["LIMIT"] == (30 if notice.revision == 3 else 25)
    assert rig.manager.snapshot.revision == rig.memory.revision


def test_store_has_the_last_word_over_a_forged_notice(rig: Rig) -> None:
    rig.manager.follow(carried(2, LIMIT="999", SITENAME='"forged"'))
    assert rig.config["LIMIT"] == 999
    # The real revision 2 changed something else.
    rig.memory.write({"TOKEN": '"new"'})
    rig.clock.advance(10)
    rig.manager.follow(None)
    assert (rig.config["LIMIT"], rig.config["SITENAME"]) == (20, "Shop")
    assert rig.config["TOKEN"] == "new"


def test_forged_notice_of_a_change_that_never_was_is_undone(rig: Rig) -> None:
    rig.manager.follow(carried(2, LIMIT="999"))
    rig.clock.advance(10)
    rig.manager.follow(None)
    assert (rig.config["LIMIT"], rig.manager.snapshot.revision) == (20, 1)


def test_row_that_does_not_fit_its_declaration_is_a_fault_like_any_other(rig: Rig) -> None:
    rig.manager.follow(carried(2, LIMIT='"many"'))
    assert rig.config["LIMIT"] == 10
    assert "LIMIT" in rig.manager.snapshot.faults


def test_change_is_announced_with_its_rows(tmp_path: Path) -> None:
    remote = Carrier()
    rig = Rig(tmp_path, remote=remote, may_carry=allow)
    rig.update(LIMIT=30, SITENAME="x")
    rows = (Row("LIMIT", "30"), Row("SITENAME", '"x"'))
    assert remote.deltas == [Delta(1, "first", rows, complete=False)]


def test_rows_are_not_carried_unless_that_is_allowed(tmp_path: Path) -> None:
    remote = Carrier()
    rig = Rig(tmp_path, remote=remote)
    rig.update(LIMIT=30)
    assert (remote.deltas, remote.announced) == ([], [1])


def test_what_could_not_be_announced_is_told_again_without_rows(tmp_path: Path) -> None:
    remote = Carrier()
    rig = Rig(tmp_path, remote=remote, may_carry=allow)
    remote.error = NotifierError("away")
    rig.update(LIMIT=30)
    remote.error = None
    rig.clock.advance(2)
    rig.manager.follow(None)
    assert (remote.deltas, remote.announced) == ([], [1])


@pytest.mark.parametrize(
    ("config", "names", "allowed"),
    [
        ({}, ["LIMIT"], False),
        ({"WAFFLE_REDIS_ROWS": True}, ["LIMIT"], True),
        ({"WAFFLE_REDIS_ROWS": True}, ["LIMIT", "TOKEN"], False),
        ({"WAFFLE_REDIS_ROWS": True, "WAFFLE_REDIS_SECRETS": True}, ["TOKEN"], True),
    ],
)
def test_secrets_are_carried_only_if_that_is_said(
    tmp_path: Path, config: dict[str, Any], names: list[str], allowed: bool
) -> None:
    worker = Worker(tmp_path, **config)
    assert worker.state._may_carry(names) is allowed
