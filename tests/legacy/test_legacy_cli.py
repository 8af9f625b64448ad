"""``flask waffle import-legacy``: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import base64
import os
import pickle
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from uwsgi_waffle import NotifierError
from uwsgi_waffle.cli import group
from uwsgi_waffle.notifiers.file import FileNotifier

from ..stores.test_quickstart_alchemy import AlchemySite
from ..stores.test_quickstart_peewee import PeeweeSite
from ..support.quickstart import Site
from ..support.rig import CONFS, Worker

SECRET = "open-sesame"


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def legacy(value: object) -> str:
    return base64.b64encode(pickle.dumps(value, 0)).decode()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOGNAME", "ann")


@pytest.fixture
def worker(folder: Path) -> Iterator[Worker]:
    worker = Worker(folder)
    yield worker
    worker.close()


@pytest.fixture(params=[AlchemySite, PeeweeSite])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    site: Site = request.param(tmp_path)
    yield site
    site.close()


def run(app: Worker | Site, *arguments: str, status: int = 0, **options: Any) -> Result:
    runner = app.app.test_cli_runner()
    result = runner.invoke(group, ["import-legacy", *arguments], **options)
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


def old_table(folder: Path, values: Mapping[str, object]) -> list[str]:
    """Make a table of the ancestor's; return the options that name it."""
    connection = sqlite3.connect(folder / "old.db")
    connection.execute("DROP TABLE IF EXISTS confs")
    connection.execute("CREATE TABLE confs (id INTEGER PRIMARY KEY, key TEXT, value TEXT)")
    connection.executemany(
        "INSERT INTO confs (key, value) VALUES (?, ?)",
        [(name, legacy(value)) for name, value in values.items()],
    )
    connection.commit()
    connection.close()
    return ["--table", "confs", "--url", f"sqlite:///{folder}/old.db"]


def test_an_old_table_is_imported_as_one_change(worker: Worker, folder: Path) -> None:
    options = old_table(folder, {"SITENAME": "New", "LIMIT": 10, "OLD": 1})
    result = run(worker, *options, "--reason", "moving")
    assert result.stdout.splitlines() == [
        "NAME      VALUE  ROW",
        "LIMIT     10     unchanged",
        "OLD              undeclared",
        'SITENAME  "New"  import',
        "1 import, 1 unchanged, 1 undeclared",
        "revision 1",
    ]
    assert worker.get("SITENAME") == "New"
    (entry,) = worker.waffle.history()
    assert (entry.author, entry.reason, entry.name) == ("ann", "moving", "SITENAME")


def test_running_workers_serve_what_was_imported(worker: Worker, folder: Path) -> None:
    with_command = Worker(folder)
    assert worker.get("LIMIT") == 10
    run(with_command, *old_table(folder, {"LIMIT": 20, "SITENAME": "New"}))
    assert (worker.get("LIMIT"), worker.get("SITENAME")) == (20, "New")
    with_command.close()


def test_the_rows_of_the_apps_own_model_are_rewritten_in_place(site: Site) -> None:
    site.put_row("SITENAME", legacy("Café"))
    site.put_row("MAX_FILESIZE", legacy(1000))
    site.put_row("GONE", legacy("x"))
    with site.app.app_context():
        site.state.update_conf()
    # Until then the defaults are served.
    assert site.get("/all") == {"MAX_FILESIZE": 1000, "SITENAME": "Waffle"}
    result = run(site)
    assert "1 undeclared" in result.stdout
    assert "1 default" in result.stdout
    assert "1 import" in result.stdout
    assert result.stdout.endswith("revision 1\n")
    assert site.get("/all") == {"MAX_FILESIZE": 1000, "SITENAME": "Café"}
    assert site.rows() == {"SITENAME": '"Café"', "GONE": legacy("x")}
    again = run(site)
    assert again.stdout.endswith("nothing to change, the settings are at revision 1\n")


def test_a_table_from_a_backup_is_imported_again(site: Site, tmp_path: Path) -> None:
    site.put_row("SITENAME", legacy("Café"))
    run(site)
    site.update("Newer", 5000)
    table = "confs" if isinstance(site, AlchemySite) else "confmodel"
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute(f"DELETE FROM {table}")
    connection.execute(
        f"INSERT INTO {table} (key, value) VALUES (?, ?)", ("SITENAME", legacy("Café"))
    )
    connection.commit()
    connection.close()
    assert run(site).stdout.endswith("revision 3\n")
    assert site.get("/all") == {"MAX_FILESIZE": 1000, "SITENAME": "Café"}


def test_one_refused_row_stops_all(worker: Worker, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    options = old_table(
        folder, {"SITENAME": "New", "LIMIT": Touch(marker), "TOKEN": 987654321, "X": Touch(marker)}
    )
    for more in ([], ["--dry-run"]):
        result = run(worker, *options, *more, status=1)
        assert "1 import, 1 undeclared, 2 refused" in result.stdout
        assert (
            "LIMIT: refused: it refers to posix.system, which is not a plain type\n"
            in result.stderr
        )
        assert "TOKEN: refused: it does not fit its declaration" in result.stderr
        assert "987654321" not in result.output
        assert result.stderr.endswith(
            "Error: 2 refused, nothing was written: fix or delete these rows, or leave them out "
            "by --skip-refused\n"
        )
        assert worker.waffle.history() == []
    assert not marker.exists()


def test_refused_rows_can_be_left_out(worker: Worker, folder: Path, tmp_path: Path) -> None:
    options = old_table(folder, {"SITENAME": "New", "LIMIT": "20"})
    result = run(worker, *options, "--skip-refused")
    assert (
        "LIMIT: refused: it does not fit its declaration: it must be an int, got a string"
        in result.stderr
    )
    assert result.stdout.endswith("revision 1\n")
    assert (worker.get("SITENAME"), worker.get("LIMIT")) == ("New", 10)


def test_a_dry_run_writes_nothing(worker: Worker, folder: Path) -> None:
    options = old_table(folder, {"SITENAME": "New"})
    result = run(worker, *options, "--dry-run")
    assert 'SITENAME  "New"  import' in result.stdout
    assert result.stdout.endswith("not written (--dry-run), the settings are at revision 0\n")
    assert worker.waffle.history() == []
    assert worker.get("SITENAME") == "Shop"


def test_a_dry_run_leaves_the_apps_own_rows(site: Site) -> None:
    site.put_row("SITENAME", legacy("Café"))
    run(site, "--dry-run")
    assert site.rows() == {"SITENAME": legacy("Café")}


def test_secrets_are_masked(worker: Worker, folder: Path) -> None:
    options = old_table(folder, {"TOKEN": SECRET})
    result = run(worker, *options, "--dry-run")
    assert "TOKEN  ********  import" in result.stdout
    assert SECRET not in result.output
    assert SECRET in run(worker, *options, "--dry-run", "--show-secrets").stdout
    assert SECRET not in run(worker, *options).output
    assert worker.get("TOKEN") == SECRET


def test_what_was_changed_since_is_kept(worker: Worker, folder: Path) -> None:
    options = old_table(folder, {"SITENAME": "Old", "LIMIT": 20})
    worker.waffle.update({"SITENAME": "Newer"})
    result = run(worker, *options)
    assert "SITENAME: kept: it was changed since; --overwrite takes the row\n" in result.stderr
    assert (worker.get("SITENAME"), worker.get("LIMIT")) == ("Newer", 20)
    run(worker, *options, "--overwrite")
    assert worker.get("SITENAME") == "Old"


def test_other_columns_can_be_named(worker: Worker, folder: Path) -> None:
    options = old_table(folder, {"LIMIT": 20})
    connection = sqlite3.connect(folder / "old.db")
    connection.execute("ALTER TABLE confs RENAME COLUMN key TO name")
    connection.execute("ALTER TABLE confs RENAME COLUMN value TO pickled")
    connection.close()
    assert "no such column" in run(worker, *options, status=1).stderr
    run(worker, *options, "--key-column", "name", "--value-column", "pickled")
    assert worker.get("LIMIT") == 20


def test_the_url_can_come_from_the_environment(worker: Worker, folder: Path) -> None:
    table, name, _, url = old_table(folder, {"LIMIT": 20})
    run(worker, table, name, env={"WAFFLE_LEGACY_URL": url})
    assert worker.get("LIMIT") == 20


def test_a_url_in_the_environment_alone_names_no_table(site: Site, tmp_path: Path) -> None:
    site.put_row("SITENAME", legacy("Café"))
    result = run(site, status=2, env={"WAFFLE_LEGACY_URL": "sqlite:///x.db"})
    assert "--table and --url belong together" in result.stderr


def test_a_command_line_that_names_no_rows_is_refused(worker: Worker) -> None:
    assert "--table and --url belong together" in run(worker, "--table", "x", status=2).stderr
    assert "the app's store holds no rows" in run(worker, status=2).stderr


def test_a_revision_that_moved_on_is_a_conflict(
    worker: Worker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = old_table(folder, {"LIMIT": 20})
    worker.waffle.update({"SITENAME": "New"})
    for more in ([], ["--dry-run"]):
        run(worker, *options, *more, "--expect-revision", "0", status=3)

    def read_rows(*args: object, **kwargs: object) -> list[tuple[str, str]]:
        worker.state.store.write({"LIMIT": "30"})
        return [("LIMIT", legacy(20))]

    monkeypatch.setattr("uwsgi_waffle.legacy.read_rows", read_rows)
    run(worker, *options, status=3)
    worker.waffle.refresh()
    assert worker.get("LIMIT") == 30


def test_a_change_that_could_not_be_announced_is_told(
    worker: Worker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FileNotifier, revision: int) -> None:
        raise NotifierError("the disk is full")

    monkeypatch.setattr(FileNotifier, "announce", fail)
    result = run(worker, *old_table(folder, {"LIMIT": 20}))
    assert "revision 1 is committed, but" in result.stderr


def test_help_tells_what_becomes_of_rows_and_the_exit_statuses(worker: Worker) -> None:
    text = run(worker, "--help").stdout
    for word in ("undeclared", "--skip-refused", "WAFFLE_LEGACY_URL", "Exit status:", "  3  "):
        assert word in text
    assert len(CONFS) == 3
