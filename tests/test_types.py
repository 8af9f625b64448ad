"""The public interface as a type checker sees it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import uwsgi_waffle

USE = """\
from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from blinker import NamedSignal
from flask import Flask
from typing_extensions import assert_type

from uwsgi_waffle import Failure, HistoryItem, Snapshot, State, Status, WaffleConf, setting_changed

app = Flask("shop")
waffle = WaffleConf(app)
later = WaffleConf()
assert_type(later.init_app(app, configstore=None), None)
assert_type(waffle.conf, Snapshot)
assert_type(waffle.conf["SITENAME"], Any)
assert_type(waffle.revision, int)
assert_type(waffle.update({"LIMIT": 1}, author="ann", expected_revision=None), int)
assert_type(waffle.reset(["LIMIT"]), int)
assert_type(waffle.override(LIMIT=1), AbstractContextManager[None])
assert_type(waffle.history(), list[HistoryItem])
assert_type(waffle.status(), Status)
assert_type(waffle.status().state, State)
assert_type(waffle.status().staleness_s, float | None)
assert_type(waffle.status().last_error, Failure | None)
assert_type(setting_changed, NamedSignal)
"""

MISUSE = """\
waffle.update({1: 2})  # E
waffle.update(SITENAME="New")  # E
waffle.update({"LIMIT": 1}, "ann")  # E
waffle.conf["SITENAME"] = "New"  # E
waffle.revision = 7  # E
waffle.init_app("shop")  # E
waffle.override({"LIMIT": 1})  # E
"""


PACKAGE = Path(uwsgi_waffle.__file__).parent
#: the state is handed out for what the ancestor's had; the rest of it is for this package
STATE_METHODS = {"parse_conf", "update_db", "update_conf"}


def classes() -> dict[str, ast.ClassDef]:
    """Return every class of the package that has a public name, by its name."""
    found: dict[str, ast.ClassDef] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(), str(path)).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name] = node
    return found


def members(node: ast.ClassDef) -> Iterator[ast.stmt]:
    """Return what a user of a class sees of it: its bases, fields and public methods."""
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            yield part
        elif isinstance(part, ast.FunctionDef):
            wanted = part.name in STATE_METHODS or node.name != "WaffleState"
            if part.name == "__init__" or (wanted and not part.name.startswith("_")):
                yield part


def mentioned(part: ast.stmt) -> set[str]:
    """Return the names in the annotations and in the field lists of a docstring."""
    hints: list[ast.expr | None] = []
    text = ""
    if isinstance(part, ast.AnnAssign):
        if not isinstance(part.target, ast.Name) or part.target.id.startswith("_"):
            return set()
        hints = [part.annotation]
    elif isinstance(part, ast.FunctionDef):
        arguments = part.args.posonlyargs + part.args.args + part.args.kwonlyargs
        hints = [part.returns, *(argument.annotation for argument in arguments)]
        text = ast.get_docstring(part) or ""
    names = {
        name.id
        for hint in hints
        if hint is not None
        for name in ast.walk(hint)
        if isinstance(name, ast.Name)
    }
    return names | set(re.findall(r":raises (\w+):", text))


def home(name: str) -> ModuleType:
    """Return the folder of a class: what is beside a store, as its tables are, is public too."""
    module = getattr(uwsgi_waffle, name).__module__
    return sys.modules[module.rpartition(".")[0]]


def test_all_that_a_public_name_takes_returns_and_raises_is_public() -> None:
    known = classes()
    holes = {
        f"{name}.{getattr(part, 'name', '') or ast.unparse(part)}: {other}"
        for name in dir(uwsgi_waffle)
        if name in known
        for part in members(known[name])
        for other in mentioned(part) & known.keys()
        if not any(hasattr(place, other) for place in (uwsgi_waffle, home(name)))
    }
    assert holes == set()


def test_every_error_is_public() -> None:
    errors = {name for name in classes() if hasattr(uwsgi_waffle.errors, name)}
    assert errors - set(uwsgi_waffle.__all__) == set()


def test_dir_shows_the_stores_and_what_else_is_imported_when_it_is_used() -> None:
    shown = dir(uwsgi_waffle)
    for name in ("SqliteStore", "AlchemyWaffleStore", "PeeweeWaffleStore", "RedisStore"):
        assert name in shown
        assert issubclass(getattr(uwsgi_waffle, name), uwsgi_waffle.Store)
    assert "HistoryItem" in shown
    assert set(uwsgi_waffle.__all__) <= set(shown)


@pytest.mark.parametrize("extra", ["sqlalchemy", "peewee", "redis"])
def test_store_whose_driver_is_missing_names_its_extra(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"sqlalchemy": "AlchemyWaffleStore", "peewee": "PeeweeWaffleStore"}.get(
        extra, "RedisStore"
    )
    monkeypatch.setitem(sys.modules, f"uwsgi_waffle.stores.{extra}", None)
    with pytest.raises(ImportError, match=rf"pip install 'uwsgi-waffle\[{extra}\]'"):
        getattr(uwsgi_waffle, name)


def test_package_says_that_it_is_typed() -> None:
    assert (Path(uwsgi_waffle.__file__).parent / "py.typed").exists()


def test_every_public_name_is_there_once_and_in_order() -> None:
    names = uwsgi_waffle.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(uwsgi_waffle, name) for name in names)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_public_interface_has_the_types_it_promises(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    file = tmp_path / "use.py"
    file.write_text(USE + MISUSE)
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--config-file", os.devnull, "--cache-dir", str(tmp_path / "cache")),
            *("--follow-imports", "silent", str(file)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(uwsgi_waffle.__file__).parent.parent,
    )
    lines = (USE + MISUSE).splitlines()
    wanted = {number for number, line in enumerate(lines, 1) if line.endswith("# E")}
    found = {int(line.split(":")[1]) for line in answer.stdout.splitlines() if ": error:" in line}
    assert found == wanted, answer.stdout + answer.stderr
