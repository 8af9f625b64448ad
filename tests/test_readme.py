"""What the README, and the pages that it leads to, must name."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from bench.report import summary, text
from uwsgi_waffle import __version__, errors
from uwsgi_waffle.checks import RULES
from uwsgi_waffle.checks.binary import Server
from uwsgi_waffle.checks.setup import ini_for_an_app
from uwsgi_waffle.config import ConfigKeys, Options
from uwsgi_waffle.ini import SNIPPETS, snippet_path
from uwsgi_waffle.settings.declare import DECLARATION_KEYS
from uwsgi_waffle.stores.base import HISTORY_LIMIT

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    """Return a page of the docs site."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def findings_table() -> str:
    """Return the table of all rules as it stands on the page of uWSGI."""
    rows = [f"| {rule.id} | {rule.level} | {rule.summary} | {rule.fix} |" for rule in RULES]
    return "\n".join(["| id | level | what was found | fix |", "| --- | --- | --- | --- |", *rows])


@pytest.mark.parametrize("key", ConfigKeys.all())
def test_page_of_the_configuration_lists_the_key(key: str) -> None:
    assert f"| `{key}` |" in page("configuration")


def test_page_of_the_configuration_has_the_defaults_that_are_used() -> None:
    options = Options.from_config({}, Path("instance"))
    compared = set()
    for key, shown in re.findall(r"^\| `WAFFLE_(\w+)` \| `([^`]+)`", page("configuration"), re.M):
        names = [name for name in (key.lower(), f"{key.lower()}_s") if hasattr(options, name)]
        if names and re.fullmatch(r'[\d.]+|"\w+"|True|False', shown):
            # Each store has its own limit of the history.
            used = HISTORY_LIMIT if key == "HISTORY_LIMIT" else getattr(options, names[0])
            assert used == ast.literal_eval(shown), key
            compared.add(key)
    assert len(compared) >= 9


@pytest.mark.parametrize("key", DECLARATION_KEYS)
def test_page_of_settings_lists_the_declaration_key(key: str) -> None:
    assert re.search(rf"^\| [^|]*`{key}`[^|]* \|", page("settings"), re.MULTILINE)


ERRORS = [
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and thing.__module__ == errors.__name__
]


@pytest.mark.parametrize("name", ERRORS)
def test_page_of_settings_lists_the_error(name: str) -> None:
    assert f"`{name}`" in page("settings")


def test_page_of_uwsgi_shows_every_finding_as_the_checker_words_it() -> None:
    assert findings_table() in page("uwsgi")


def test_readme_can_be_read_at_one_go() -> None:
    assert len(README.splitlines()) < 150


def test_changelog_has_a_dated_section_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} — 20\d\d-\d\d-\d\d", sections[1])
    # What a release does, to be read in minutes; how it came about is in the commits.
    newest = re.split(r"^## ", text, flags=re.MULTILINE)[2]
    assert len(newest.splitlines()) < 120


def test_badges_of_the_readme_say_what_the_project_says() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    python = re.search(r'^requires-python = ">=([\d.]+)"$', project, re.MULTILINE)
    licence = re.search(r'^license = "(\w+)"$', project, re.MULTILINE)
    status = re.search(r'"Development Status :: \d - (\w+)"', project)
    assert python
    assert licence
    assert status
    assert re.findall(r"\[!\[([^]]+)\]", README) == [
        f"Python {python[1]} or later",
        f"{licence[1]} licence",
        status[1],
    ]
    shown = re.findall(r"badge/([^)]+)-\w+\)", README)
    assert list(map(unquote, shown)) == [
        f"python-≥ {python[1]}",
        f"licence-{licence[1]}",
        f"status-{status[1].lower()}",
    ]


def test_readme_shows_the_benchmarks_that_were_run() -> None:
    results = json.loads((ROOT / "docs" / "bench" / "results.json").read_text(encoding="utf-8"))
    head, *shown = _rows(README.partition("Figures of `make bench`")[2].partition("## ")[0])
    columns, *measured = _rows(summary(results["rows"]))
    assert len(shown) == 2
    for row in shown:
        whole = next(found for found in measured if found[0] == row[0])
        assert (
            dict(zip(head, row, strict=True)).items()
            <= dict(zip(columns, whole, strict=True)).items()
        )


def _rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|") and "| ---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_benchmark_page_is_what_its_figures_make() -> None:
    folder = ROOT / "docs" / "bench"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    shown = folder.with_suffix(".md").read_text(encoding="utf-8")
    assert shown == text(results, folder.name, re.findall(r"\(bench/([\w-]+\.svg)\)", shown))


@pytest.mark.parametrize("name", SNIPPETS)
def test_page_of_uwsgi_names_the_snippet(name: str) -> None:
    assert f"| `{name}` |" in page("uwsgi")


@pytest.mark.parametrize("command", ["check", "init"])
def test_readme_shows_the_command(command: str) -> None:
    assert f"python -m uwsgi_waffle {command}" in README


@pytest.mark.parametrize("command", ["ini", "check", "init"])
def test_page_of_uwsgi_shows_the_command(command: str) -> None:
    assert f"python -m uwsgi_waffle {command}" in page("uwsgi")


def test_page_of_uwsgi_shows_the_ini_that_init_writes() -> None:
    shown = page("uwsgi").split("```ini\n")[1].split("```")[0]
    server = Server("/srv/shop/.venv/bin/uwsgi", "2.0.30", None, frozenset(), True)
    written = ini_for_an_app(server, processes=4)
    assert re.sub(r"(?<=\nini = ).*", str(snippet_path()), shown) == written


@pytest.mark.parametrize("target", ["run", "test"])
def test_readme_has_the_two_commands(target: str) -> None:
    assert f"$ make {target} " in README


def test_contributing_names_every_target_of_the_makefile() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)
    assert len(targets) > 10
    assert [name for name in targets if not re.search(rf"`make {name}[` ]|make {name} ", text)] == [
        "help",
    ]


def test_first_app_of_the_readme_runs(tmp_path: Path) -> None:
    code = README.split("```python\n# app.py\n")[1].split("```")[0]
    check = """
client = app.test_client()
assert client.get("/").text == "Waffle takes 1000 bytes\\n"
waffle.update({"MAX_FILESIZE": 2000})
assert client.get("/").text == "Waffle takes 2000 bytes\\n"
"""
    (tmp_path / "app.py").write_text(code + check, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
