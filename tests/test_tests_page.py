"""The page on tests of users: its files run as they stand, in an environment of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = "pytest_uwsgi_waffle"
pytestmark = pytest.mark.slow


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # As the entry point loads it, also where an older installation lacks that.
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [*command, "-c", os.devnull, f"--rootdir={folder}", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_files_of_the_page_run_and_leave_the_developers_settings_alone(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tests.md").read_text()
    files = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in files] == [
        "test_banner.py",
        "conftest.py",
        "shop.py",
        "test_update.py",
    ]
    for name, code in files:
        (tmp_path / name).write_text(code)
    done = _pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    # No instance folder, no database beside the app.
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {name for name, _ in files}
    done = _pytest(tmp_path, "-p", "xdist", "-n", "2")
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_plugin_imports_neither_the_package_nor_flask() -> None:
    code = f"import sys, {PLUGIN}; print(not {{'flask', 'uwsgi_waffle'}} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_package_names_the_plugin_for_pytest() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\nuwsgi_waffle = "{PLUGIN}"\n' in text
    assert f'packages = ["uwsgi_waffle", "{PLUGIN}"]' in text
