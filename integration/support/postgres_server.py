"""A real PostgreSQL of one test module's own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from .find import missing
from .processes import Process, clean_environment, free_port

_LIMIT_S = 60
#: whom it runs as: it refuses to run as root
_USER = "nobody" if os.geteuid() == 0 else None


class PostgresServer:
    """A PostgreSQL that can be stopped, frozen, and started again on the same port.

    Its data lies in a folder of its own: it refuses to run as root, and no other user may enter
    the folders of pytest, which each run of it closes anew.
    """

    def __init__(self) -> None:
        self._programs = need_postgres()
        self._folder = Path(tempfile.mkdtemp(prefix="waffle-postgres-"))
        self._server: Process | None = None
        self.port = free_port()
        if _USER is not None:
            shutil.chown(self._folder, _USER)
        options = ("-U", "waffle", "-A", "trust", "-N", "-E", "UTF8")
        self._run("initdb", "-D", str(self._folder), *options)

    def url(self, scheme: str, database: str = "postgres") -> str:
        """Return its URL; the password is not asked for, but must never be shown."""
        return f"{scheme}://waffle:s3cret@127.0.0.1:{self.port}/{database}"

    @property
    def log_path(self) -> Path:
        """Where it says what it does."""
        return self._folder / "server.log"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        arguments = ["-D", str(self._folder), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        # Nothing is kept beyond the test.
        arguments += ["-c", "fsync=off", "-c", "max_connections=100"]
        arguments += ["-c", "log_line_prefix=%p@%d "]
        self._server = Process(
            "postgres",
            [str(self._programs / "postgres"), *arguments],
            env=clean_environment(),
            cwd="/",
            log=self.log_path,
            user=_USER,
        )
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-U", "waffle", tries=600)

    def stop(self) -> None:
        """End it at once, and every connection with it."""
        if self._server is not None:
            self.thaw()
            # SIGINT: fast shutdown; SIGTERM would wait for its clients.
            self._server.send(signal.SIGINT)
            self._server.popen.wait(_LIMIT_S)
            self._server = None

    def kill(self) -> None:
        """End all its processes by SIGKILL, as a crash does."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def release(self) -> None:
        """End it, and remove its data."""
        self.kill()
        shutil.rmtree(self._folder)

    def freeze(self) -> None:
        """Let it hold all connections and answer to none."""
        assert self._server is not None
        self._server.freeze()

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        assert self._server is not None
        self._server.thaw()

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        for number in range(tries):
            done = subprocess.run(
                [self._programs / program, *arguments],
                user=_USER,
                cwd="/",
                capture_output=True,
                timeout=_LIMIT_S,
                check=False,
            )
            if done.returncode == 0:
                return
            if self._server is not None and self._server.ended:
                break
            time.sleep(0.1 if number else 0.02)
        pytest.fail(f"{program}: {done.stdout!r} {done.stderr!r}")


def need_postgres() -> Path:
    """Return the folder of PostgreSQL's programs.

    That of ``WAFFLE_POSTGRES``; else the first of pgserver, the PATH and Debian's newest that the
    server's user may run: a wheel within /root is closed to it.
    """
    named = os.environ.get("WAFFLE_POSTGRES")
    found = [Path(named)] if named else found_postgres()
    usable = next((folder for folder in found if _may_run(folder / "postgres")), None)
    if usable is None:
        missing("PostgreSQL" + "".join(f", which {_USER} may run, in {f}" for f in found))
    return usable


def found_postgres() -> list[Path]:
    """Return each folder of PostgreSQL's programs on this machine, the preferred one first."""
    found = []
    # Not imported: that looks for folders of the user's, and registers an exit handler.
    spec = importlib.util.find_spec("pgserver")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found.append(Path(folder) / "pginstall" / "bin")
    on_path = shutil.which("initdb")
    # Debian keeps the programs of the server off the PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_major, reverse=True)
    for program in [*([Path(on_path)] if on_path else []), *debian]:
        found.append(program.resolve().parent)
    return [folder for folder in dict.fromkeys(found) if (folder / "postgres").exists()]


def _major(initdb: Path) -> int:
    version = initdb.parts[-3].split(".")[0]
    return int(version) if version.isdigit() else 0


def _may_run(program: Path) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"], user=_USER, cwd="/", capture_output=True, timeout=_LIMIT_S
        )
    except OSError:
        return False
    return done.returncode == 0
