"""Commands that only read make nothing: no file, no folder, no table; others make what is missing.

Run as ``flask`` runs them, which loads the app itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee
import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

from uwsgi_waffle import PeeweeWaffleStore, WaffleConf
from uwsgi_waffle.runtime import in_flask_command
from uwsgi_waffle.testing.forked import in_processes

from ..support.rig import CONFS, NOBODY, Worker, wait_until

READING: dict[str, list[str]] = {
    "list": ["list"],
    "list --json": ["list", "--json"],
    "get": ["get", "LIMIT"],
    "describe": ["describe", "LIMIT"],
    "history": ["history"],
    "export": ["export"],
    "workers": ["workers"],
    "doctor": ["doctor"],
    "diff": ["diff", "/dev/null"],
    "backup": ["backup", "-"],
    "set --dry-run": ["set", "LIMIT=5", "--dry-run"],
    "prune": ["prune", "--yes"],
    "reset --all": ["reset", "--all", "--yes"],
    "recreate": ["recreate", "--empty", "--yes"],
}
STORES: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "sqlalchemy": {"WAFFLE_STORE_URL": "sqlite+pysqlite:///waffle.db"},
    "peewee": {},
}


class Site:
    """An app that each command loads for itself, in a folder of its own."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self._kind = kind

    def app(self) -> Flask:
        app = Flask("shop", instance_path=str(self.folder))
        app.config.update(WAFFLE_CONFS=CONFS, **STORES[self._kind])
        store = None
        if self._kind == "peewee":
            store = PeeweeWaffleStore(peewee.SqliteDatabase(str(self.folder / "waffle.db")))
        WaffleConf(app, store)

        @app.get("/")
        def index() -> str:
            return str(app.config["LIMIT"])

        return app

    def flask(self, *arguments: str, **options: Any) -> Result:
        """Run a command of ``flask``."""
        group = FlaskGroup(create_app=self.app)
        return CliRunner().invoke(group, list(arguments), prog_name="flask", **options)

    def made(self) -> set[str]:
        """Return what is in the folder; pages and values of apps by their endings."""
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()


@pytest.fixture(params=STORES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(tmp_path / "instance", request.param)


@pytest.mark.parametrize("command", READING.values(), ids=list(READING))
def test_command_that_reads_makes_nothing_where_there_is_nothing(
    site: Site, command: list[str]
) -> None:
    result = site.flask("waffle", *command)
    assert not isinstance(result.exception, Exception), result.output
    # What differs from an empty file can't be told.
    assert result.exit_code == (1 if command[0] == "diff" else 0), result.output
    assert not site.folder.exists()


def test_other_commands_of_flask_make_nothing_either(site: Site) -> None:
    for command in (["routes"], ["--help"], ["waffle", "--help"]):
        result = site.flask(*command)
        assert result.exit_code == 0, result.output
    assert not site.folder.exists()


@pytest.mark.parametrize("command", READING.values(), ids=list(READING))
def test_command_that_reads_makes_nothing_beside_a_store(site: Site, command: list[str]) -> None:
    site.folder.mkdir()
    assert site.flask("waffle", "set", "LIMIT=7").exit_code == 0
    for path in site.folder.iterdir():
        if not path.name.startswith("waffle.db"):
            path.unlink()
    before = site.made()
    result = site.flask("waffle", *command)
    assert not isinstance(result.exception, Exception), result.output
    # The two that reset what is stored are changes here.
    if command[0] not in ("reset", "prune"):
        assert site.made() == before


def test_command_that_changes_makes_what_is_missing(site: Site) -> None:
    assert "LIMIT: default → 7\nrevision 1\n" in site.flask("waffle", "set", "LIMIT=7").output
    made = {path.suffix for path in site.folder.iterdir()}
    assert made == {".db", ".watch", ".page", ".last", ".lock"}
    assert site.flask("waffle", "get", "LIMIT").output == "7\n"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in others' folders unasked")
@pytest.mark.parametrize("kind", STORES)
def test_what_roots_command_makes_belongs_to_the_folders_owner(
    open_folder: Path, kind: str
) -> None:
    site = Site(open_folder, kind)
    for command in READING.values():
        site.flask("waffle", *command)
    assert site.made() == set()
    site.flask("waffle", "set", "LIMIT=7")
    made = list(open_folder.iterdir())
    assert {path.suffix for path in made} == {".db", ".watch", ".page", ".last", ".lock"}
    for path in made:
        status = path.stat()
        assert (path.name, status.st_uid, status.st_gid) == (path.name, NOBODY, NOBODY)
    assert site.flask("waffle", "doctor").exit_code == 0

    def as_the_workers_user(number: int) -> tuple[int, int]:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        worker = Worker(open_folder, **STORES["sqlite" if kind == "peewee" else kind])
        served = worker.waffle.conf["LIMIT"]
        return served, worker.update(LIMIT=8)

    assert in_processes(1, as_the_workers_user) == [(7, 2)]
    assert site.flask("waffle", "get", "LIMIT").output == "8\n"


def test_request_in_a_command_makes_what_it_needs(site: Site) -> None:
    def serve() -> Flask:
        app = site.app()
        assert not site.folder.exists()

        @app.cli.command("serve")
        def serve_one() -> None:
            def is_made() -> bool:
                assert app.test_client().get("/").text == "10"
                return (site.folder / "waffle.db").exists()

            # Requests share a look for some milliseconds, also that of the command.
            wait_until(is_made)

        return app

    result = CliRunner().invoke(FlaskGroup(create_app=serve), ["serve"], prog_name="flask")
    assert result.exit_code == 0, repr(result.exception)
    assert {".db", ".watch", ".page"} <= {path.suffix for path in site.folder.iterdir()}


def test_process_that_is_no_command_makes_all_at_its_start(
    make_worker: Callable[..., Worker], folder: Path
) -> None:
    assert not in_flask_command()
    make_worker()
    assert {".db", ".watch", ".page"} <= {path.suffix for path in folder.iterdir()}
