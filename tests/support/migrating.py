"""An app with Flask-Migrate, whose migrations are made and run by its own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_APP = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from uwsgi_waffle import AlchemyWaffleStore, WaffleConf

app = Flask("site_of_test")
app.config["SQLALCHEMY_DATABASE_URI"] = URL
app.config["WAFFLE_CONFS"] = {"SITENAME": {"desc": "Name", "default": "Waffle"}}
db = SQLAlchemy(app)
Migrate(app, db)
waffle = WaffleConf(app, AlchemyWaffleStore(db))


class Page(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    # more
"""
_OURS = ("waffle_meta", "waffle_settings", "waffle_history", "waffle_workers")


class MigratedApp:
    """An app in a folder of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        self._module = folder / "site_of_test.py"
        self._module.write_text(_APP.replace("URL", repr(url)))

    def flask(self, *arguments: str) -> str:
        """Return the output of one of its commands."""
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "site_of_test", *arguments],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{self._folder}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def migrate(self) -> str:
        """Make a migration; return its text, or nothing if there was nothing to migrate."""
        before = self._versions()
        self.flask("db", "migrate")
        return "".join(path.read_text() for path in self._versions() - before)

    def add_column(self) -> None:
        """Change the user's model."""
        text = self._module.read_text()
        self._module.write_text(text.replace("# more", "title = db.Column(db.String(80))"))

    def _versions(self) -> set[Path]:
        return set((self._folder / "migrations" / "versions").glob("*.py"))


def check_migrations(url: str, folder: Path) -> None:
    """Assert that migrations from an empty and from a used database leave our tables alone."""
    app = MigratedApp(url, folder)
    app.flask("db", "init")
    first = app.migrate()
    assert "create_table('page'" in first
    assert not [name for name in _OURS if name in first], first
    app.flask("db", "upgrade")
    app.flask("waffle", "set", "SITENAME=kept")
    # Used: our tables are there, with rows.
    app.add_column()
    second = app.migrate()
    assert "title" in second
    assert not [name for name in _OURS if name in second], second
    app.flask("db", "upgrade")
    app.flask("db", "downgrade")
    app.flask("db", "upgrade")
    assert "kept" in app.flask("waffle", "get", "SITENAME")
    assert "kept" in app.flask("waffle", "history")
