"""The parts that a library brings to a store in an SQL database: connections and statements."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)

# SQLite takes no more than 999 parameters before its version 3.32.
_CHUNK = 500


class Connections(Protocol[C_co]):
    """The connections of one process to one database.

    :ivar shown: the database's name, without any password.
    :ivar passwords: what may be shown in no error.
    :ivar file: the path of the file, if the database is one of SQLite's.
    :ivar dialect: ``"sqlite"``, ``"postgresql"``, ``"mysql"`` or another; ``""`` if it is not
        known yet.
    """

    @property
    def shown(self) -> str: ...

    @property
    def passwords(self) -> tuple[str, ...]: ...

    @property
    def file(self) -> str | None: ...

    @property
    def dialect(self) -> str: ...

    def connect(self, timeout_s: float) -> Any:
        """Open a connection of the driver's, in its autocommit mode, that the caller closes."""
        ...

    def reading(self, timeout_s: float) -> contextlib.AbstractContextManager[C_co]:
        """Give a connection for single statements; it is kept unless one fails."""
        ...

    def change(
        self,
        run: Callable[[C_co], T],
        timeout_s: float,
        before_commit: Callable[[], None] | None,
    ) -> T:
        """Commit what a function does, or take it back if it raises.

        :param before_commit: called last before the commit.
        :raises OutcomeUnknown: the connection broke within the commit.
        """
        ...


class Statements(ABC):
    """The statements of one change, in its transaction.

    A table is named ``"history"``, ``"marks"`` (the revision of each setting) or ``"values"`` (the
    raw texts, which are in the marks unless the user has a model). A row is a dict by the names of
    our columns, of the user's table too: ``name`` and ``raw``.
    """

    @abstractmethod
    def raise_revision(self, mark: str) -> int | None:
        """Raise the revision by one; return it, or ``None`` if its row is missing."""

    @abstractmethod
    def restart(self, revision: int) -> None:
        """Set the revision."""

    @abstractmethod
    def lock(self) -> bool:
        """Take the lock on the row of the revision; return whether there is one."""

    @abstractmethod
    def note(self, name: str) -> list[str | None]:
        """Return what the store keeps of itself in a column of the meta table.

        :return: one text, or none without the row of the revision.
        """

    @abstractmethod
    def set_note(self, name: str, text: str) -> None:
        """Set what the store keeps of itself in a column of the meta table."""

    @abstractmethod
    def notify(self, channel: str, message: str | None = None) -> None:
        """Announce a message on a channel of PostgreSQL's, once the transaction is committed.

        :param message: if there is none, the revision, epoch and mark that the store has now.
        """

    @abstractmethod
    def stored(self, names: Iterable[str] | None) -> dict[str, Any]:
        """Return the raws that are stored, by name: of these settings, or of all."""

    @abstractmethod
    def marked(self, names: Iterable[str]) -> Container[str]:
        """Return which of these settings have a revision."""

    @abstractmethod
    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Put rows into a table."""

    @abstractmethod
    def update(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Change the rows of these names."""

    @abstractmethod
    def delete(self, table: str, names: list[str] | None = None) -> None:
        """Remove the rows of these names, or all."""

    @abstractmethod
    def oldest(self) -> int | None:
        """Return the oldest revision in the history, or ``None`` if that is empty."""

    @abstractmethod
    def forget(self, last: int) -> None:
        """Remove the history up to a revision, and that."""

    def upsert(self, table: str, rows: list[dict[str, Any]], known: Container[str]) -> None:
        """Update the rows whose names are known, insert the others.

        In two statements that every database has; the lock on the revision's row keeps others out.
        """
        self.insert(table, [row for row in rows if row["name"] not in known])
        self.update(table, [row for row in rows if row["name"] in known])


def by_name(
    names: Iterable[str] | None, rows_of: Callable[[list[str] | None], Iterable[Any]]
) -> dict[str, Any]:
    """Return the second column of rows by the first, for some names or all.

    :param rows_of: runs the query for so many names as one statement may have, or for all.
    """
    if names is None:
        return {row[0]: row[1] for row in rows_of(None)}
    listed = list(names)
    chunks = (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
    return {row[0]: row[1] for chunk in chunks for row in rows_of(chunk)}


def renamed(rows: list[dict[str, Any]], name: str, raw: str) -> list[dict[str, Any]]:
    """Return rows with the names that the columns ``name`` and ``raw`` have in a user's table."""
    keys = {"name": name, "raw": raw}
    return [{keys.get(key, key): value for key, value in row.items()} for row in rows]
