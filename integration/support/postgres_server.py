"""A real PostgreSQL of the tests' own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .find import folder_of_programs, missing
from .processes import Process, clean_environment
from .server import UNPRIVILEGED, ServerInFolder
from .waiting import NotInTime

_LIMIT_S = 60
#: of pg_stat_activity, which shows what was asked last: a silent listener is asked by UNLISTEN
IS_LISTENING = "query ~ '^(LISTEN|UNLISTEN) '"
# As template0 has it, since PostgreSQL 15.
_EMPTY = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT nspname FROM pg_namespace
            WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
        LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
    END $$;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
    ALTER DATABASE {} RESET ALL;
"""


class PostgresServer(ServerInFolder):
    """A PostgreSQL that can be stopped, frozen, and started again on the same port.

    :param programs: the folder of its programs, one of :func:`found_postgres`.
    :param log_statements: keep what it is asked in its log.
    :param connections: how many it takes at once.
    """

    def __init__(
        self,
        programs: Path | None = None,
        *,
        log_statements: bool = False,
        connections: int = 100,
    ) -> None:
        self._programs = programs or need_postgres()
        self._log_statements = log_statements
        self._connections = connections
        super().__init__("postgres")
        self._databases = itertools.count(1)
        self._empty: list[str] = []
        self._fill([*self._filled_by(), "-D", self.folder, "-U", "waffle"])

    def _filled_by(self) -> list[str | Path]:
        return [self._programs / "initdb", "-A", "trust", "-N", "-E", "UTF8"]

    def url(self, scheme: str, database: str = "postgres") -> str:
        """Return its URL; the password is not asked for, but must never be shown."""
        return f"{scheme}://waffle:s3cret@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give an empty database, and empty it at the end; yield its name.

        The server runs again by then, whatever was done to it.
        """
        # To make and drop one takes five times as long as to empty it.
        if self._empty:
            name = self._empty.pop()
        else:
            name = f"waffle_{next(self._databases)}"
            self.ask(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield name
        finally:
            self.restore()
            self.ask(_EMPTY.format(name), name)
            self._empty.append(name)

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Return the rows of one statement, committed."""
        # Only here: faults with another store do without the driver.
        import psycopg

        url = self.url("postgresql", database)
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _start(self) -> Process:
        arguments = ["-D", str(self.folder), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        # Nothing is kept beyond the test.
        arguments += ["-c", "fsync=off", "-c", f"max_connections={self._connections}"]
        arguments += ["-c", "log_line_prefix=%p@%d "]
        if self._log_statements:
            arguments += ["-c", "log_statement=all"]
        to_it = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "waffle"]
        return Process(
            "postgres",
            [str(self._programs / "postgres"), *arguments],
            env=clean_environment(),
            cwd="/",
            log=self.log_path,
            user=UNPRIVILEGED,
            ready=lambda _: self._asked("pg_isready", *to_it) == 0,
            deadline_s=_LIMIT_S,
        )

    def end(self) -> None:
        """Shut it down, which ends every connection."""
        # SIGINT: fast shutdown; SIGTERM would wait for its clients.
        self.send(signal.SIGINT)
        self.process.wait_for_end()
        self._process = None

    def release(self) -> None:
        # Killed, it leaves its shared memory behind, which the next start removes.
        with contextlib.suppress(AssertionError, NotInTime):
            self.restore()
            self.end()
        super().release()

    def _asked(self, program: str, *arguments: str) -> int:
        return subprocess.run(
            [self._programs / program, *arguments],
            user=UNPRIVILEGED,
            cwd="/",
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        ).returncode


class PostgresStandby(PostgresServer):
    """A standby that follows another PostgreSQL, which runs, and lags behind it as it likes.

    :param primary: the one that it is a copy of.
    """

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__(primary._programs)

    def promote(self) -> None:
        """Make it a primary: the database takes changes when it returns."""
        self.ask("SELECT pg_promote()")

    def _filled_by(self) -> list[str | Path]:
        primary = ["-h", "127.0.0.1", "-p", str(self._primary.port)]
        options = ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
        return [self._programs / "pg_basebackup", *primary, *options]


def need_postgres() -> Path:
    """Return the folder of PostgreSQL's programs: ``WAFFLE_POSTGRES``, or the first found."""
    named = os.environ.get("WAFFLE_POSTGRES")
    found = [Path(named)] if named else found_postgres()
    if not found:
        missing("a PostgreSQL that its user may run")
    return found[0]


@functools.cache
def found_postgres() -> list[Path]:
    """Return each folder of PostgreSQL's programs that can be used, the preferred one first."""
    found = []
    # Not imported: that looks for folders of the user's, and registers an exit handler.
    spec = importlib.util.find_spec("pgserver")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found.append(_opened(Path(folder)) / "pginstall" / "bin")
    on_path = shutil.which("initdb")
    # Debian keeps the programs of the server off the PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_major, reverse=True)
    for program in [*([Path(on_path)] if on_path else []), *debian]:
        found.append(program.resolve().parent)
    return [folder for folder in dict.fromkeys(found) if _may_run(folder / "postgres")]


def _opened(wheel: Path) -> Path:
    """Return a wheel's folder, or a copy of it if the user that the server runs as may not enter.

    As below /root. The libraries that it brings along lie beside it.
    """
    if UNPRIVILEGED is None or _may_run(wheel / "pginstall" / "bin" / "postgres"):
        return wheel
    copy = Path(tempfile.mkdtemp(prefix="waffle-postgres-wheel-", dir=folder_of_programs()))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, copy / folder.name, symlinks=True)
    return copy / wheel.name


def _major(initdb: Path) -> int:
    version = initdb.parts[-3].split(".")[0]
    return int(version) if version.isdigit() else 0


def _may_run(program: Path) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            user=UNPRIVILEGED,
            cwd="/",
            capture_output=True,
            timeout=_LIMIT_S,
        )
    except OSError:
        return False
    return done.returncode == 0
