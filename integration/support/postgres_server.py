"""A real PostgreSQL of one test module's own."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

    :param programs: the folder of its programs, one of :func:`found_postgres`.
    :param log_statements: keep what it is asked in its log.
    """

    def __init__(self, programs: Path | None = None, *, log_statements: bool = False) -> None:
        self._programs = programs or need_postgres()
        self._log_statements = log_statements
        self._folder = Path(tempfile.mkdtemp(prefix="waffle-postgres-"))
        self._server: Process | None = None
        self._databases = itertools.count(1)
        self.port = free_port()
        if _USER is not None:
            shutil.chown(self._folder, _USER)
        options = ("-U", "waffle", "-A", "trust", "-N", "-E", "UTF8")
        self._run("initdb", "-D", str(self._folder), *options)

    def url(self, scheme: str, database: str = "postgres") -> str:
        """Return its URL; the password is not asked for, but must never be shown."""
        return f"{scheme}://waffle:s3cret@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make a database, and drop it at the end; yield its name.

        The server runs again by then, whatever was done to it.
        """
        name = f"waffle_{next(self._databases)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield name
        finally:
            self.restore()
            # Each has hundreds of files, which would take a minute to remove together.
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Return the rows of one statement, committed."""
        # Only here: faults with another store do without the driver.
        import psycopg

        url = self.url("postgresql", database)
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

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
        if self._log_statements:
            arguments += ["-c", "log_statement=all"]
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

    def restore(self) -> None:
        """Let it run, whether it was stopped or frozen."""
        if self._server is None or self._server.ended:
            self.start()
        else:
            self.thaw()

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
    """Return the folder of PostgreSQL's programs: ``WAFFLE_POSTGRES``, or the first found."""
    named = os.environ.get("WAFFLE_POSTGRES")
    found = [Path(named)] if named else found_postgres()
    if not found:
        missing("a PostgreSQL that its user may run")
    return found[0]


def found_postgres() -> list[Path]:
    """Return each folder of PostgreSQL's programs that can be used, the preferred one first."""
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
    # A wheel in a folder of root's is closed to the user that the server runs as.
    return [folder for folder in dict.fromkeys(found) if _may_run(folder / "postgres")]


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
