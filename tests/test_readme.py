"""What the README must name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import summary, text
from uwsgi_waffle.checks import RULES
from uwsgi_waffle.checks.binary import Server
from uwsgi_waffle.checks.setup import ini_for_an_app
from uwsgi_waffle.config import ConfigKeys
from uwsgi_waffle.ini import SNIPPETS, snippet_path
from uwsgi_waffle.settings.declare import DECLARATION_KEYS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def findings_table() -> str:
    """Return the table of all rules as it stands in the README."""
    rows = [f"| {rule.id} | {rule.level} | {rule.summary} | {rule.fix} |" for rule in RULES]
    return "\n".join(["| id | level | what was found | fix |", "| --- | --- | --- | --- |", *rows])


@pytest.mark.parametrize("key", ConfigKeys.all())
def test_readme_lists_the_config_key(key: str) -> None:
    assert f"| `{key}` |" in README


@pytest.mark.parametrize("key", DECLARATION_KEYS)
def test_readme_lists_the_declaration_key(key: str) -> None:
    assert f"`{key}`" in README


def test_readme_shows_every_finding_as_the_checker_words_it() -> None:
    assert findings_table() in README


def test_readme_shows_the_summary_of_the_benchmarks_that_were_run() -> None:
    results = json.loads((ROOT / "docs" / "bench" / "results.json").read_text(encoding="utf-8"))
    assert summary(results["rows"]) in README
    assert "(docs/bench/served.svg)" in README


def test_benchmark_page_is_what_its_figures_make() -> None:
    folder = ROOT / "docs" / "bench"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    page = folder.with_suffix(".md").read_text(encoding="utf-8")
    assert page == text(results, folder.name, re.findall(r"\(bench/([\w-]+\.svg)\)", page))


@pytest.mark.parametrize("name", SNIPPETS)
def test_readme_names_the_snippet(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("command", ["ini", "check", "init"])
def test_readme_shows_the_command(command: str) -> None:
    assert f"python -m uwsgi_waffle {command}" in README


def test_readme_shows_the_ini_that_init_writes() -> None:
    shown = README.split("```ini\n")[1].split("```")[0]
    server = Server("/srv/shop/.venv/bin/uwsgi", "2.0.30", None, frozenset(), True)
    written = ini_for_an_app(server, processes=4)
    assert re.sub(r"(?<=\nini = ).*", str(snippet_path()), shown) == written


@pytest.mark.parametrize(
    "target", ["run", "test", "lint", "types", "unit", "integration", "bench", "faults", "fuzz"]
)
def test_readme_and_makefile_know_the_target(target: str) -> None:
    assert f"make {target}" in README
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_first_app_of_the_readme_runs(tmp_path: Path) -> None:
    code = README.split("```python\n# app.py\n")[1].split("```")[0]
    check = """
client = app.test_client()
assert client.get("/").text == "Waffle takes 1000 bytes\\n"
assert client.post("/grow").text == "revision 1\\n"
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
