"""The tables in the SQLite file, and the statements on them."""

from __future__ import annotations

import re

from ...errors import ConfigurationError

DEFAULT_PREFIX = "waffle_"

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS {p}meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL,
        epoch TEXT NOT NULL,
        mark TEXT NOT NULL DEFAULT '',
        replaced TEXT NOT NULL DEFAULT '',
        apps TEXT NOT NULL DEFAULT ''
    )""",
    """CREATE TABLE IF NOT EXISTS {p}settings (
        name TEXT PRIMARY KEY,
        raw TEXT,
        revision INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS {p}settings_revision ON {p}settings (revision)",
    """CREATE TABLE IF NOT EXISTS {p}history (
        revision INTEGER NOT NULL,
        name TEXT NOT NULL,
        old_raw TEXT,
        new_raw TEXT,
        author TEXT,
        reason TEXT,
        at TEXT NOT NULL,
        mark TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (revision, name)
    ) WITHOUT ROWID""",
    "INSERT OR IGNORE INTO {p}meta (id, revision, epoch) VALUES (1, 0, :epoch)",
)

# One statement, so that revision and rows come from one instant without a transaction. "since" is
# the reader's revision if this history has it under the reader's mark, else 0: everything.
_READ_SINCE = """
    WITH meta AS (
        SELECT revision, epoch, mark, CASE
            WHEN epoch = :epoch AND :mark <> '' AND (
                revision = :since AND mark = :mark
                OR revision > :since AND EXISTS (
                    SELECT 1 FROM {p}history AS known
                    WHERE known.revision = :since AND known.mark = :mark
                )
            ) THEN :since ELSE 0 END AS since
        FROM {p}meta
    )
    SELECT meta.revision, meta.epoch, meta.mark, meta.since,
        settings.name, CAST(settings.raw AS TEXT)
    FROM meta LEFT JOIN {p}settings AS settings ON settings.revision > meta.since
"""

_HISTORY = """
    SELECT revision, name, CAST(old_raw AS TEXT), CAST(new_raw AS TEXT), author, reason, at
    FROM {p}history
    WHERE :name IS NULL OR name = :name ORDER BY revision DESC, name LIMIT :limit
"""

_WRITE_HISTORY = """
    INSERT INTO {p}history (revision, name, old_raw, new_raw, author, reason, at, mark)
    SELECT :revision, :name, (SELECT raw FROM {p}settings WHERE name = :name),
        :raw, :author, :reason, :at, :mark
"""

_LOAD_HISTORY = """
    INSERT INTO {p}history (revision, name, old_raw, new_raw, author, reason, at, mark)
    VALUES (:revision, :name, :old_raw, :new_raw, :author, :reason, :at, :mark)
"""

_WRITE_SETTING = """
    INSERT INTO {p}settings (name, raw, revision) VALUES (:name, :raw, :revision)
    ON CONFLICT (name) DO UPDATE SET raw = excluded.raw, revision = excluded.revision
"""

_FORGET = """
    DELETE FROM {p}history WHERE revision <= :last
        AND revision < (SELECT min(revision) FROM {p}history) + :most
"""


class Tables:
    """The statements of a store whose tables' names begin with a prefix.

    :raises ConfigurationError: the prefix can't begin a table's name.
    """

    def __init__(self, prefix: str) -> None:
        # Upper case is left out because SQLite takes "Shop_meta" for "shop_meta".
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,30}", prefix) or prefix.startswith("sqlite_"):
            raise ConfigurationError(
                f"the prefix {prefix!r} can't begin the name of a table: write up to 31 lower-case "
                "letters, digits and underscores, for example shop_"
            )

        def named(statement: str) -> str:
            return statement.format(p=prefix)

        self.meta = f"{prefix}meta"
        self.schema = tuple(named(statement) for statement in _SCHEMA)
        self.is_prepared = named("SELECT 1 FROM {p}meta")
        self.revision = named("SELECT revision, epoch, mark FROM {p}meta")
        self.raise_revision = named("UPDATE {p}meta SET revision = :revision, mark = :mark")
        self.replaced = named("SELECT replaced FROM {p}meta")
        self.stand_in = named("UPDATE {p}meta SET replaced = :replaced")
        self.apps = named("SELECT apps FROM {p}meta")
        self.enroll = named("UPDATE {p}meta SET apps = :apps")
        self.clear = (named("DELETE FROM {p}history"), named("DELETE FROM {p}settings"))
        self.read_since = named(_READ_SINCE)
        self.history = named(_HISTORY)
        self.write_history = named(_WRITE_HISTORY)
        self.load_history = named(_LOAD_HISTORY)
        self.forget = named(_FORGET)
        self.write_setting = named(_WRITE_SETTING)
