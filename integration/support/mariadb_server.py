"""A real MariaDB of the tests' own."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from typing import Any

import pymysql

from .find import missing
from .processes import Process, clean_environment
from .server import SERVERS_PATH, UNPRIVILEGED, ServerInFolder


class MariadbServer(ServerInFolder):
    """A MariaDB that can be stopped, frozen, and started again on the same port."""

    def __init__(self) -> None:
        self._binary = need_mariadb()
        super().__init__("mariadb")
        self._databases = itertools.count(1)
        # Each server removes at its start what others have in the folder of temporary tables.
        temporary = self.folder / "tmp"
        temporary.mkdir()
        if UNPRIVILEGED is not None:
            shutil.chown(temporary, UNPRIVILEGED)
        self._common = [f"--datadir={self.folder / 'data'}", f"--tmpdir={temporary}"]
        # By default 100 MB are written, in a folder that may be in memory.
        self._common.append("--innodb-log-file-size=8M")
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self._fill(["mariadb-install-db", "--no-defaults", *self._common, *options])
        # Run at each start, as root of the server.
        self._init = self.folder / "init.sql"
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

    def _start(self) -> Process:
        arguments = [
            self._binary,
            "--no-defaults",
            *self._common,
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            f"--init-file={self._init}",
            # What was committed outlives the process, not the machine: nothing waits for the disk.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=0",
            "--innodb-buffer-pool-size=32M",
            "--performance-schema=0",
        ]
        return Process(
            "mariadbd",
            arguments,
            env=clean_environment(),
            cwd="/",
            log=self.log_path,
            user=UNPRIVILEGED,
            ready=lambda log: "ready for connections" in log,
        )


def need_mariadb() -> str:
    """Return MariaDB's server."""
    server = shutil.which("mariadbd", path=SERVERS_PATH)
    if server is None or shutil.which("mariadb-install-db", path=SERVERS_PATH) is None:
        missing("MariaDB (Debian: mariadb-server)")
    return server
