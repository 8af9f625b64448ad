"""A real PostgreSQL of one test module's own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from .find import missing
from .processes import free_port

_LIMIT_S = 60


class PostgresServer:
    """A PostgreSQL that can be stopped, frozen, and started again on the same port.

    Its data lies in a folder of its own: it refuses to run as root, and no other user may enter
    the folders of pytest, which each run of it closes anew.
    """

    def __init__(self) -> None:
        self._programs = need_postgres()
        self._folder = Path(tempfile.mkdtemp(prefix="waffle-postgres-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        if self._user is not None:
            shutil.chown(self._folder, self._user)
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
        with self.log_path.open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", *arguments],
                user=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
            )
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-U", "waffle", tries=600)

    def stop(self) -> None:
        """End it at once, and every connection with it."""
        if self._server is not None:
            self.thaw()
            # SIGINT: fast shutdown; SIGTERM would wait for its clients.
            self._server.send_signal(signal.SIGINT)
            self._server.wait(_LIMIT_S)
            self._server = None

    def kill(self) -> None:
        """End all its processes by SIGKILL, as a crash does."""
        if self._server is not None:
            # The parent first, so that it replaces nobody.
            for process in self._processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._server.wait(_LIMIT_S)
            self._server = None

    def release(self) -> None:
        """End it, and remove its data."""
        self.stop()
        shutil.rmtree(self._folder)

    def freeze(self) -> None:
        """Let it hold all connections and answer to none."""
        for process in self._processes():
            # One of a client that left may end meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        assert self._server is not None
        parent = psutil.Process(self._server.pid)
        return [parent, *parent.children(recursive=True)]

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        for number in range(tries):
            done = subprocess.run(
                [self._programs / program, *arguments],
                user=self._user,
                cwd="/",
                capture_output=True,
                timeout=_LIMIT_S,
                check=False,
            )
            if done.returncode == 0:
                return
            if self._server is not None and self._server.poll() is not None:
                break
            time.sleep(0.1 if number else 0.02)
        pytest.fail(f"{program}: {done.stdout!r} {done.stderr!r}")


def need_postgres() -> Path:
    """Return the folder of PostgreSQL's programs: in pgserver, or on the PATH."""
    # Not imported: that looks for folders of the user's, and registers an exit handler.
    spec = importlib.util.find_spec("pgserver")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(folder) / "pginstall" / "bin"
        if os.access(bundled / "postgres", os.X_OK):
            return bundled
    named = shutil.which("initdb")
    # Debian keeps the programs of the server off the PATH.
    others = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = Path(named) if named is not None else next(iter(others), None)
    if found is None:
        missing("PostgreSQL")
    return found.resolve().parent
