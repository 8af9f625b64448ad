"""The tests on every interpreter, on the lowest and the newest versions, on every uWSGI.

``nox --list`` names the sessions. Interpreters are taken from the PATH and from pyenv; one that is
missing is named, and its session does not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.14t")
#: what the tests of types ask
CHECKER = "mypy>=1.13"

nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.stop_on_first_error = False


def _find_interpreters() -> None:
    """Put on the PATH what pyenv has; its own commands work for the chosen versions only."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in PYTHONS:
        name = f"python{python}"
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            continue
        for program in sorted(versions.glob(f"{python}.*/bin/{name}")):
            os.environ["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"


_find_interpreters()


def _run_tests(session: nox.Session, *paths: str, env: dict[str, str] | None = None) -> None:
    stage = {"WAFFLE_STAGE": session.name}
    for path in paths:
        arguments = [".ci/recorded.py", "-q", path, "--dist", "worksteal", "-n"]
        # As the Makefile has it: more than cores, as they wait for other processes.
        cores = os.cpu_count() or 2
        if path == "integration":
            arguments += [str(cores + 3), "-m", "short"]
        else:
            arguments += [str(cores + 1)]
        session.run("python", *arguments, *session.posargs, env={**stage, **(env or {})})


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """Unit tests and the short integration tests, with the newest versions."""
    session.install("--editable", ".[test,gevent]", CHECKER)
    _run_tests(session, "tests", "integration")


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """The same, with the lowest versions that pyproject.toml allows, on the lowest Python."""
    # Not in create_tmp(), which would be the tests' TMPDIR: of root's only, and long.
    pins = Path(session.virtualenv.location) / "lowest.txt"
    pins.write_text("\n".join(lowest_versions()) + "\n")
    session.install("--editable", ".[test,gevent]", CHECKER, "--constraint", str(pins))
    _run_tests(session, "tests", "integration")


@nox.session(python="3.11")
def uwsgi_of_pypi(session: nox.Session) -> None:
    """The short integration tests on PyPI's uwsgi, which is built here."""
    session.install("--editable", ".[test,gevent]", "uwsgi")
    uwsgi = Path(session.bin) / "uwsgi"
    _run_tests(session, "integration", env={"WAFFLE_UWSGI": str(uwsgi)})


@nox.session(python="3.11")
def uwsgi_of_debian(session: nox.Session) -> None:
    """The short integration tests on Debian's uWSGI 2.0.21, which has Debian's Python 3.11."""
    # Debian's is 3.11.2, for which redis-py needs what 3.11.3 has.
    session.install("--editable", ".[test,gevent]", "async-timeout")
    _run_tests(session, "integration", env={"WAFFLE_UWSGI": "/usr/bin/uwsgi"})


def lowest_versions() -> list[str]:
    """Return a pin for each lower bound of what the package needs, and of its extras.

    What only tests need is left at its newest.
    """
    project = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for name in ("redis", "sqlalchemy", "peewee", "prometheus", "admin", "toml", "async"):
        wanted += extras[name]
    pins = []
    for requirement in wanted:
        found = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)(.*)", requirement)
        assert found, f"{requirement} has no lower bound"
        marker = requirement.partition(";")[2]
        pins.append(f"{found[1]}=={found[2]}" + (f" ;{marker}" if marker else ""))
    return pins
