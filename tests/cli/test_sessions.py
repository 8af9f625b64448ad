"""The sessions in the documentation are what the commands print."""

from __future__ import annotations

import base64
import logging
import pickle
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import _NamedTextIOWrapper
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from uwsgi_waffle import AlchemyWaffleStore, WaffleConf, WaffleMixin
from uwsgi_waffle.cli import group

from ..support.rig import Worker

pytestmark = pytest.mark.slow

MakeWorker = Callable[..., Worker]
DOCS = Path(__file__).parents[2] / "docs"
URL = "postgresql+psycopg://shop@db.example/shop"
CONFS: dict[str, Any] = {
    "SITENAME": {"desc": "Name of the site", "default": "Waffle House"},
    "MAX_FILESIZE": {
        "desc": "Largest upload in KiB",
        "default": 1000,
        "min": 1,
        "group": "Uploads",
    },
    "MAINTENANCE": {"desc": "Show a notice only", "default": False},
    "COUNTRIES": {"desc": "Where orders go", "default": ["se", "dk"]},
    "SMTP_PASSWORD": {"desc": "Of the mail server", "default": "", "secret": True},
}
LIMIT = {
    "LIMIT": {"desc": "Limit", "default": 10},
    "TOKEN": {"desc": "Token", "default": "hush", "secret": True},
}


class Step(NamedTuple):
    command: str
    shown: str
    status: int


def steps(page: str) -> Iterator[Step]:
    """Yield the commands of a page's sessions, each with what it shows."""
    for block in re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            match = re.search(r"\(exit status (\d)\)\n$", shown)
            status = int(match[1]) if match else 0
            yield Step(command, shown.removesuffix(match[0]) if match else shown, status)


def general(text: str) -> str:
    """Return a text without what differs from run to run: times and stores."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2026-01-31 14:30", text)
    text = re.sub(r"(?<![\w<])/\S*/(?=waffle\.)", "/srv/shop/instance/", text)
    return re.sub(r"<\w+Store [^>]*>", "<Store>", text)


@pytest.mark.parametrize(
    ("page", "confs", "begin", "least"),
    [
        ("cli.md", CONFS, [], 14),
        ("backup.md", LIMIT, [{"LIMIT": 20, "TOKEN": "x"}, {"LIMIT": 30}], 6),
    ],
)
def test_session_of_the_documentation_is_what_the_commands_print(
    page: str,
    confs: dict[str, Any],
    begin: list[dict[str, Any]],
    least: int,
    make_worker: MakeWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make_worker(confs=confs)
    for values in begin:
        worker.waffle.update(values)

    def before(command: str) -> None:
        if command.startswith("flask waffle restore"):
            worker.waffle.update({"LIMIT": 99})

    others = ("flask waffle doctor", "flask waffle recreate")
    found = [step for step in steps(page) if not step.command.startswith(others)]
    assert len(found) >= least
    replay(worker.app, found, tmp_path, monkeypatch, before)


def test_session_after_a_loss_is_what_the_command_prints(
    make_worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(confs=CONFS)
    worker.waffle.update({"SITENAME": "Pancakes", "MAX_FILESIZE": 5000})
    for path in worker.folder.glob("waffle.db*"):
        path.unlink()
    found = [step for step in steps("backup.md") if step.command.startswith("flask waffle recr")]
    assert len(found) == 1
    monkeypatch.setattr(logging.getLogger("uwsgi_waffle"), "disabled", True)
    replay(worker.app, found, tmp_path, monkeypatch)


def test_session_of_an_import_is_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
    app.config["WAFFLE_CONFS"] = {
        "SITENAME": {"desc": "Name", "default": "Shop"},
        "MAX_FILESIZE": {"desc": "Largest upload", "default": 1000},
        "SALE_ENDS": {"desc": "Until then", "default": datetime(2026, 1, 1)},
        "API_KEY": {"desc": "Key", "default": "", "secret": True},
    }
    db = SQLAlchemy(app)

    class ConfModel(db.Model, WaffleMixin):  # type: ignore[misc,name-defined]
        __tablename__ = "confs"
        id = db.Column(db.Integer, primary_key=True)
        key = db.Column(db.String(255), unique=True)
        value = db.Column(db.Text)

    rows = {
        "SITENAME": "Café Central",
        "MAX_FILESIZE": "5000",
        "SALE_ENDS": datetime(2026, 12, 24, 18),
        "API_KEY": "sesame",
        "THEME": "dark",
    }
    with app.app_context():
        db.create_all()
        for name, value in rows.items():
            text = base64.b64encode(pickle.dumps(value, 2)).decode()
            db.session.add(ConfModel(key=name, value=text))
        db.session.commit()
    store = AlchemyWaffleStore(db=db, model=ConfModel)
    # What the log says of rows that are not imported yet is left out on the page.
    monkeypatch.setattr(logging.getLogger("uwsgi_waffle"), "disabled", True)
    WaffleConf(app, store)
    found = [step for step in steps("moving-over.md") if step.command.startswith("flask")]
    found = [step for step in found if "--table" not in step.command]
    assert len(found) == 5
    replay(app, found, tmp_path, monkeypatch)
    app.extensions["waffleconf"].store.close()
    with app.app_context():
        db.engine.dispose()


def replay(
    app: Flask,
    found: list[Step],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[str], None] = lambda command: None,
) -> None:
    """Run commands one after the other; check what each prints, and its exit status."""
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.delenv("SUDO_USER", raising=False)
    for command, shown, status in found:
        before(command)
        typed = re.findall(r"\[y/N\]: (\w)", shown)
        line, _, file = command.partition(" < ")
        line = line.replace("/var/backups", str(folder)).replace(URL, f"sqlite:///{folder}/x")
        arguments = shlex.split(line)[2:]
        given = "s3cret\n" if file else "".join(f"{answer}\n" for answer in typed)
        with monkeypatch.context() as patch:
            if typed:
                # Output goes to a pipe, but a question can be answered.
                patch.setattr(_NamedTextIOWrapper, "isatty", lambda self: self.name == "<stdin>")
            result = app.test_cli_runner().invoke(group, arguments, input=given)
        assert general(result.output) == general(shown), command
        assert result.exit_code == status, command
