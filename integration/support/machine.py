"""A folder that stands for a machine of its own: its files, its user, and what it installs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from .processes import Process, clean_environment
from .uwsgi_server import ROOT

FILES = ROOT / "docs" / "deployment" / "files"
NOBODY = 65534
#: what requirements.txt asks for, and what that needs
PACKAGES = (
    *("flask", "werkzeug", "jinja2", "markupsafe", "click", "itsdangerous", "blinker", "msgspec"),
    *("pyuwsgi", "sqlalchemy", "greenlet", "typing_extensions", "psycopg", "psycopg-binary"),
)
# Beside the packages of a virtual environment.
SCRIPTS = ("uwsgi", "flask")
# Makes a virtual environment as venv does; what its pip installs is what the test runs with.
PYTHON = """#!/bin/sh
if [ "$1 $2" != "-m venv" ]; then exec {python} "$@"; fi
{python} -m venv --without-pip "$3"
folder=$(cd "$3" && pwd)
cat > "$3/bin/pip" <<END
#!/bin/sh
test "\\$1" = install
cp -r {packages}/site/. $folder/lib/python*/site-packages/
for script in {packages}/bin/*; do
    {{ echo "#!$folder/bin/python"; tail -n +2 \\$script; }} > $folder/bin/\\${{script##*/}}
    chmod 755 $folder/bin/\\${{script##*/}}
done
END
chmod 755 "$3/bin/pip"
"""


class Machine:
    """An empty folder in which paths such as ``/srv/shop`` lie, and a user who owns nothing else.

    :param root: readable for all; stands for ``/``.
    :param ports: mapping of a port in the files to one of this test's own.
    """

    def __init__(self, root: Path, ports: Mapping[int, int]) -> None:
        self.root = root
        self._ports = ports
        self._python, self._prefix = _python_and_user()
        self.tools = root / "tools"
        self.tools.mkdir()
        packages = root / "packages"
        _stage(packages)
        for name in ("python", "python3"):
            text = PYTHON.format(python=self._python, packages=packages)
            self.write(self.tools / name, text, mode=0o755)

    @property
    def is_another_user(self) -> bool:
        """Whether commands run as a user who is not the test's own."""
        return bool(self._prefix)

    def path(self, path: str) -> Path:
        """Return where an absolute path of the files lies here."""
        return self.root / path.lstrip("/")

    def here(self, text: str) -> str:
        """Return a text with the paths and ports of this machine."""
        text = re.sub(r"(?<![\w.])/(srv|run|var|etc)/(?=\w)", rf"{self.root}/\1/", text)
        for theirs, own in self._ports.items():
            text = re.sub(rf":{theirs}\b", f":{own}", text)
        return text

    def file(self, name: str) -> str:
        """Return one of the files of the pages, as it is on this machine."""
        return self.here((FILES / name).read_text(encoding="utf-8"))

    def write(self, path: Path, text: str, *, mode: int = 0o644) -> None:
        """Write a file, also its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def give(self, path: Path) -> None:
        """Make a folder, if need be, and give it to the user."""
        path.mkdir(parents=True, exist_ok=True)
        if self._prefix:
            os.chown(path, NOBODY, NOBODY)

    def environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """Return the environment of a command of the user."""
        path = f"{self.tools}:/usr/local/bin:/usr/bin:/bin"
        return clean_environment(PATH=path, HOME=str(self.root), **(more or {}))

    def run(
        self,
        command: str | Iterable[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        as_root: bool = False,
    ) -> str:
        """Return what a command of the user prints; fail the test if it fails."""
        arguments = ["bash", "-ec", command] if isinstance(command, str) else [*command]
        done = subprocess.run(
            [*([] if as_root else self._prefix), *arguments],
            cwd=cwd,
            env=self.environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}"
        return done.stdout

    def start(
        self, name: str, command: Iterable[str], *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program as the user."""
        return Process(
            name,
            [*self._prefix, *command],
            env=self.environment(env),
            cwd=cwd,
            log=self.root / f"{name}.log",
        )


def _python_and_user() -> tuple[str, list[str]]:
    """Return a Python of this version, and the command that becomes a user who can run it.

    Where only root can, it is run as the test's own user.
    """
    own = str(getattr(sys, "_base_executable", sys.executable))
    if os.geteuid() != 0:
        return own, []
    version = "{}.{}".format(*sys.version_info[:2])
    who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    for python in (own, f"/usr/local/bin/python{version}", f"/usr/bin/python{version}"):
        # By a shell, because setpriv starts even what this user may not.
        command = [*who, "/bin/sh", "-c", f"'{python}' -c 'import venv'"]
        with contextlib.suppress(OSError):
            done = subprocess.run(command, check=False, capture_output=True, cwd="/")
            if done.returncode == 0:
                return python, who
    return own, []


def _stage(folder: Path) -> None:
    """Copy the packages and their scripts to where every user can read them."""
    site, scripts = folder / "site", folder / "bin"
    scripts.mkdir(parents=True)
    shutil.copytree(
        ROOT / "uwsgi_waffle",
        site / "uwsgi_waffle",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    # Flask finds the command by it.
    info = site / "uwsgi_waffle-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uwsgi-waffle\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[flask.commands]\nwaffle = uwsgi_waffle.cli:group\n")
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files(name) or ():
                source = Path(str(file.locate()))
                if file.name in SCRIPTS and ".." in file.parts:
                    shutil.copy(source, scripts)
                elif ".." not in file.parts and source.suffix != ".pyc" and source.exists():
                    target = site / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, target)
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
