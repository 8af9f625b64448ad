"""``flask waffle recreate``: what it shows, asks and writes after a store's data was lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result, _NamedTextIOWrapper

from uwsgi_waffle import State
from uwsgi_waffle.cli import group
from uwsgi_waffle.stores.epochs import word_of
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
def operator(make_worker: MakeWorker) -> Worker:
    """The app as a command finds it after the loss."""
    return make_worker()


@pytest.fixture
def lost(worker: Worker, folder: Path) -> Worker:
    for part in folder.glob("waffle.db*"):
        part.unlink()
    return worker


def test_last_known_values_are_put_into_a_new_store(
    lost: Worker, operator: Worker, folder: Path
) -> None:
    result = run(operator, "recreate", "--last-known", "--yes")
    (kept,) = folder.glob("*.last")
    assert result.stdout.splitlines() == [
        f"1 setting at revision 2, from {kept}",
        "recreated",
    ]
    assert "waffle.db holds no settings" in result.stderr
    assert lost.get("LIMIT") == 30
    assert lost.get("TOKEN") == "hush"
    assert lost.waffle.revision == 2
    assert lost.waffle.status().state is State.VALID
    # Nothing more is lost, so that the same command does nothing.
    assert "nothing is lost" in run(operator, "recreate", "--empty", "--yes").stdout
    assert lost.get("LIMIT") == 30


def test_backup_is_put_into_a_new_store_with_its_history(
    worker: Worker, make_worker: MakeWorker, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "shop.backup"
    run(worker, "backup", str(file), "--secrets")
    worker.waffle.update({"LIMIT": 40})
    for part in folder.glob("waffle.db*"):
        part.unlink()
    result = run(make_worker(), "recreate", str(file), "--yes")
    assert result.stdout.splitlines()[:2] == ["LIMIT: 40 → 30", "TOKEN: default → ********"]
    assert (worker.get("LIMIT"), worker.get("TOKEN")) == (30, "open-sesame")
    assert [item.revision for item in worker.waffle.history(name="LIMIT")] == [2, 1]


def test_empty_store_is_asked_for_by_its_name(lost: Worker, operator: Worker) -> None:
    result = run(operator, "recreate", "--empty", "--dry-run")
    assert result.stdout.splitlines() == [
        "LIMIT: 30 → default",
        "0 settings at revision 0, every setting at its default",
        "not written (--dry-run)",
    ]
    run(operator, "recreate", "--empty", "--yes")
    assert lost.get("LIMIT") == 10


@pytest.mark.parametrize("arguments", [(), ("--empty", "--last-known"), ("--as-it-is", "--empty")])
def test_content_must_be_named_once(
    lost: Worker, operator: Worker, folder: Path, arguments: tuple[str, ...]
) -> None:
    result = run(operator, "recreate", *arguments, "--yes", status=2)
    assert "FILE, --last-known, --empty or --as-it-is" in result.stderr
    assert not (folder / "waffle.db").exists()


def test_nothing_is_made_without_a_yes(
    lost: Worker, operator: Worker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(operator, "recreate", "--empty", status=2)
    assert "repeat it with --yes" in result.stderr
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda _: True)
    run(operator, "recreate", "--empty", input="n\n", status=1)
    assert not (folder / "waffle.db").exists()
    run(operator, "recreate", "--empty", input="y\n")
    assert lost.get("LIMIT") == 10


def test_store_that_was_put_there_by_other_means_is_taken_as_it_is(
    lost: Worker, operator: Worker, folder: Path
) -> None:
    assert "no store to take" in run(operator, "recreate", "--as-it-is", "--yes", status=1).stderr
    store = SqliteStore(folder / "waffle.db")
    store.prepare()
    store.write({"LIMIT": "5"})
    result = run(operator, "recreate", "--as-it-is", "--yes")
    assert result.stdout.splitlines()[0] == "LIMIT: 30 → 5"
    assert "is not the one that this host knows" in result.stderr
    assert (lost.get("LIMIT"), lost.waffle.revision) == (5, 1)
    store.close()


def test_last_known_values_that_are_gone_are_an_error(
    lost: Worker, make_worker: MakeWorker, folder: Path
) -> None:
    (kept,) = folder.glob("*.last")
    kept.unlink()
    result = run(make_worker(), "recreate", "--last-known", "--yes", status=1)
    assert "no last known values" in result.stderr


def test_store_stands_in_for_what_another_host_knows(worker: Worker) -> None:
    word = word_of("of another host")
    result = run(worker, "recreate", "--knows", word)
    assert result.stdout == f"the store at revision 2 also stands in for {word}\n"
    assert worker.state.store.replaced() == {word}
    assert worker.get("LIMIT") == 30
    assert "16 digits" in run(worker, "recreate", "--knows", "1f'; --", status=2).stderr


def test_commands_that_need_the_store_name_the_one_that_makes_it_again(
    lost: Worker, operator: Worker, tmp_path: Path
) -> None:
    for arguments in (
        ["list"],
        ["get", "LIMIT"],
        ["history"],
        ["set", "LIMIT=5"],
        ["reset", "LIMIT"],
        ["export"],
        ["backup", str(tmp_path / "file")],
    ):
        result = run(operator, *arguments, status=1)
        assert "flask waffle recreate" in result.stderr, arguments
