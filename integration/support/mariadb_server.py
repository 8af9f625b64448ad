"""A real MariaDB of the tests' own."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from .find import missing
from .processes import Process, clean_environment, free_port

_LIMIT_S = 60
#: whom it runs as: it refuses to run as root
_USER = "nobody" if os.geteuid() == 0 else None
#: Debian keeps the server off the PATH of most users
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class MariadbServer:
    """A MariaDB that can be stopped, frozen, and started again on the same port.

    Its data lies in a folder of its own, which no other user than its own may enter.
    """

    def __init__(self) -> None:
        self._binary = need_mariadb()
        self._folder = Path(tempfile.mkdtemp(prefix="waffle-mariadb-"))
        self._server: Process | None = None
        self._databases = itertools.count(1)
        self.port = free_port()
        if _USER is not None:
            shutil.chown(self._folder, _USER)
        self._install()
        # Run at each start, as root of the server.
        self._init = self._folder / "init.sql"
        self._init.write_text(
            "CREATE USER IF NOT EXISTS waffle@'127.0.0.1' IDENTIFIED BY 's3cret';\n"
            "GRANT ALL ON *.* TO waffle@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def url(self, scheme: str = "mysql+pymysql", database: str = "") -> str:
        """Return its URL, with a password that must never be shown."""
        return f"{scheme}://waffle:s3cret@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self, options: str = "") -> Iterator[str]:
        """Make a database, and drop it at the end; yield its name.

        The server runs again by then, whatever was done to it.
        """
        name = f"waffle_{next(self._databases)}"
        self.ask(f"CREATE DATABASE {name} {options}")
        try:
            yield name
        finally:
            self.restore()
            self.ask(f"DROP DATABASE {name}")

    def ask(self, statement: str, database: str = "") -> tuple[tuple[Any, ...], ...]:
        """Return the rows of one statement, committed."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="waffle",
            password="s3cret",
            database=database or None,
            connect_timeout=10,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return tuple(cursor.fetchall())

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        arguments = [
            self._binary,
            "--no-defaults",
            f"--datadir={self._folder / 'data'}",
            f"--socket={self._folder / 'socket'}",
            f"--pid-file={self._folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            f"--init-file={self._init}",
            # What was committed outlives the process, not the machine: nothing waits for the disk.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=0",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=32M",
            "--performance-schema=0",
        ]
        self._server = Process(
            "mariadbd",
            arguments,
            env=clean_environment(),
            cwd="/",
            log=self._folder / "server.log",
            user=_USER,
            ready=lambda log: "ready for connections" in log,
        )
        assert not self._server.ended, self._server.evidence()

    def stop(self) -> None:
        """End it at once, as a crash does, and every connection with it."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def freeze(self) -> None:
        """Let it hold all connections and answer to none."""
        assert self._server is not None
        self._server.freeze()

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        assert self._server is not None
        self._server.thaw()

    def restore(self) -> None:
        """Let it run, whether it was stopped or frozen."""
        if self._server is None or self._server.ended:
            self.start()
        else:
            self.thaw()

    def release(self) -> None:
        """End it, and remove its data."""
        self.stop()
        shutil.rmtree(self._folder)

    def _install(self) -> None:
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self._folder / 'data'}"]
        command += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        done = subprocess.run(
            command,
            user=_USER,
            cwd="/",
            env={**clean_environment(), "PATH": _PATH},
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"mariadb-install-db: {done.stdout!r} {done.stderr!r}")


def need_mariadb() -> str:
    """Return MariaDB's server."""
    server = shutil.which("mariadbd", path=_PATH)
    if server is None or shutil.which("mariadb-install-db", path=_PATH) is None:
        missing("MariaDB (Debian: mariadb-server)")
    return server
