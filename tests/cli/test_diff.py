"""``flask waffle diff``: two stores, two files, or one and the app's store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from uwsgi_waffle.cli import group
from uwsgi_waffle.stores.sqlite import SqliteStore

from ..support.rig import CONFS, Worker

MakeWorker = Callable[..., Worker]


def diff(worker: Worker, *arguments: str, status: int = 0, **options: Any) -> Result:
    result = worker.app.test_cli_runner().invoke(group, ["diff", *arguments], **options)
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of another store."""
    store = SqliteStore(tmp_path / "other.db")
    store.prepare()
    store.write({"LIMIT": "30", "TOKEN": '"other"', "SITENAME": '"Shop"', "OLD": "1"})
    store.close()
    return f"sqlite:////{tmp_path}/other.db"


def test_store_is_compared_with_the_apps_own(make_worker: MakeWorker, url: str) -> None:
    worker = make_worker()
    worker.waffle.update({"LIMIT": 20})
    assert diff(worker, url).stdout.splitlines() == [
        "LIMIT: 30 → 20",
        "OLD: ******** → default",
        "TOKEN: ******** → default",
    ]
    assert 'TOKEN: "other" → default' in diff(worker, url, "--show-secrets").stdout
    assert diff(worker, url, url).stdout == "nothing differs\n"
    shown = json.loads(diff(worker, url, "--json").stdout)
    assert shown[0] == {"name": "LIMIT", "old": "30", "new": "20"}


def test_stored_default_is_no_difference(make_worker: MakeWorker, url: str) -> None:
    # The other store holds SITENAME, at the value that is its default.
    worker = make_worker()
    assert "SITENAME" not in diff(worker, url).stdout
    assert "SITENAME" not in diff(worker, f"sqlite:////{worker.folder}/waffle.db", url).stdout


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_export_is_compared_with_what_it_names(
    make_worker: MakeWorker, tmp_path: Path, suffix: str
) -> None:
    confs = {**CONFS, "WORDS": {"desc": "Words", "default": ["a", "b"], "type": set[str]}}
    worker = make_worker(confs=confs)
    worker.waffle.update({"LIMIT": 20, "TOKEN": "x", "WORDS": {"b", "c"}})
    text = worker.app.test_cli_runner().invoke(group, ["export", "--format", suffix]).stdout
    file = tmp_path / f"settings.{suffix}"
    file.write_text(text)
    # A masked secret says nothing, and the items of a set come in any order.
    assert diff(worker, str(file)).stdout == "nothing differs\n"
    file.write_text('{"LIMIT": 10}' if suffix == "json" else "LIMIT = 10")
    worker.waffle.update({"SITENAME": "New"})
    assert diff(worker, str(file)).stdout == "LIMIT: 10 → 20\n"
    assert diff(worker, str(file), str(file)).stdout == "nothing differs\n"


def test_exit_status_says_whether_something_differs_if_it_is_asked(
    make_worker: MakeWorker, url: str
) -> None:
    worker = make_worker()
    diff(worker, url, "--exit-code", status=1)
    diff(worker, url, url, "--exit-code")


def test_side_that_can_not_be_read_is_an_error(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker()
    (tmp_path / "bad.json").write_text("[")
    for source in (f"{tmp_path}/none.json", f"{tmp_path}/bad.json", f"sqlite:////{tmp_path}/x.db"):
        assert diff(worker, source, status=1).stdout == ""
    assert not (tmp_path / "x.db").exists()
