"""The stores under fault: what can be done to a database behind the back of its users."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integration.support.find import need_module
from integration.support.postgres_server import IS_LISTENING, PostgresServer

from .record import Committed

if TYPE_CHECKING:
    import psycopg

_GATHER_S = 0.3

TABLES = ("waffle_meta", "waffle_settings", "waffle_history")


class Database(ABC):
    """A store, as its operator sees it. The contexts harm it, and heal it at their end."""

    #: as ``WAFFLE_STORE_URL``
    url: str
    #: of its server, if it has one
    port: int = 0

    @abstractmethod
    def start(self) -> None:
        """Make it ready to be used."""

    @abstractmethod
    def close(self) -> None:
        """End it, and remove what lies outside of the run's folder."""

    @abstractmethod
    def fresh_url(self, name: str) -> str:
        """Return the URL of another store, that is empty."""

    @abstractmethod
    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, committed; ``?`` stands for a parameter."""

    @abstractmethod
    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Let another program lock it."""

    @abstractmethod
    def killed(self) -> contextlib.AbstractContextManager[None]:
        """Take it away."""

    @abstractmethod
    def read_only(self) -> contextlib.AbstractContextManager[None]:
        """Let nobody write to it."""

    @abstractmethod
    def dropped(self) -> contextlib.AbstractContextManager[None]:
        """Drop its tables, and bring them back from a dump that was made in the same instant."""

    @abstractmethod
    def back_up(self) -> None:
        """Make a backup of it."""

    @abstractmethod
    def put_back(self) -> None:
        """Put the backup in its place while it is in use."""

    def revision(self) -> int:
        """Return its revision; 0 before anything was stored."""
        return int(self.ask("SELECT revision FROM waffle_meta")[0][0])

    def committed(self) -> list[Committed]:
        """Return all changes, oldest first."""
        rows = self.ask("SELECT revision, name, new_raw FROM waffle_history ORDER BY revision")
        return [Committed(*row) for row in rows]

    def poison(self, raw: str, *, as_sql: bool = False) -> None:
        """Put a raw text under a setting, with a revision of its own, and tell nobody."""
        self.ask("UPDATE waffle_meta SET revision = revision + 1")
        known = self.ask("SELECT 1 FROM waffle_settings WHERE name = 'SITENAME'")
        if not known:
            self.ask("INSERT INTO waffle_settings VALUES ('SITENAME', '\"Default\"', 0)")
        value = raw if as_sql else "?"
        self.ask(
            f"UPDATE waffle_settings SET raw = {value}, "
            "revision = (SELECT revision FROM waffle_meta) WHERE name = 'SITENAME'",
            *(() if as_sql else (raw,)),
        )


class SqliteDatabase(Database):
    """The embedded store, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "waffle.db"
        self.url = f"sqlite:///{self.path}"

    def start(self) -> None:
        self.folder.mkdir()

    def close(self) -> None:
        pass

    def fresh_url(self, name: str) -> str:
        folder = self.folder.with_name(name)
        folder.mkdir()
        return f"sqlite:///{folder / 'waffle.db'}"

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self._connected() as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Move its folder away: there is no server that could be killed."""
        away = self.folder.with_name("away")
        self.folder.rename(away)
        try:
            yield
        finally:
            away.rename(self.folder)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        self.path.chmod(0o440)
        try:
            yield
        finally:
            self.path.chmod(0o660)

    @contextlib.contextmanager
    def dropped(self) -> Iterator[None]:
        made: list[str] = []
        rows: dict[str, list[tuple[Any, ...]]] = {}
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for name in TABLES:
                found = connection.execute(
                    "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL "
                    "ORDER BY type DESC",
                    (name,),
                )
                made += [sql for (sql,) in found]
                rows[name] = connection.execute(f"SELECT * FROM {name}").fetchall()
            for name in TABLES:
                connection.execute(f"DROP TABLE {name}")
            connection.execute("COMMIT")
        try:
            yield
        finally:
            with self._connected() as connection:
                connection.execute("BEGIN IMMEDIATE")
                for sql in made:
                    connection.execute(sql)
                for name in TABLES:
                    marks = ", ".join("?" * len(rows[name][0]))
                    connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[name])
                connection.execute("COMMIT")

    def back_up(self) -> None:
        self._copy(self.path, self._backup)

    def put_back(self) -> None:
        self._copy(self._backup, self.path)

    @property
    def _backup(self) -> Path:
        return self.folder.with_name("backup.db")

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=30)) as one,
            contextlib.closing(sqlite3.connect(target, timeout=30)) as other,
        ):
            one.backup(other)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        with contextlib.closing(connection):
            yield connection


class PostgresDatabase(Database):
    """A PostgreSQL of this run's own."""

    def __init__(self) -> None:
        need_module("psycopg")
        self.server = PostgresServer()
        self.url = self.server.url("postgresql+psycopg")
        self.port = self.server.port

    def start(self) -> None:
        self.server.start()

    def close(self) -> None:
        self.server.release()

    def fresh_url(self, name: str) -> str:
        self.ask(f"CREATE DATABASE {name}")
        return self.server.url("postgresql+psycopg", name)

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            cursor = connection.execute(statement.replace("?", "%s").encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self._connected() as connection, connection.transaction():
            connection.execute("LOCK TABLE waffle_meta, waffle_settings IN ACCESS EXCLUSIVE MODE")
            yield

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    def listeners(self) -> list[int]:
        """Return the pids of the connections that hear its notices."""
        return [
            pid for (pid,) in self.ask(f"SELECT pid FROM pg_stat_activity WHERE {IS_LISTENING}")
        ]

    def kill_listeners(self) -> None:
        """End each connection that hears its notices."""
        for pid in self.listeners():
            self.ask("SELECT pg_terminate_backend(?)", pid)

    def restart(self) -> None:
        """Shut it down and start it at once."""
        self.server.end()
        self.server.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes: it accepts, and answers nobody."""
        with self._connected() as connection, connection.transaction():
            # So that changes are under way, which were answered up to then.
            connection.execute("SELECT 1 FROM waffle_meta FOR UPDATE")
            time.sleep(_GATHER_S)
            self.server.freeze()
            try:
                yield
            finally:
                self.server.thaw()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        self.ask("ALTER DATABASE postgres SET default_transaction_read_only = on")
        # It holds for sessions that begin then.
        self.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
        )
        try:
            yield
        finally:
            with self._connected() as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")

    @contextlib.contextmanager
    def dropped(self) -> Iterator[None]:
        with self._connected() as connection, connection.transaction():
            connection.execute("CREATE SCHEMA dump")
            for name in TABLES:
                connection.execute(f"ALTER TABLE {name} SET SCHEMA dump".encode())
        try:
            yield
        finally:
            with self._connected() as connection, connection.transaction():
                for name in TABLES:
                    connection.execute(f"ALTER TABLE dump.{name} SET SCHEMA public".encode())
                connection.execute("DROP SCHEMA dump")

    def back_up(self) -> None:
        with self._connected() as connection, connection.transaction():
            connection.execute("DROP SCHEMA IF EXISTS backup CASCADE")
            connection.execute("CREATE SCHEMA backup")
            for name in TABLES:
                connection.execute(f"CREATE TABLE backup.{name} AS TABLE {name}".encode())

    def put_back(self) -> None:
        # In one transaction: each look finds the one or the other.
        with self._connected() as connection, connection.transaction():
            for name in TABLES:
                connection.execute(f"DELETE FROM {name}".encode())
                connection.execute(f"INSERT INTO {name} SELECT * FROM backup.{name}".encode())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        # Only here: a run with the embedded store does without the driver.
        import psycopg

        url = self.server.url("postgresql")
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            yield connection
