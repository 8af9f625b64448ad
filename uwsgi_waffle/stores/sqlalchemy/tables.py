"""The tables of the SQLAlchemy store, and its statements."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ...errors import ConfigurationError


class Tables(NamedTuple):
    """The tables that one store needs.

    :ivar values: where the raw texts are: ours, or the user's model's.
    :ivar name: the column of ``values`` that holds the setting's name.
    :ivar raw: the column of ``values`` that holds the raw text.
    :ivar workers: the reports of workers; made at the first one, if your migrations do not.
    :ivar marks: has the revision of each setting's last change; equals ``values`` unless that
        is the user's.
    """

    meta: sa.Table
    marks: sa.Table
    history: sa.Table
    values: sa.Table
    name: sa.Column[Any]
    raw: sa.Column[Any]
    workers: sa.Table

    @property
    def own(self) -> list[sa.Table]:
        """The tables that are made on demand, or by your migrations."""
        return [self.meta, self.marks, self.history]


def define_tables(
    metadata: sa.MetaData | None = None, model: Any = None, *, prefix: str = "waffle_"
) -> Tables:
    """Define the store's tables in a metadata, so that your migrations make them.

    :param metadata: for example Flask-SQLAlchemy's ``db.metadata``; a new one if left out.
    :param model: your own key/value model, if you use one.
    :param prefix: what the names of the tables begin with.
    :raises ConfigurationError: the model has no ``key`` or no ``value``.
    """
    metadata = sa.MetaData() if metadata is None else metadata
    # MySQL's own TEXT ends at 64 KiB, and its usual collations take "Name" for "NAME".
    text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
    name = sa.String(255).with_variant(
        mysql.VARCHAR(255, collation="utf8mb4_bin"), "mysql", "mariadb"
    )
    meta = _table(
        f"{prefix}meta",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("mark", sa.String(16), nullable=False, server_default=""),
        sa.Column("replaced", text),
        sa.Column("apps", text),
    )
    history = _table(
        f"{prefix}history",
        metadata,
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", name, primary_key=True),
        sa.Column("old_raw", text),
        sa.Column("new_raw", text),
        sa.Column("author", text),
        sa.Column("reason", text),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("mark", sa.String(16), nullable=False, server_default=""),
    )
    workers = _table(
        f"{prefix}workers",
        metadata,
        sa.Column("app", name, primary_key=True),
        sa.Column("host", name, primary_key=True),
        sa.Column("pid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker_id", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("staleness_s", sa.Double),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("last_error", text),
        sa.Column("lifetime_s", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    mark_columns: list[sa.Column[Any]] = [
        sa.Column("name", name, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False, index=True),
    ]
    if model is None:
        mark_columns.insert(1, sa.Column("raw", text))
        values = _table(f"{prefix}settings", metadata, *mark_columns)
        return Tables(meta, values, history, values, values.c.name, values.c.raw, workers)
    marks = _table(f"{prefix}revisions", metadata, *mark_columns)
    return Tables(meta, marks, history, *_model_columns(model), workers)


def read_since(tables: Tables) -> sa.Executable:
    """Return the statement that reads what a reader lacks, at one instant.

    Its parameters are the reader's ``since``, ``epoch`` and ``mark``; its rows are those of
    :func:`~uwsgi_waffle.stores.sql.rows.delta_of`.
    """
    meta, marks, history = tables.meta, tables.marks, tables.history
    since = sa.bindparam("since", type_=sa.BigInteger)
    epoch = sa.bindparam("epoch", type_=sa.String)
    mark = sa.bindparam("mark", type_=sa.String)
    # By the beginning of the primary key, and once for the statement.
    is_history = (
        sa.select(history.c.name)
        .where(history.c.revision == since, history.c.mark == mark)
        .exists()
    )
    is_current = (meta.c.revision == since) & (meta.c.mark == mark)
    is_known = (meta.c.epoch == epoch) & (mark != sa.literal_column("''"))
    is_known &= is_current | ((meta.c.revision > since) & is_history)
    # There is one row. The limit keeps PostgreSQL from planning the look into the history twice,
    # which is a fifth of what a read costs there.
    head = (
        sa.select(
            meta.c.revision,
            meta.c.epoch,
            meta.c.mark,
            sa.case((is_known, since), else_=0).label("since"),
        )
        .limit(1)
        .subquery("head")
    )
    newer = marks.c.revision > head.c.since
    if tables.values is marks:
        return sa.select(*head.c, tables.name, tables.raw).select_from(head.outerjoin(marks, newer))
    by_us = sa.select(*head.c, marks.c.name, tables.raw).select_from(
        head.outerjoin(marks, newer).outerjoin(tables.values, tables.name == marks.c.name)
    )
    # What the user put in by hand has no revision; a complete read brings it.
    has_revision = sa.select(marks.c.name).where(marks.c.name == tables.name).exists()
    by_hand = (
        sa.select(*head.c, tables.name, tables.raw)
        .select_from(head.join(tables.values, head.c.since == 0))
        .where(~has_revision)
    )
    return sa.union_all(by_us, by_hand)


def _table(name: str, metadata: sa.MetaData, *columns: sa.Column[Any]) -> sa.Table:
    if name in metadata.tables:
        return metadata.tables[name]
    return sa.Table(name, metadata, *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4")


def _model_columns(model: Any) -> tuple[sa.Table, sa.Column[Any], sa.Column[Any]]:
    inspected = sa.inspect(model, raiseerr=False)
    if inspected is None or not hasattr(inspected, "columns"):
        raise ConfigurationError(f"{model!r} is not a model that SQLAlchemy knows")
    missing = [name for name in ("key", "value") if name not in inspected.columns]
    if missing:
        raise ConfigurationError(
            f"the model {model!r} has no column {' and no column '.join(missing)}: it needs key, "
            "a unique text column, and value, a text column"
        )
    table = getattr(inspected, "local_table", inspected)
    return table, inspected.columns["key"], inspected.columns["value"]
