"""``flask waffle backup``, ``restore`` and ``copy``: files, questions, and their exit status."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result, _NamedTextIOWrapper

from uwsgi_waffle import OutcomeUnknown
from uwsgi_waffle.cli import group
from uwsgi_waffle.stores.sqlite import SqliteStore

from ..support.rig import Worker

MakeWorker = Callable[..., Worker]


def run(worker: Worker, *arguments: str, status: int = 0, **options: Any) -> Result:
    result = worker.app.test_cli_runner().invoke(group, list(arguments), **options)
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20, "TOKEN": "open-sesame"}, author="ann")
    worker.waffle.update({"LIMIT": 30}, author="ann", reason="more")
    return worker


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.backup"


def test_backup_is_for_its_owner_only_and_replaces_the_one_before(
    worker: Worker, file: Path
) -> None:
    umask = os.umask(0)
    try:
        result = run(worker, "backup", str(file))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "2 settings and 3 entries of history, at revision 2",
        "left out, kept by --secrets: 1 value",
    ]
    before = file.stat().st_ino
    worker.waffle.update({"LIMIT": 40})
    run(worker, "backup", str(file))
    assert file.stat().st_ino != before
    assert json.loads(file.read_text())["revision"] == 3
    assert list(file.parent.glob(".shop*")) == []


def test_backup_goes_into_a_pipe_and_leaves_it_there(worker: Worker, file: Path) -> None:
    os.mkfifo(file)
    # Both ends, so that no one waits for the other.
    descriptor = os.open(file, os.O_RDWR)
    try:
        run(worker, "backup", str(file))
        assert json.loads(os.read(descriptor, 1 << 16))["revision"] == 2
    finally:
        os.close(descriptor)
    assert stat.S_ISFIFO(file.stat().st_mode)


def test_backup_follows_a_link_and_leaves_it_there(worker: Worker, file: Path) -> None:
    link = file.with_name("latest")
    link.symlink_to(file.name)
    for number in (1, 2):
        worker.waffle.update({"LIMIT": 50 + number})
        run(worker, "backup", str(link))
        assert link.is_symlink()
        assert json.loads(file.read_text())["settings"]["LIMIT"] == str(50 + number)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_secrets_are_in_a_backup_only_when_it_is_asked_for(worker: Worker, file: Path) -> None:
    run(worker, "backup", str(file))
    assert "open-sesame" not in file.read_text()
    run(worker, "backup", str(file), "--secrets")
    assert file.read_text().count("open-sesame") == 2
    assert "open-sesame" in run(worker, "backup", "-", "--secrets").stdout


def test_folder_that_is_missing_is_an_error(worker: Worker, tmp_path: Path) -> None:
    result = run(worker, "backup", f"{tmp_path}/none/file", status=1)
    assert "can't be written: No such file or directory" in result.stderr


def test_restore_shows_what_it_changes_and_every_worker_serves_it(
    worker: Worker, make_worker: MakeWorker, file: Path
) -> None:
    run(worker, "backup", str(file), "--secrets")
    other = make_worker()
    other.waffle.update({"LIMIT": 99, "SITENAME": "Gone", "TOKEN": "new"})
    shown = run(worker, "restore", str(file), "--dry-run").stdout.splitlines()
    assert sorted(shown[:3]) == [
        "LIMIT: 99 → 30",
        'SITENAME: "Gone" → default',
        "TOKEN: ******** → ********",
    ]
    assert shown[3].startswith("revision 3 → 2 (of 20")
    assert shown[4:] == ["not written (--dry-run)"]
    assert other.get("LIMIT") == 99
    assert run(worker, "restore", str(file), "--yes").stdout.splitlines()[-1] == "restored"
    assert (other.get("LIMIT"), other.get("SITENAME")) == (30, "Shop")
    assert other.get("TOKEN") == "open-sesame"
    assert [item.revision for item in other.waffle.history()] == [2, 1, 1]


def test_changes_go_on_after_a_restore_without_secrets(worker: Worker, file: Path) -> None:
    worker.waffle.update({"TOKEN": "of then", "LIMIT": 40})
    worker.waffle.update({"TOKEN": "of today", "LIMIT": 50})
    before = worker.waffle.revision
    run(worker, "backup", str(file))
    run(worker, "restore", str(file), "--yes")
    assert worker.waffle.conf["TOKEN"] == "of today"
    # What the backup left out is no value that anyone can go back to.
    shown = run(worker, "rollback", str(before - 1), "--yes", status=1).output
    assert "TOKEN: its value of then is not known" in shown
    assert "--secrets" in shown
    run(worker, "rollback", str(before - 1), "LIMIT", "--yes")
    assert (worker.waffle.conf["LIMIT"], worker.waffle.conf["TOKEN"]) == (40, "of today")
    run(worker, "set", "TOKEN=new")
    run(worker, "set", "TOKEN=newer")
    run(worker, "rollback", str(before + 2), "--yes")
    assert worker.waffle.conf["TOKEN"] == "new"


def test_restore_asks(worker: Worker, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(worker, "backup", str(file))
    worker.waffle.update({"LIMIT": 99})
    assert "repeat it with --yes" in run(worker, "restore", str(file), status=2).stderr
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda self: True)
    run(worker, "restore", str(file), status=1, input="n\n")
    assert worker.waffle.conf["LIMIT"] == 99
    run(worker, "restore", str(file), input="y\n")
    assert worker.waffle.conf["LIMIT"] == 30


def test_restore_replaces_what_the_question_was_about(
    worker: Worker, make_worker: MakeWorker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(worker, "backup", str(file))
    other = make_worker()

    def confirm(*args: Any, **options: Any) -> bool:
        other.waffle.update({"LIMIT": 77})
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda self: True)
    run(worker, "restore", str(file), status=3)
    assert other.get("LIMIT") == 77


def test_backup_that_can_not_be_written_leaves_the_one_before(
    worker: Worker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("before")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("uwsgi_waffle.cli.backup.os.fsync", fail)
    assert "No space left" in run(worker, "backup", str(file), status=1).stderr
    monkeypatch.undo()
    assert file.read_text() == "before"
    assert [path.name for path in file.parent.glob("*shop*")] == [file.name]


def test_restore_whose_outcome_is_unknown_says_so(
    worker: Worker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: Any, **options: Any) -> None:
        raise OutcomeUnknown("the connection broke")

    run(worker, "backup", str(file))
    monkeypatch.setattr(SqliteStore, "load", load)
    assert "may have been made" in run(worker, "restore", str(file), "--yes", status=4).stderr


def test_other_file_is_not_restored(worker: Worker, file: Path) -> None:
    file.write_text(run(worker, "export").stdout)
    assert "it is not a backup" in run(worker, "restore", str(file), "--yes", status=1).stderr
    assert worker.waffle.revision == 2


def test_backup_can_be_compared(worker: Worker, file: Path) -> None:
    run(worker, "backup", str(file))
    worker.waffle.update({"LIMIT": 99, "SITENAME": "New"})
    # The masked secret says nothing.
    assert run(worker, "diff", str(file)).stdout == ('LIMIT: 30 → 99\nSITENAME: default → "New"\n')


def test_copy_carries_everything_to_another_store(worker: Worker, tmp_path: Path) -> None:
    url = f"sqlite:////{tmp_path}/next.db"
    result = run(worker, "copy", "--to", url)
    assert result.stdout.startswith("2 settings and 3 entries of history, at revision 2, are")
    moved = Worker(worker.folder, WAFFLE_STORE_URL=url)
    assert moved.get("LIMIT") == 30
    assert moved.waffle.history()[0].reason == "more"
    moved.close()
    assert "has settings already" in run(worker, "copy", "--to", url, status=1).stderr
    run(worker, "copy", "--to", url, "--overwrite", status=2)
    run(worker, "copy", "--to", url, "--overwrite", "--yes")
    back = f"sqlite:////{tmp_path}/back.db"
    run(worker, "copy", "--from", url, "--to", back)
    assert "nothing differs" in run(worker, "diff", back).stdout
    own = f"sqlite:////{worker.folder}/waffle.db"
    assert "same store" in run(worker, "copy", "--to", own, "--overwrite", "--yes", status=1).stderr


def test_copy_of_a_store_that_changes_meanwhile_is_reported(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SqliteStore.load

    def late(self: SqliteStore, *args: Any, **options: Any) -> None:
        worker.state.store.write({"LIMIT": "50"})
        load(self, *args, **options)

    monkeypatch.setattr(SqliteStore, "load", late)
    result = run(worker, "copy", "--to", f"sqlite:////{tmp_path}/next.db", status=1)
    assert "was changed while it was copied, to revision 3" in result.stderr
