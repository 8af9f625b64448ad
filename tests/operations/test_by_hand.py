"""Rows that were changed in the database without an entry in the history: a rollback names them."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable

import pytest

from uwsgi_waffle import operations
from uwsgi_waffle.cli import group
from uwsgi_waffle.masking import MASK

from ..support.rig import Worker

MakeWorker = Callable[..., Worker]
NOTICE = "changed in the database without an entry in the history, so this leaves them as they are"


def by_sql(worker: Worker, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(worker.folder / "waffle.db")) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    """A worker whose SITENAME was changed at revision 1 and, by hand, since."""
    worker = make_worker()
    worker.update(SITENAME="One", LIMIT=20)
    worker.update(LIMIT=30)
    worker.update(LIMIT=40)
    by_sql(worker, """UPDATE waffle_settings SET raw = '"Hand"' WHERE name = 'SITENAME'""")
    return worker


def test_rollback_logs_what_it_leaves_as_it_is(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "uwsgi_waffle"):
        assert worker.waffle.rollback(2) == 4
    assert caplog.messages == [f"rollback to 2: {NOTICE}: SITENAME"]
    worker.state.update_conf()
    assert dict(worker.waffle.conf) == {"SITENAME": "Hand", "LIMIT": 30, "TOKEN": "hush"}


def test_command_names_what_a_rollback_leaves_as_it_is(worker: Worker) -> None:
    run = worker.app.test_cli_runner().invoke
    for arguments in (["2", "--dry-run"], ["2"], ["4"]):
        result = run(group, ["rollback", *arguments])
        assert result.exit_code == 0
        assert result.stderr == f"{NOTICE}: SITENAME\n"
    assert run(group, ["rollback", "2", "LIMIT"]).stderr == ""
    assert run(group, ["rollback", "0", "--yes"]).stderr == ""
    assert worker.get("SITENAME") == "Shop"


def test_undo_takes_a_change_by_hand_for_a_later_one(worker: Worker) -> None:
    plan, overtaken = operations.plan_undo(worker.state, 1)
    assert set(plan.raws) == overtaken == {"SITENAME", "LIMIT"}
    by_sql(worker, "DELETE FROM waffle_history WHERE revision IN (2, 3)")
    by_sql(worker, "UPDATE waffle_settings SET raw = '20' WHERE name = 'LIMIT'")
    assert operations.plan_undo(worker.state, 1)[1] == {"SITENAME"}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM waffle_settings WHERE name = 'LIMIT'",
        "UPDATE waffle_settings SET raw = '5' WHERE name = 'LIMIT'",
        "UPDATE waffle_settings SET raw = 'no number' WHERE name = 'LIMIT'",
        "UPDATE waffle_settings SET raw = NULL WHERE name = 'LIMIT'",
        "INSERT INTO waffle_settings VALUES ('TOKEN', '\"secret\"', 1)",
    ],
)
def test_row_that_was_changed_in_any_way_is_found(worker: Worker, statement: str) -> None:
    by_sql(worker, statement)
    name = "TOKEN" if "TOKEN" in statement else "LIMIT"
    assert operations.changed_by_hand(worker.state) == {"SITENAME", name}
    assert operations.changed_by_hand(worker.state, ["LIMIT"]) == {"LIMIT"} & {name}


def test_what_the_history_can_not_know_is_not_named(worker: Worker) -> None:
    by_sql(worker, "INSERT INTO waffle_settings VALUES ('TOKEN', '\"secret\"', 1)")
    by_sql(worker, "INSERT INTO waffle_settings VALUES ('OTHERS', '1', 1)")
    by_sql(worker, "DELETE FROM waffle_history WHERE revision = 1")
    assert operations.changed_by_hand(worker.state) == set()


def test_restored_backup_and_a_text_that_means_the_same_are_not_named(worker: Worker) -> None:
    worker.update(TOKEN="secret", SITENAME="Two")
    by_sql(worker, "UPDATE waffle_settings SET raw = ' 40 ' WHERE name = 'LIMIT'")
    assert operations.changed_by_hand(worker.state) == set()
    backup = operations.back_up(worker.state, "shop")
    assert backup.settings["TOKEN"] == MASK
    dump = operations.plan_restore(worker.state, backup)
    worker.state.replace(dump, expected_revision=4)
    assert worker.get("TOKEN") == "secret"
    assert operations.changed_by_hand(worker.state) == set()
