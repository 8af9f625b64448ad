"""A real PgBouncer before a PostgreSQL of the tests'."""

from __future__ import annotations

import shutil

from .find import missing
from .processes import Process, clean_environment
from .server import SERVERS_PATH, UNPRIVILEGED, ServerInFolder


class Pgbouncer(ServerInFolder):
    """A PgBouncer for all databases of a PostgreSQL.

    :param postgres_port: where that listens, on 127.0.0.1.
    :param mode: when a client's connection to the server goes to another client: after each
        ``"transaction"``, as most sites have it, or at the end of its ``"session"``.
    """

    def __init__(self, postgres_port: int, mode: str = "transaction") -> None:
        self._binary = need_pgbouncer()
        super().__init__("pgbouncer")
        self._ini = self.folder / "pgbouncer.ini"
        self._ini.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={postgres_port} user=waffle\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            "unix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = 3\nmax_client_conn = 200\n"
            # A test ends all connections to its database at its end: the next one is to get none
            # of which PgBouncer has not noticed that yet.
            "server_idle_timeout = 1\nserver_check_delay = 0\n"
        )

    def url(self, scheme: str, database: str) -> str:
        """Return the URL of a database, with a password that must never be shown."""
        return f"{scheme}://waffle:s3cret@127.0.0.1:{self.port}/{database}"

    def _start(self) -> Process:
        return Process(
            "pgbouncer",
            [self._binary, str(self._ini)],
            env=clean_environment(),
            cwd="/",
            log=self.log_path,
            user=UNPRIVILEGED,
            ready=lambda log: "process up" in log,
        )


def need_pgbouncer() -> str:
    """Return PgBouncer's program."""
    found = shutil.which("pgbouncer", path=SERVERS_PATH)
    if found is None:
        missing("PgBouncer (Debian: pgbouncer)")
    return found
