"""Connections that hear what PostgreSQL's NOTIFY announces, by psycopg 3 or psycopg2."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from ...errors import ConfigurationError, StoreError
from ...masking import redact
from .databases import translated, whole_s
from .deadline import cut_after, within

#: longest name of a channel, in bytes: LISTEN cuts a longer one in silence, and NOTIFY refuses it
MOST_BYTES = 63

_FIX = (
    "write postgresql+psycopg:// or postgresql+psycopg2://, in WAFFLE_STORE_URL or in "
    "WAFFLE_POSTGRESQL_URL"
)


def channel_of(prefix: str) -> str:
    """Return the channel of the tables with a prefix: one for all apps that share them."""
    channel = f"{prefix}changes"
    if len(channel.encode()) <= MOST_BYTES:
        return channel
    return f"waffle_{hashlib.sha256(prefix.encode()).hexdigest()[:32]}"


class Listening(ABC):
    """A driver's connection that hears channels, and belongs to this.

    For one thread at a time. Each method raises errors of the store.

    :param connection: in its autocommit mode.
    :param timeout_s: longest time that an answer may take.
    :param shown: the database's name, without any password.
    :param passwords: what may be shown in no error.
    """

    def __init__(
        self, connection: Any, timeout_s: float, shown: str, passwords: tuple[str, ...]
    ) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._shown = shown
        self._passwords = passwords

    def is_direct(self) -> bool:
        """Return whether the server itself is at the other end, and no pooler.

        Source: PostgreSQL documentation, "Message Flow": a backend names its pid at the start; a
        pooler, which has no backend of its own for each client, makes one up.
        """
        with self._bounded() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return bool(cursor.fetchone()[0] == self._connection.info.backend_pid)

    def listen(self, channel: str) -> None:
        """Hear a channel; asks the server also if it is heard already."""
        with self._bounded() as cursor:
            cursor.execute(f"LISTEN {_quoted(channel)}")

    def unlisten(self, channel: str) -> None:
        """Hear a channel no longer."""
        with self._bounded() as cursor:
            cursor.execute(f"UNLISTEN {_quoted(channel)}")

    def take(self) -> list[tuple[str, str]]:
        """Return channel and message of all that came, without waiting."""
        with translated(self._shown, self._passwords):
            return self._taken()

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        with translated(self._shown, self._passwords):
            return int(self._connection.fileno())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[Any]:
        with (
            translated(self._shown, self._passwords),
            cut_after(self._connection, self._timeout_s),
            contextlib.closing(self._connection.cursor()) as cursor,
        ):
            yield cursor

    @abstractmethod
    def _taken(self) -> list[tuple[str, str]]: ...


class _Psycopg(Listening):
    """By psycopg 3."""

    def __init__(self, connection: Any, *more: Any) -> None:
        super().__init__(connection, *more)
        self._heard: list[tuple[str, str]] = []
        # For what comes while a statement is answered.
        connection.add_notify_handler(lambda each: self._heard.append((each.channel, each.payload)))

    def _taken(self) -> list[tuple[str, str]]:
        # Its generator of notifies has no timeout before psycopg 3.2, and prepares to wait.
        libpq = self._connection.pgconn
        libpq.consume_input()
        # As the handler above is given them: not all databases write UTF-8.
        encoding = self._connection.info.encoding
        while (each := libpq.notifies()) is not None:
            channel, message = each.relname, each.extra
            self._heard.append((channel.decode(encoding), message.decode(encoding, "replace")))
        heard, self._heard[:] = list(self._heard), []
        return heard


class _Psycopg2(Listening):
    """By psycopg2."""

    def _taken(self) -> list[tuple[str, str]]:
        self._connection.poll()
        heard = [(each.channel, each.payload) for each in self._connection.notifies]
        self._connection.notifies.clear()
        return heard


def listening(
    connection: Any, timeout_s: float, shown: str, passwords: tuple[str, ...] = ()
) -> Listening:
    """Return what listens on a driver's connection, which is closed if it can't.

    :raises StoreError: the driver is another.
    """
    kind: type[Listening] | None = None
    if hasattr(connection, "pgconn") and hasattr(connection, "add_notify_handler"):
        kind = _Psycopg
    elif hasattr(connection, "poll") and hasattr(connection, "notifies"):
        kind = _Psycopg2
    if kind is None:
        driver = type(connection).__module__.partition(".")[0]
        with contextlib.suppress(Exception):
            connection.close()
        raise StoreError(f"{shown}: the driver {driver} can't listen to notices: {_FIX}")
    return kind(connection, timeout_s, shown, passwords)


class ServerUrl:
    """A URL of PostgreSQL that is used for listening only.

    :param url: as libpq has it, or SQLAlchemy with psycopg or psycopg2.
    :raises ConfigurationError: it is none, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        match = re.fullmatch(r"postgres(?:ql)?(?:\+(psycopg2?))?", scheme)
        if match is None:
            raise ConfigurationError(
                "WAFFLE_POSTGRESQL_URL must name a PostgreSQL server: write "
                "postgresql://user:password@host:5432/database"
            )
        self._driver, self._parse = _driver_of(match[1])
        self._url = f"postgresql://{rest}"
        #: the URL, without any password
        self.shown = redact(self._url)
        try:
            parts = urlsplit(self._url)
            password = parts.password or ""
            self._parse(self._url)
            # libpq takes the rest of a password behind its first @ for the host, and shows it.
            if parts.netloc.count("@") > 1:
                raise ValueError(self.shown)
        except Exception:
            # Without its cause, whose text may hold the password.
            raise ConfigurationError(
                "WAFFLE_POSTGRESQL_URL is not a URL that PostgreSQL understands: write "
                "postgresql://user:password@host:5432/database, with special characters as %XX"
            ) from None
        self._passwords = (password, unquote(password))

    def connect(self, timeout_s: float) -> Listening:
        """Open a connection that hears nothing yet; blocks for at most ``timeout_s``.

        :raises StoreUnavailable: it can't be opened.
        """

        def connect() -> Any:
            connection = self._driver.connect(self._url, connect_timeout=whole_s(timeout_s))
            connection.autocommit = True
            if hasattr(connection, "prepare_threshold"):
                connection.prepare_threshold = None
            return connection

        with translated(self.shown, self._passwords):
            connection = within(timeout_s, connect, lambda late: late.close())
        return listening(connection, timeout_s, self.shown, self._passwords)


def _driver_of(name: str | None) -> tuple[Any, Callable[[str], object]]:
    """Return the module of a driver, or of the first there is, and what parses its URLs."""
    for each in (name,) if name else ("psycopg", "psycopg2"):
        with contextlib.suppress(ImportError):
            if each == "psycopg":
                import psycopg.conninfo

                return psycopg, psycopg.conninfo.conninfo_to_dict
            extensions = importlib.import_module("psycopg2.extensions")
            return importlib.import_module("psycopg2"), extensions.parse_dsn
    raise ConfigurationError(
        f"WAFFLE_POSTGRESQL_URL needs {name or 'psycopg'}, which is not installed: "
        f"pip install '{'psycopg2' if name == 'psycopg2' else 'psycopg[binary]'}'"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
