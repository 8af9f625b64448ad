"""The files of docs/deployment are those that its pages show, and programs accept them.

What runs them is ``integration/test_deployment.py``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from uwsgi_waffle.checks import check_file
from uwsgi_waffle.ini import snippet_path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "deployment"
FILES = sorted(path for path in (FOLDER / "files").iterdir() if path.is_file())
PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md")))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in FILES])
def test_file_stands_on_a_page_as_it_is(path: Path) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```", PAGES, re.DOTALL | re.MULTILINE)
    assert blocks.count(path.read_text(encoding="utf-8")) == 1


def test_files_are_linked_from_one_page_and_none_is_left_out() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in FOLDER.glob("*.md")} - {"index.md"}
    assert set(re.findall(r"\(([\w-]+\.md)\)", index)) == pages
    toctree = index.partition("{toctree}")[2]
    assert {f"{name}.md" for name in re.findall(r"^([\w-]+)$", toctree, re.MULTILINE)} == pages


@pytest.mark.parametrize("name", ["shop.service", "emperor.service"])
def test_unit_is_accepted_by_systemd(name: str, tmp_path: Path) -> None:
    """By systemd's own tool where it is; else the keys are looked at."""
    text = (FOLDER / "files" / name).read_text(encoding="utf-8")
    keys = re.findall(r"^(\w+)=", text, re.MULTILINE)
    assert {"Description", "Type", "User", "WorkingDirectory", "ExecStart", "Restart"} <= set(keys)
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return
    unit = tmp_path / name
    # It wants every program to be there.
    unit.write_text(text.replace("/srv/shop/.venv/bin/uwsgi", sys.executable))
    done = subprocess.run(
        [tool, "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What it says of other units of this machine is not meant.
    said = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert said == []


def test_ini_of_debian_has_no_finding(tmp_path: Path) -> None:
    text = (FOLDER / "files" / "debian.ini").read_text(encoding="utf-8")
    (include,) = re.findall(r"^ini = (.*)$", text, re.MULTILINE)
    assert include.endswith("/site-packages/uwsgi_waffle/ini/waffle.ini")
    path = tmp_path / "shop.ini"
    path.write_text(text.replace(include, str(snippet_path())))
    # As the package's service reads it.
    default = tmp_path / "default.ini"
    default.write_text("[uwsgi]\nmaster = true\nworkers = 2\nno-orphans = true\n")
    report = check_file(path, also=(str(default),), python="3.11")
    errors = [found for found in report.findings if found.level == "error"]
    assert errors == []


def test_configuration_of_nginx_is_accepted(tmp_path: Path) -> None:
    """By nginx where it is; else the braces are counted."""
    text = (FOLDER / "files" / "nginx.conf").read_text(encoding="utf-8")
    assert text.count("{") == text.count("}") > 3
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    assert all(line.endswith((";", "{", "}")) for line in lines if line)
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        return
    whole = tmp_path / "nginx.conf"
    site = text.replace("listen 80;", "listen 127.0.0.1:18080;")
    pid = f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    whole.write_text(f"{pid}\nhttp {{ access_log off;\n{paths}{site}\n}}")
    done = subprocess.run(
        [nginx, "-t", "-p", str(tmp_path), "-c", str(whole)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_container_is_healthy_by_the_view_of_the_app(tmp_path: Path) -> None:
    """The app registers what the image and the pages ask for."""
    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER / 'files')!r});"
        f"import flask, functools; flask.Flask = functools.partial(flask.Flask,"
        f" instance_path={str(tmp_path)!r});"
        "import app; print(sorted(map(str, app.app.url_map.iter_rules())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'/healthz', '/readyz'" in done.stdout
    assert "/healthz" in (FOLDER / "files" / "Dockerfile").read_text(encoding="utf-8")
