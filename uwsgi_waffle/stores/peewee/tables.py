"""SQL of the peewee store, in the words of each database; the tables are those of SQLAlchemy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Dialect(NamedTuple):
    """How a database wants its SQL.

    :ivar quote: what stands before and after a quoted name.
    :ivar param: what stands for a parameter.
    :ivar begin: opens the transaction of a change.
    :ivar bounds: run next, with ``{ms}`` and ``{s}`` replaced by the bound of the change.
    """

    quote: str
    param: str
    begin: str
    bounds: tuple[str, ...]
    text: str = "TEXT"
    name: str = "VARCHAR(255)"
    table_end: str = ""
    index_inside: bool = False


SQLITE = Dialect('""', "?", "BEGIN IMMEDIATE", ())
POSTGRESQL = Dialect(
    '""',
    "%s",
    # Whatever the user's default is: waiting for the row of the revision must not fail.
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    (
        "SET LOCAL statement_timeout = {ms}",
        "SET LOCAL idle_in_transaction_session_timeout = {ms}",
    ),
)
MYSQL = Dialect(
    "``",
    "%s",
    "BEGIN",
    ("SET innodb_lock_wait_timeout = {s}",),
    # MySQL's own TEXT ends at 64 KiB, and its usual collations take "Name" for "NAME".
    text="LONGTEXT",
    name="VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    table_end=" ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    index_inside=True,
)


class Model(NamedTuple):
    """The user's table.

    :ivar path: schema, if any, and name.
    :ivar key: the column that holds the setting's name.
    :ivar value: the column that holds the raw text.
    """

    path: tuple[str, ...]
    key: str
    value: str


class Statements:
    """Every statement of a store.

    :param model: the user's table that holds the raw texts, or ``None`` for our own.
    """

    def __init__(self, dialect: Dialect, prefix: str, model: Model | None) -> None:
        self.dialect = dialect
        marks = f"{prefix}{'settings' if model is None else 'revisions'}"
        self._names = {
            "meta": self.quoted(f"{prefix}meta"),
            "workers": self.quoted(f"{prefix}workers"),
            "history": self.quoted(f"{prefix}history"),
            "marks": self.quoted(marks),
            "index": self.quoted(f"ix_{marks}_revision"),
            "values": self.quoted(*(model.path if model is not None else (marks,))),
            "key": self.quoted(model.key if model is not None else "name"),
            "value": self.quoted(model.value if model is not None else "raw"),
            "name_type": dialect.name,
            "text": dialect.text,
            "end": dialect.table_end,
        }
        self.read_since = self._sql(_READ_OWN if model is None else _READ_MODEL)
        self.revision = self._sql("SELECT revision FROM {meta}")
        self.raise_revision = self._sql("UPDATE {meta} SET revision = revision + 1, mark = ?")
        self.make_meta = self._sql("INSERT INTO {meta} (id, revision, epoch) VALUES (1, 0, ?)")
        self.add_history = self._sql(
            "INSERT INTO {history} (revision, name, old_raw, new_raw, author, reason, at, "
            "mark) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        self.replace_meta = self._sql("UPDATE {meta} SET revision = ?, epoch = ?")
        #: what forgets everything but the user's own rows
        self.clear = [self._sql("DELETE FROM {history}"), self._sql("DELETE FROM {marks}")]
        self.all_values = self._sql("SELECT {key}, {value} FROM {values}")
        self.delete_value = self._sql("DELETE FROM {values} WHERE {key} = ?")

    @property
    def workers(self) -> str:
        """The quoted name of the table of reports."""
        return self._names["workers"]

    def quoted(self, *path: str) -> str:
        """Return a name as it stands in a statement."""
        first, last = self.dialect.quote[0], self.dialect.quote[1]
        return ".".join(f"{first}{part.replace(last, last * 2)}{last}" for part in path)

    def schema(self) -> list[str]:
        """Return what makes the tables unless they are there."""
        raw = "raw {text}, " if self._names["values"] == self._names["marks"] else ""
        inside = ", INDEX {index} (revision)" if self.dialect.index_inside else ""
        statements = [
            "CREATE TABLE IF NOT EXISTS {meta} (id INTEGER PRIMARY KEY, "
            "revision BIGINT NOT NULL, epoch VARCHAR(32) NOT NULL, "
            "mark VARCHAR(16) NOT NULL DEFAULT ''){end}",
            "CREATE TABLE IF NOT EXISTS {history} (revision BIGINT NOT NULL, "
            "name {name_type} NOT NULL, old_raw {text}, new_raw {text}, author {text}, "
            "reason {text}, at VARCHAR(32) NOT NULL, mark VARCHAR(16) NOT NULL DEFAULT '', "
            "PRIMARY KEY (revision, name)){end}",
            f"CREATE TABLE IF NOT EXISTS {{marks}} (name {{name_type}} NOT NULL PRIMARY KEY, {raw}"
            f"revision BIGINT NOT NULL{inside}){{end}}",
        ]
        if not inside:
            statements.append("CREATE INDEX IF NOT EXISTS {index} ON {marks} (revision)")
        return [self._sql(statement) for statement in statements]

    def probes(self) -> list[str]:
        """Return what fails unless the tables are there."""
        tables = ("history", "marks")
        return [self._sql(f"SELECT 1 FROM {{{table}}} WHERE 1 = 0") for table in tables]

    def history(self, *, named: bool) -> str:
        """Return what reads the newest entries, of one setting or of all."""
        where = "WHERE name = ? " if named else ""
        return self._sql(
            "SELECT revision, name, old_raw, new_raw, author, reason, at FROM {history} "
            f"{where}ORDER BY revision DESC, name LIMIT ?"
        )

    def select_values(self, count: int) -> str:
        """Return what reads the raws of so many settings."""
        return self._sql(
            f"SELECT {{key}}, {{value}} FROM {{values}} WHERE {{key}} IN ({_q(count)})"
        )

    def select_marks(self, count: int) -> str:
        """Return what tells which of so many settings have a mark."""
        return self._sql(f"SELECT name, revision FROM {{marks}} WHERE name IN ({_q(count)})")

    def insert(self, table: str, columns: Sequence[str]) -> str:
        """Return what puts a row into ``values`` or ``marks``."""
        names = ", ".join(self.quoted(column) for column in columns)
        return (
            self._sql(f"INSERT INTO {{{table}}} (")
            + names
            + self._sql(f") VALUES ({_q(len(columns))})")
        )

    def update(self, table: str, columns: Sequence[str]) -> str:
        """Return what changes the row in ``values`` or ``marks`` that the last parameter names."""
        sets = ", ".join(f"{self.quoted(column)} = {self.dialect.param}" for column in columns)
        key = "key" if table == "values" else "name"
        where = " WHERE {key} = ?" if key == "key" else " WHERE name = ?"
        return self._sql(f"UPDATE {{{table}}} SET ") + sets + self._sql(where)

    def _sql(self, text: str) -> str:
        # Names come last: they may hold a question mark themselves, and a percent sign.
        names: Mapping[str, str] = self._names
        if self.dialect.param == "%s":
            names = {key: name.replace("%", "%%") for key, name in names.items()}
        return text.strip("\n").replace("?", self.dialect.param).format(**names)


_HEAD = """(
    SELECT revision, epoch, mark, CASE WHEN epoch = ? AND ? <> '' AND (
        revision = ? AND mark = ?
        OR revision > ? AND EXISTS (SELECT 1 FROM {history} h WHERE h.revision = ? AND h.mark = ?)
    ) THEN ? ELSE 0 END AS since FROM {meta}
)"""

_READ_OWN = f"""
    SELECT m.revision, m.epoch, m.mark, m.since, s.{{key}}, s.{{value}}
    FROM {_HEAD} m LEFT JOIN {{marks}} s ON s.revision > m.since
"""

# What the user put in by hand has no mark; a complete read brings it, by the second half.
_READ_MODEL = f"""
    SELECT m.revision, m.epoch, m.mark, m.since, s.name, v.{{value}}
    FROM {_HEAD} m LEFT JOIN {{marks}} s ON s.revision > m.since
    LEFT JOIN {{values}} v ON v.{{key}} = s.name
    UNION ALL
    SELECT m.revision, m.epoch, m.mark, m.since, v.{{key}}, v.{{value}}
    FROM {_HEAD} m JOIN {{values}} v ON m.since = 0
    WHERE NOT EXISTS (SELECT 1 FROM {{marks}} s WHERE s.name = v.{{key}})
"""


def _q(count: int) -> str:
    return ", ".join("?" * count)
