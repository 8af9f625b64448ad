"""Every code block of the documentation runs, or says why it does not.

A comment before the block excuses it: ``<!-- not run: REASON -->``, or ``<!-- run by: TEST -->``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import FlaskGroup

from uwsgi_waffle import WaffleConf
from uwsgi_waffle.__main__ import main
from uwsgi_waffle.checks.binary import Server, ask, find_binary
from uwsgi_waffle.checks.vocabulary import KNOWN
from uwsgi_waffle.cli import group

from ..support.pages import DOCS, ROOT, Block, blocks, pages

BLOCKS = [block for page in pages() for block in blocks(page)]
#: shown, not run: what a program prints, and drawings
PROSE = ("", "text")
CONFS: dict[str, Any] = {
    "SITENAME": {"desc": "Name of the site", "default": "Waffle"},
    "MAX_FILESIZE": {"desc": "Largest upload, in bytes", "default": 1000, "min": 1},
    "POOL_SIZE": {"desc": "Connections", "default": 5},
    "MODE": {"desc": "What may be done", "default": "normal"},
    "BATCH_SIZE": {"desc": "Rows that a mule takes at once", "default": 100},
}
#: what a page takes for granted: code that is run before each of its blocks
GIVEN = {
    "docs/admin.md": """
import hmac
from flask import Response, request
PASSWORD = b"sesame"
may_change = lambda: True
""",
    "docs/background.md": """
async def something(): pass

def work(size):
    raise Ended
""",
    "docs/stores.md": """
import contextlib, peewee, pytest, sqlalchemy
from flask_sqlalchemy import SQLAlchemy
from uwsgi_waffle import AlchemyWaffleStore
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
engine = sqlalchemy.create_engine("sqlite://")
db = SQLAlchemy(app)
""",
}
#: modules that pages import and no test needs, each with the name that is imported
STAND_INS = (("flask_login", "current_user"),)
#: what is shown in docs/deployment as a file, which tests/docs/test_deployment.py compares
FILES = {
    path.read_text(encoding="utf-8")
    for path in (DOCS / "deployment" / "files").iterdir()
    if path.is_file()
}


class Ended(Exception):
    """Ends what a page shows as a loop without an end."""


def of(*languages: str, marked: bool = False) -> list[Any]:
    """Return the blocks of some languages that are not excused, as parameters of a test."""
    found = [block for block in BLOCKS if block.language in languages]
    return [pytest.param(block, id=block.id) for block in found if marked or not block.marker]


def test_blocks_were_found() -> None:
    assert len(of("python")) > 20
    assert len(of("console", marked=True)) > 20


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in BLOCKS])
def test_block_is_of_a_language_that_is_tried_or_says_why_it_is_not(block: Block) -> None:
    assert block.marker or block.language in (*PROSE, *TRIED), (
        f"{block.id}: nothing runs a block of {block.language}: write "
        "<!-- run by: tests/… --> or <!-- not run: the reason --> before it"
    )


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=block.id) for block in BLOCKS if block.marker == "run by"]
)
def test_test_that_is_said_to_run_a_block_reads_its_page_or_has_its_lines(block: Block) -> None:
    path = block.because.split()[0].partition("::")[0]
    text = (ROOT / path).read_text(encoding="utf-8")
    if Path(block.page).stem in text or block.code in FILES:
        return
    # Another page that shows the same, where the test has it from.
    if place := re.search(r"\((\S+\.md)\)", block.because):
        text = (ROOT / place[1]).read_text(encoding="utf-8")
    lines = block.code.splitlines()
    if block.language == "diff":
        lines = [line[1:] for line in lines if not line.startswith("-")]
    assert [line for line in map(str.strip, lines) if line not in text] == []


@pytest.mark.parametrize("block", [pytest.param(b, id=b.id) for b in BLOCKS if b.language in PROSE])
def test_session_is_not_passed_off_as_prose(block: Block) -> None:
    assert not re.search(r"^\$ ", block.code, re.MULTILINE), "write ```console"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a block: empty, and thrown away."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "instance").mkdir()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_python_of_the_page_runs(
    page: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page shows how the two are put together; what is imported itself is not what is tried.
    for module, imported in STAND_INS:
        stand_in = types.ModuleType(module)
        setattr(stand_in, imported, None)
        monkeypatch.setitem(sys.modules, module, stand_in)
    monkeypatch.setitem(sys.modules, "app", _module_of_the_app(elsewhere))
    names: dict[str, Any] = {"__name__": "shop"}
    for block in BLOCKS:
        if block.page == page and block.language == "python" and not block.marker:
            _run(block, names, elsewhere)
    # What a page leaves open is a failure here, not in the test that happens to run next.
    names.clear()
    gc.collect()


def _app(folder: Path) -> Flask:
    app = Flask("shop", instance_path=str(folder / "instance"))
    app.config.update(SECRET_KEY="secret", WAFFLE_CONFS=CONFS)
    return app


def _module_of_the_app(folder: Path) -> types.ModuleType:
    """Return what a page imports as ``app``: an app that a factory makes."""
    waffle = WaffleConf()

    def create_app() -> Flask:
        app = _app(folder)
        waffle.init_app(app)
        return app

    module = types.ModuleType("app")
    vars(module).update(waffle=waffle, create_app=create_app)
    return module


def _run(block: Block, names: dict[str, Any], folder: Path) -> None:
    """Run a block in its own app; names that the page has made so far are there."""
    app = _app(folder)
    # Twice: a block may give the name to another app.
    names["app"] = names["_app"] = app
    names["Flask"], names["WaffleConf"], names["Ended"] = Flask, WaffleConf, Ended
    exec(GIVEN.get(block.page, ""), names)
    if not re.search(r"^[^#\n]*(WaffleConf\(|init_app\()", block.code, re.MULTILINE):
        names["waffle"] = WaffleConf(app)
    # So that a traceback names the page and the line.
    code = compile("\n" * block.line + block.code, block.page, "exec", dont_inherit=True)
    try:
        with contextlib.suppress(Ended):
            exec(code, names)
    finally:
        for made in list(names.values()):
            if isinstance(made, Flask):
                _close(made)


def _close(app: Flask) -> None:
    """Close what the app of a block has opened: an open connection would fail a later test."""
    state = app.extensions.get("waffleconf")
    if state is not None:
        state.engine.stop()
        state.store.close()
    if "sqlalchemy" in app.extensions:
        with app.app_context():
            for engine in app.extensions["sqlalchemy"].engines.values():
                engine.dispose()


def commands(code: str) -> Iterator[list[str]]:
    """Yield the words of each command of a session, without what a shell does with them."""
    for line in re.findall(r"^\$ ((?:.*\\\n)*.*)$", code, re.MULTILINE):
        lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=";|&<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";|&"):
                while words and re.match(r"\w+=|(do|then|sudo|nice|exec|env)$", words[0]):
                    del words[0]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@pytest.mark.parametrize("block", of("console"))
def test_session_that_shows_what_is_printed_names_the_test_that_compares_it(block: Block) -> None:
    printed = [part.partition("\n")[2] for part in re.split(r"^\$ ", block.code, flags=re.M)[1:]]
    # Without a marker, nothing would notice that a command prints something else today.
    assert not "".join(printed).strip()


@pytest.mark.parametrize("block", of("console", marked=True))
def test_commands_of_the_session_exist(block: Block) -> None:
    for words in commands(block.code):
        program = Path(words[0]).name
        if program in ("python", "python3") and words[1:2] == ["-m"]:
            module, *words = words[2:]
            if module == "uwsgi_waffle":
                _check_command(main, words)
            elif module not in ("pip", "venv", "pytest"):
                assert importlib.util.find_spec(module), module
            if module == "pip":
                _check_pip(words)
        elif program in CHECKS:
            CHECKS[program](words[1:])


def _check_flask(words: list[str]) -> None:
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in ("--app", "-A", "--env-file", "-e") else words[1:]
    if words and words[0] == "waffle":
        _check_command(group, words[1:])
    elif words and words[0] in ("run", "shell", "routes"):
        _check_command(FlaskGroup(), words)


def _check_command(known: click.Command, words: list[str]) -> None:
    """Check that the words name a command and options that it has."""
    with click.Context(known) as context:
        while isinstance(known, click.Group) and words and not words[0].startswith("-"):
            found = known.get_command(context, words[0])
            assert found is not None, f"there is no command {words[0]!r}"
            known, words = found, words[1:]
        options = {name for item in known.get_params(context) for name in item.opts}
        options |= {name for item in known.get_params(context) for name in item.secondary_opts}
    for word in words:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.partition("=")[0] in options, f"{known.name} has no option {word}"


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        if re.fullmatch(r"[a-z]+", word):
            assert f"\n{word}:" in makefile, f"there is no `make {word}`"


def _check_pip(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extras in re.findall(r"uwsgi-waffle\[([\w,]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no [{extra}]"


def _check_uwsgi(words: list[str]) -> None:
    for word in words:
        if word.startswith("--"):
            _check_option(word[2:].partition("=")[0])


def _check_option(name: str) -> None:
    """Check that uWSGI has an option; only one with Python inside lists all that pages show."""
    path = find_binary(None, os.environ)
    server = _ask(path) if path else None
    if server and server.python:
        assert name in server.options | KNOWN | {"ini"}, f"uWSGI has no option {name}"


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "flask": _check_flask,
    "make": _check_make,
    "pip": _check_pip,
    "uwsgi": _check_uwsgi,
}


@cache
def _ask(path: str) -> Server:
    return ask(path, os.environ)


def _check_ini(code: str) -> None:
    section = ""
    for line in filter(None, map(str.strip, code.splitlines())):
        if line.startswith("["):
            section = line
        elif section == "[uwsgi]" and line[0] not in ";#":
            _check_option(line.partition("=")[0].strip())


def _check_script(code: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=code, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


FORMATS: dict[str, Callable[[str], object]] = {
    "ini": _check_ini,
    "json": json.loads,
    "bash": _check_script,
    "sh": _check_script,
}
#: the languages of which each block is tried
TRIED = ("python", "console", *FORMATS)


@pytest.mark.parametrize("block", of(*FORMATS))
def test_file_that_is_shown_has_its_form(block: Block) -> None:
    FORMATS[block.language](block.code)
