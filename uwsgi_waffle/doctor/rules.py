"""The catalogue of what the doctor may find, each with its fix."""

from __future__ import annotations

from ..checks import Finding, Rule
from ..checks.model import Level

_TABLE: tuple[tuple[str, Level, str, str], ...] = (
    (
        "D001",
        "error",
        "The app, or its settings, can't be set up.",
        "Do what the message says: workers fail in the same way.",
    ),
    (
        "D002",
        "error",
        "The store can't be read: workers serve the last values they know, or the defaults.",
        "Start it, check `WAFFLE_STORE_URL`, and let this user read it.",
    ),
    (
        "D003",
        "error",
        "The store can't be written: no setting can be changed.",
        "Let this user write the database, and for a file its folder too; end the process that "
        "keeps it locked.",
    ),
    (
        "D004",
        "error",
        "The SQLite file is not in WAL mode: readers and writers wait for each other.",
        "Put it on a local disk, and run `PRAGMA journal_mode = WAL` on it once.",
    ),
    (
        "D005",
        "error",
        "A stored value does not fit its declaration: the default is served.",
        "Correct it with `flask waffle set` or `flask waffle reset`, or declare it so that it "
        "fits.",
    ),
    (
        "D006",
        "warning",
        "Values or history of settings that are not declared are stored.",
        "Declare them again, or remove what is stored with `flask waffle prune`.",
    ),
    (
        "D007",
        "error",
        "The watch file can't be used: other workers follow at their next resync only.",
        "Make it and its folder writable for every worker and for this user, or name another in "
        "`WAFFLE_WATCHER_FILE`.",
    ),
    (
        "D008",
        "warning",
        "The clock, or the time of the watch file, is wrong: it does not show when a change was "
        "made.",
        "Set the clocks of this host and of its file server right; no change is missed because of "
        "them.",
    ),
    (
        "D009",
        "warning",
        "The watch file and the store are at different revisions: a change was not announced, or "
        "a backup was put back.",
        "Nothing to do now: this command made every worker read the store. If it comes again, "
        "look for announcements that fail in the log.",
    ),
    (
        "D010",
        "warning",
        "The group can't write a file of the settings, or the files have several owners and "
        "groups.",
        "Give them one owner and one group, and let the group write: `chmod g+w`.",
    ),
    (
        "D011",
        "warning",
        "Any user of this machine may write a file of the app's settings, or put another in its "
        "place.",
        "Move them into a folder of the app's own, or take the right from others: `chmod o-w`.",
    ),
    (
        "D012",
        "error",
        "Redis can't be used: other hosts follow at their next resync only.",
        "Do what the message says: start it, correct `WAFFLE_REDIS_URL` (or `WAFFLE_REDIS_HOST` "
        "and `WAFFLE_REDIS_PORT`), or give its user the right that is missing.",
    ),
    (
        "D013",
        "error",
        "A message published on the Redis channel did not come back.",
        "Connect without a proxy that drops pub/sub, and let this Redis user publish and subscribe "
        "on the channel (`ACL SETUSER … +publish +subscribe &channel`).",
    ),
    (
        "D014",
        "error",
        "`WAFFLE_WATCHTYPE` is `redis`, but redis-py is not installed: only this host follows at "
        "once.",
        "pip install 'uwsgi-waffle[redis]', or set `WAFFLE_WATCHTYPE = \"file\"`.",
    ),
    (
        "D015",
        "warning",
        "Redis announces changes to other hosts, but they can't read an SQLite file of this host.",
        "Name a store that all hosts reach in `WAFFLE_STORE_URL`, or, with one host, set "
        '`WAFFLE_WATCHTYPE = "file"`.',
    ),
    (
        "D016",
        "warning",
        "The Redis channel has its default name, which other apps on this Redis share.",
        "Give each app its own `WAFFLE_REDIS_CHANNEL`.",
    ),
    (
        "D017",
        "error",
        "The ini of uWSGI can't be checked.",
        "Do what the message says, or run `python -m uwsgi_waffle check` with its options.",
    ),
    (
        "D018",
        "warning",
        "A running process reports that something fails: it may serve older settings, or defaults.",
        "Fix what it names; it catches up by itself, and `flask waffle workers` shows when.",
    ),
    (
        "D019",
        "error",
        "Someone who needs the app's files can't write them: their changes fail or go unnoticed.",
        "As root, give each file the owner of its folder, `chown --reference=FOLDER FILE`, and "
        "let the group write, `chmod g+w FILE`.",
    ),
    (
        "D020",
        "warning",
        "A running process serves an older revision, though the newest was announced.",
        "See whether it is stopped, hangs, or serves one long request; restart it if it stays so.",
    ),
    (
        "D021",
        "warning",
        "The database confirms changes before they are on its disk: a crash can lose them.",
        "Set `synchronous_commit = on` in PostgreSQL, for the database or for the app's user, or "
        "`innodb_flush_log_at_trx_commit = 1` in MySQL and MariaDB.",
    ),
    (
        "D022",
        "warning",
        "Processes can't write their reports: no list shows which of them are behind.",
        "Let this user write the table of reports; if it is missing, make it once as a user who "
        "may: `flask waffle create-tables --url URL`.",
    ),
    (
        "D023",
        "error",
        "This process can't use the page: what it changes, or reads first, others may serve late.",
        "Make the page and its folder writable for every process, or name a file on a local disk "
        "in `WAFFLE_PAGE_FILE`.",
    ),
    (
        "D024",
        "warning",
        "A process holds the page for longer than a change may take: each request of this host "
        "reads the store.",
        "See whether it is stopped (`kill -CONT PID`) or hangs, and end it if it stays so; nothing "
        "that was committed is lost.",
    ),
    (
        "D025",
        "error",
        "The store that this host knows is gone, or another is in its place: workers keep the "
        "values that they read last, and no setting can be changed.",
        "Restore it by the database's own means, or say what comes next with `flask waffle "
        "recreate`: a backup, the last known values, the defaults, or what is there now.",
    ),
    (
        "D026",
        "warning",
        "Another app shares this store and declares other settings: each changes the other's.",
        "Give each app a `WAFFLE_STORE_PREFIX` of its own, as `shop_`. An app that no longer uses "
        "the store is forgotten after seven days.",
    ),
    (
        "D027",
        "warning",
        "Files are in a folder that looks like one release among many: the next deploy begins "
        "without them.",
        "Name places outside of it in `WAFFLE_STORE_URL` and `WAFFLE_WATCHER_FILE`, or give the "
        "app an `instance_path` that stays.",
    ),
    (
        "D028",
        "warning",
        "Hosts serve different defaults, or pin different settings.",
        "Give all hosts the same environment and configuration files, unless they are to differ.",
    ),
    (
        "D029",
        "error",
        "PostgreSQL can't be listened to: other hosts follow at their next resync only.",
        "Start it, let its user connect once more from each host (`max_connections`), and check "
        "`WAFFLE_STORE_URL`, or `WAFFLE_POSTGRESQL_URL` if there is one.",
    ),
    (
        "D030",
        "error",
        "What the store announces by PostgreSQL is not received: there is a pooler that gives "
        "each transaction another connection, or `WAFFLE_POSTGRESQL_URL` names another database.",
        "Name the PostgreSQL server itself, and the store's database, in `WAFFLE_POSTGRESQL_URL`; "
        "the store itself can stay behind the pooler.",
    ),
    (
        "D031",
        "warning",
        "A host is silent: it may still serve, and what waits for all workers waits for it.",
        "See whether it runs and reaches the store. If it is gone, remove it with `flask waffle "
        "workers --forget HOST`.",
    ),
)

#: mapping of the id of each finding to what it means
RULES: dict[str, Rule] = {id_: Rule(id_, level, text, fix) for id_, level, text, fix in _TABLE}


def finding(id_: str, detail: object) -> Finding:
    """Return the finding of one rule."""
    rule = RULES[id_]
    return Finding(id=id_, level=rule.level, message=rule.summary, detail=str(detail), fix=rule.fix)
