"""Rows that another program has spoilt: left out and counted, by each store and each list."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import peewee
import pytest

from uwsgi_waffle import StoreError, operations
from uwsgi_waffle.cli import group
from uwsgi_waffle.doctor.workers import reports_of
from uwsgi_waffle.masking import counted
from uwsgi_waffle.settings.raws import MAX_BYTES
from uwsgi_waffle.stores import HistoryEntry, Store, WorkerReport
from uwsgi_waffle.stores.peewee import PeeweeWaffleStore
from uwsgi_waffle.stores.soundness import Found
from uwsgi_waffle.stores.sqlalchemy import AlchemyWaffleStore
from uwsgi_waffle.stores.sqlite import SqliteStore

from ..support.rig import MemoryStore, Worker

MakeWorker = Callable[..., Worker]
STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda path: SqliteStore(path),
    "sqlalchemy": lambda path: AlchemyWaffleStore(f"sqlite:///{path}"),
    "peewee": lambda path: PeeweeWaffleStore(peewee.SqliteDatabase(str(path))),
}
REPORT = WorkerReport("shop", "host", 1, 1, 1, 0.5, "VALID", None, 30.0)


def by_sql(folder: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "waffle.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.fixture(params=STORES)
def worker(request: pytest.FixtureRequest, make_worker: MakeWorker, folder: Path) -> Worker:
    """A worker with twelve revisions, of which the newest, and one in the middle, are spoilt."""
    worker = make_worker(store=STORES[request.param](folder / "waffle.db"))
    for limit in range(1, 13):
        worker.update(LIMIT=limit)
    by_sql(
        folder,
        "UPDATE waffle_history SET at = 'a while ago' WHERE revision = 12",
        "UPDATE waffle_history SET at = 5 WHERE revision = 6",
        "UPDATE waffle_history SET author = 7.5 WHERE revision = 3",
    )
    return worker


def test_damaged_entries_are_left_out_and_counted(worker: Worker) -> None:
    items = operations.history(worker.state)
    # What a column of text holds is a text in some databases.
    assert [item.revision for item in items if item.revision != 3] == [
        *(11, 10, 9, 8, 7),
        *(5, 4, 2, 1),
    ]
    assert len(items) + items.damaged == 12
    assert [item.revision for item in operations.history(worker.state, limit=3)] == [11, 10, 9]
    run = worker.app.test_cli_runner().invoke
    shown = run(group, ["history"])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr == f"left out, because damaged: {counted(items.damaged, 'row')}\n"
    assert run(group, ["rollback", "7"]).exit_code == 0
    assert worker.get("LIMIT") == 7
    assert len(operations.changed_by_hand(worker.state)) == 0


def test_damaged_reports_are_left_out_and_counted(worker: Worker, folder: Path) -> None:
    store = worker.state.store
    for pid in (1, 2, 3):
        store.report(REPORT._replace(pid=pid))
    by_sql(
        folder,
        "UPDATE waffle_workers SET revision = 'many' WHERE pid = 1",
        "UPDATE waffle_workers SET staleness_s = 'long' WHERE pid = 2",
    )
    assert [report.pid for report in worker.waffle.workers()] == [3]
    assert [report.pid for report in reports_of(store)] == [3]
    shown = worker.app.test_cli_runner().invoke(group, ["workers", "--json"])
    assert [report["pid"] for report in json.loads(shown.stdout)["workers"]] == [3]
    assert shown.stderr == "left out, because damaged: 2 reports\n"


class SpoiltStore(MemoryStore):
    """A user's own store, which checks nothing."""

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        now: Any = datetime.now(timezone.utc)
        entry = HistoryEntry(2, "LIMIT", "1", "2", None, None, now)
        broken: Any = "now"
        return [entry, entry._replace(at=broken), entry._replace(revision=1)][:limit]

    def workers(self, max_age_s: float) -> list[WorkerReport]:
        broken: Any = None
        return [REPORT, REPORT._replace(state=broken)]


@pytest.mark.parametrize("revision", ["'abc'", "-3", "1.5", str(2**63 - 1)])
def test_revision_that_is_none_leaves_what_is_served_and_is_an_error_of_the_store(
    worker: Worker, folder: Path, revision: str
) -> None:
    by_sql(folder, f"UPDATE waffle_meta SET revision = {revision}")
    os.utime(worker.state.options.watcher_file)
    assert worker.get("LIMIT") == 12
    for _ in range(2):
        with pytest.raises(StoreError):
            worker.update(LIMIT=5)
    assert worker.get("LIMIT") == 12
    if revision != str(2**63 - 1):
        with pytest.raises(StoreError, match="which is no revision"):
            worker.state.store.dump()


def test_what_an_own_store_returns_is_looked_at_too(make_worker: MakeWorker) -> None:
    worker = make_worker(store=SpoiltStore())
    items = operations.history(worker.state)
    assert ([item.revision for item in items], items.damaged) == ([2, 1], 1)
    reports = worker.waffle.workers()
    assert isinstance(reports, Found)
    assert (reports, reports.damaged) == ([REPORT], 1)


def test_raw_text_that_is_too_long_is_a_fault_and_is_not_held(worker: Worker) -> None:
    long = json.dumps("x" * MAX_BYTES)
    worker.state.store.write({"SITENAME": long, "GONE": long})
    worker.waffle.refresh()
    assert worker.get("SITENAME") == "Shop"
    fault = worker.waffle.status().faults["SITENAME"]
    assert "it has 1,048,578 bytes as JSON, and at most 1,048,576 are kept" in fault
    assert sum(map(len, worker.state.snapshot.stored.values())) < 1000
    shown = worker.app.test_cli_runner().invoke(group, ["history", "--limit", "1"])
    assert len(shown.stdout) < 2000
    # It is put right like any fault.
    worker.waffle.reset("SITENAME")
    assert worker.waffle.status().faults == {}
    result = worker.app.test_cli_runner().invoke(group, ["prune", "--yes"])
    assert result.exit_code == 0, result.output
    assert "GONE" not in worker.state.snapshot.stored
