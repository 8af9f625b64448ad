"""The tables of the peewee store, and its queries; the tables are those of SQLAlchemy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import peewee

from ...errors import ConfigurationError


class UserModel(NamedTuple):
    """The user's model, as far as the store needs it.

    :ivar key: the column that holds the setting's name.
    :ivar value: the column that holds the raw text.
    :ivar defaults: returns what the model fills its other columns with, by column.
    """

    table: Any
    key: str
    value: str
    defaults: Callable[[], dict[str, Any]]


def model_of(model: Any) -> UserModel:
    """Return what the store needs of a peewee model.

    :raises ConfigurationError: it has no ``key`` or no ``value``.
    """
    meta = getattr(model, "_meta", None)
    fields = getattr(meta, "fields", None)
    if meta is None or fields is None:
        raise ConfigurationError(f"{model!r} is not a peewee model")
    missing = [name for name in ("key", "value") if name not in fields]
    if missing:
        raise ConfigurationError(
            f"the model {model!r} has no field {' and no field '.join(missing)}: it needs key, "
            "a unique text field, and value, a text field"
        )

    def defaults() -> dict[str, Any]:
        values = meta.get_default_dict()
        return {fields[name].column_name: fields[name].db_value(values[name]) for name in values}

    # Not the model itself, whose fields would convert the raw texts.
    table = peewee.Table(meta.table_name, schema=meta.schema)
    return UserModel(table, fields["key"].column_name, fields["value"].column_name, defaults)


class Tables:
    """The tables that one store needs.

    :ivar values: where the raw texts are: ours, or the user's model's.
    :ivar marks: tells the revision of each setting's last change; equals ``values`` unless that
        is the user's.
    """

    def __init__(self, prefix: str, model: UserModel | None) -> None:
        make: Any = peewee.Table
        self.model = model
        self.marks_name = f"{prefix}{'settings' if model is None else 'revisions'}"
        self.prefix = prefix
        self.meta = make(f"{prefix}meta")
        self.history = make(f"{prefix}history")
        self.workers = make(f"{prefix}workers")
        self.marks = make(self.marks_name)
        self.values = self.marks if model is None else model.table

    def name_of(self, table: Any) -> Any:
        """Return the column of a table that holds the setting's name."""
        theirs = self.model is not None and table is self.values
        return column(table, self.model.key if self.model is not None and theirs else "name")

    def raw_of(self, table: Any) -> Any:
        """Return the column that holds the raw text."""
        return column(table, "raw" if self.model is None else self.model.value)

    def read_since(self, revision: int, epoch: str, mark: str) -> Any:
        """Return the query that reads what a reader lacks, at one instant.

        Its rows are those of :func:`~uwsgi_waffle.stores.sql.rows.delta_of`.
        """
        head = self._head(revision, epoch, mark)
        heads = [column(head, name) for name in ("revision", "epoch", "mark", "since")]
        marks = self.marks.alias("s")
        newer = marks.c.revision > head.c.since
        joined = _joined(head, marks, newer)
        if self.model is None:
            return peewee.Select([joined], [*heads, marks.c.name, marks.c.raw])
        values = self.values.alias("v")
        key, raw = column(values, self.model.key), self.raw_of(values)
        by_us = _joined(joined, values, key == marks.c.name)
        # What the user put in by hand has no revision; a complete read brings it.
        other = self._head(revision, epoch, mark)
        others = [column(other, name) for name in ("revision", "epoch", "mark", "since")]
        found = self.marks.alias("f")
        has_revision = found.select(found.c.name).where(found.c.name == key)
        by_hand = _joined(other, values, other.c.since == 0, peewee.JOIN.INNER)
        return peewee.Select([by_us], [*heads, marks.c.name, raw]).union_all(
            peewee.Select([by_hand], [*others, key, raw]).where(~peewee.fn.EXISTS(has_revision))
        )

    def _head(self, revision: int, epoch: str, mark: str) -> Any:
        meta, history = self.meta.alias("m"), self.history.alias("h")
        since: Any = peewee.Value(0)
        if mark and revision > 0:
            # By the beginning of the primary key, and once for the query.
            in_history = history.select(history.c.name).where(
                history.c.revision == revision, history.c.mark == mark
            )
            is_current = (meta.c.revision == revision) & (meta.c.mark == mark)
            is_older = (meta.c.revision > revision) & peewee.fn.EXISTS(in_history)
            is_known = (meta.c.epoch == epoch) & (is_current | is_older)
            since = peewee.Case(None, ((is_known, revision),), 0)
        columns = (meta.c.revision, meta.c.epoch, meta.c.mark, since.alias("since"))
        # The limit for the reason of the SQLAlchemy store's.
        return meta.select(*columns).limit(1).alias("head")


def _joined(left: Any, right: Any, on: Any, kind: str = peewee.JOIN.LEFT_OUTER) -> Any:
    # Not left.join(): that of a query joins within it.
    return peewee.Join(left, right, kind, on)


def column(table: Any, name: str) -> Any:
    """Return a column, whose name may have spaces and be a word of SQL."""
    make: Any = peewee.Column
    return make(table, name)


def schema(db: Any, tables: Tables, *, reports_only: bool = False) -> list[str]:
    """Return the statements that make the tables unless they are there.

    :param db: the user's database, for what is quoted how.
    :param reports_only: only the one that makes the table of workers' reports.
    """
    mysql = isinstance(db, peewee.MySQLDatabase)
    # MySQL's own TEXT ends at 64 KiB, and its usual collations take "Name" for "NAME".
    text = "LONGTEXT" if mysql else "TEXT"
    name = "VARCHAR(255)" + (" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if mysql else "")
    double = "REAL" if isinstance(db, peewee.SqliteDatabase) else "DOUBLE PRECISION"
    end = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4" if mysql else ""
    mark = "mark VARCHAR(16) NOT NULL DEFAULT ''"
    raw = f"raw {text}, " if tables.model is None else ""
    index = _quoted(db, f"ix_{tables.marks_name}_revision")
    marks = _quoted(db, tables.marks_name)
    columns = {
        f"{tables.prefix}meta": "id INTEGER PRIMARY KEY, revision BIGINT NOT NULL, "
        f"epoch VARCHAR(32) NOT NULL, {mark}, replaced {text}, "
        f"apps {text}",
        f"{tables.prefix}history": f"revision BIGINT NOT NULL, name {name} NOT NULL, "
        f"old_raw {text}, new_raw {text}, author {text}, reason {text}, at VARCHAR(32) NOT NULL, "
        f"{mark}, PRIMARY KEY (revision, name)",
        tables.marks_name: f"name {name} NOT NULL PRIMARY KEY, {raw}revision BIGINT NOT NULL"
        + (f", INDEX {index} (revision)" if mysql else ""),
        f"{tables.prefix}workers": f"app {name} NOT NULL, host {name} NOT NULL, "
        f"pid INTEGER NOT NULL, worker_id INTEGER NOT NULL, revision BIGINT NOT NULL, "
        f"staleness_s {double}, state VARCHAR(32) NOT NULL, last_error {text}, "
        f"lifetime_s {double} NOT NULL, at {double} NOT NULL, PRIMARY KEY (app, host, pid)",
    }
    if reports_only:
        columns = {f"{tables.prefix}workers": columns[f"{tables.prefix}workers"]}
    statements = [
        f"CREATE TABLE IF NOT EXISTS {_quoted(db, table)} ({text}){end}"
        for table, text in columns.items()
    ]
    if not mysql and not reports_only:
        statements.append(f"CREATE INDEX IF NOT EXISTS {index} ON {marks} (revision)")
    return statements


def _quoted(db: Any, name: str) -> str:
    first, last = db.quote
    return f"{first}{name.replace(last, last * 2)}{last}"
