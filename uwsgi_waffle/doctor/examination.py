"""Looks at the parts that an app's settings depend on; shows what is wrong and how to fix it.

Makes no change: the store's revision, its rows and its history stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..app_state import WaffleState
from ..checks import CheckError, Finding, check_file
from ..errors import ConfigurationError, NotifierError, RevisionConflict, StoreError, StoreLost
from ..notifiers.file import FileNotifier
from ..operations import undeclared
from ..stores.base import Store
from .channel import check_channel
from .files import check_files, check_releases
from .page import check_page
from .rules import RULES, finding
from .workers import check_hosts, check_reporting, check_workers, reports_of

__all__ = ["RULES", "Diagnosis", "Finding", "check_ini", "examine", "not_set_up"]

#: two clocks that differ by less agree
CLOCK_TOLERANCE_S = 2.0
#: longest time that a sound process takes from its commit to its announcement
ANNOUNCED_WITHIN_S = 1.0
#: what SQLite's file has beside it in WAL mode
_PARTS = ("", "-wal", "-shm")
_NO_REVISION = -1


class Diagnosis(msgspec.Struct, frozen=True):
    """The findings of an examination, and what it could not see.

    :ivar revision: of the store, or ``None`` if it can't be read.
    """

    store: str
    revision: int | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def examine(state: WaffleState, *, ini: str | None = None, section: str = "uwsgi") -> Diagnosis:
    """Return what is wrong with an app's settings, seen from this process.

    The watch file is touched, and one message published, so that every worker reads the store
    once more. Blocks for at most the sum of the timeouts of store and Redis, and some seconds;
    for the write timeout too where a process holds the page.

    :param ini: a uwsgi.ini to be checked too.
    """
    notifier = FileNotifier(state.options.watcher_file)
    before = notifier.mark().revision
    findings: list[Finding] = []
    revision: int | None = None
    # Nothing of what follows makes a store.
    made = True
    try:
        snapshot = state.refresh()
    except StoreLost as exc:
        findings.append(finding("D025", exc))
    except StoreError as exc:
        findings.append(finding("D002", exc))
    else:
        revision = snapshot.revision
        made = bool(snapshot.epoch)
    if revision is not None and made:
        findings += _check_writing(state.store)
        findings += _check_sqlite(state.store)
        findings += _check_values(state)
        findings += _check_neighbours(state)
        findings += _check_announced(state.store, notifier, before, revision)
    findings += _check_watch_file(notifier, revision or before or 0)
    reports = reports_of(state.store) if revision is not None and made else []
    findings += check_files(_written_files(state), [state.last_known_file], reports)
    findings += check_releases([*state.store_files, state.options.watcher_file])
    if state.page_file.exists():
        findings += check_page(state.page_file, state.options.write_timeout_s)
    findings += check_channel(state, revision or 0, serves_one_host=_serves_one_host(state.store))
    if revision is not None and made:
        findings += _check_durability(state.store)
        if not any(found.id == "D003" for found in findings):
            findings += check_reporting(state.store, state.app.name)
        findings += check_workers(state.store, revision)
        findings += check_hosts(state.store, state.engine.manager)
    notes = [
        "The mode of the running server can't be seen from here. `flask waffle workers` shows "
        "how its workers do."
    ]
    if not made:
        notes.append("There is no store yet: a worker that starts, or a change, makes it.")
    if ini is None:
        notes.append("No ini of uWSGI was checked: name it with --ini.")
    else:
        found, more = check_ini(ini, section)
        findings += found
        notes += more
    return Diagnosis(repr(state.store), revision, tuple(findings), tuple(notes))


def not_set_up(error: ConfigurationError) -> Diagnosis:
    """Return the diagnosis of an app that can't even be loaded."""
    return Diagnosis("", None, (finding("D001", error),), ())


def check_ini(path: str, section: str) -> tuple[list[Finding], list[str]]:
    """Return the findings and the notes of the check of an ini."""
    try:
        report = check_file(path, section=section)
    except CheckError as exc:
        return [finding("D017", exc)], []
    return list(report.findings), list(report.notes)


def _check_writing(store: Store) -> Iterator[Finding]:
    try:
        # No store is ever at this revision, so the change is refused, but only by one that
        # could make it.
        store.write({}, expected_revision=_NO_REVISION)
    except RevisionConflict:
        return
    except StoreError as exc:
        yield finding("D003", exc)


def _check_sqlite(store: Store) -> Iterator[Finding]:
    import sqlite3

    from ..stores.sqlite import SqliteStore

    if not isinstance(store, SqliteStore):
        return
    path = store.path

    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None)
        ) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                yield finding("D004", f"{path}: it is {mode}")
            # Of a file that it may only read, SQLite lets a transaction begin.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE waffle_meta SET revision = revision")
            connection.execute("ROLLBACK")
    except sqlite3.Error as exc:
        # A lock is the business of the store, which waits for as long as its timeout says.
        if "locked" not in str(exc):
            yield finding("D003", f"{path}: {exc}")


def _check_values(state: WaffleState) -> Iterator[Finding]:
    for name, fault in state.snapshot.faults.items():
        yield finding("D005", f"{name}: {fault}")
    names = undeclared(state)
    if names:
        yield finding("D006", ", ".join(names))


def _check_neighbours(state: WaffleState) -> Iterator[Finding]:
    with contextlib.suppress(StoreError):
        if conflicts := state.neighbours.conflicts():
            yield finding("D026", "; ".join(conflicts))
        if differing := state.neighbours.differing_hosts():
            yield finding("D028", "; ".join(differing))


def _check_announced(
    store: Store, notifier: FileNotifier, before: int | None, revision: int
) -> Iterator[Finding]:
    """Compare the watch file with the store; blocks for a second if the file lags behind.

    :param before: the revision in the file before the store was read.
    """
    announced = before
    if before is None or before <= revision:
        # Changes of other hosts come by the channel, and leave this host's file as it is.
        announced = _announced_in_time(notifier, revision) if _serves_one_host(store) else None
        # A file without a revision was made again, or touched by hand.
        if announced is None or announced >= revision:
            return
    yield finding("D009", f"{announced} in the watch file, {revision} in the store")


def _announced_in_time(notifier: FileNotifier, revision: int) -> int | None:
    """Return the revision in the watch file, once a change on its way has been announced."""
    deadline = time.monotonic() + ANNOUNCED_WITHIN_S
    while True:
        announced = notifier.mark().revision
        if announced is None or announced >= revision or time.monotonic() > deadline:
            return announced
        time.sleep(0.01)


def _check_watch_file(notifier: FileNotifier, revision: int) -> Iterator[Finding]:
    path = notifier.path
    skew_s = _skew_s(path)
    if abs(skew_s) > CLOCK_TOLERANCE_S:
        yield finding("D008", f"{path}: by {skew_s:+.0f} s")
    before = notifier.signature()
    folder = path.parent
    if before is None and (not folder.exists() or os.access(folder, os.W_OK | os.X_OK)):
        # A worker that starts makes it; this command makes nothing.
        return
    try:
        notifier.announce(revision)
    except NotifierError as exc:
        yield finding("D007", exc)
    else:
        if notifier.signature() == before:
            yield finding("D007", f"{path}: writing it leaves its time as it was")


def _skew_s(path: Path) -> float:
    """Return by how many seconds the file system's clock, or a file's time, is ahead."""
    ahead_s = 0.0
    with contextlib.suppress(OSError):
        ahead_s = max(os.lstat(path).st_mtime - time.time(), 0.0)
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=path.parent) as probe:
        clock_s = os.fstat(probe.fileno()).st_mtime - time.time()
        ahead_s = max(ahead_s, clock_s, key=abs)
    return ahead_s


def _check_durability(store: Store) -> Iterator[Finding]:
    with contextlib.suppress(StoreError):
        if setting := store.loses_changes():
            yield finding("D021", f"{setting}, for {store!r}")


def _written_files(state: WaffleState) -> list[Path]:
    companions = [
        path.with_name(f"{path.name}{end}") for path in state.store_files for end in _PARTS
    ]
    return [*companions, state.options.watcher_file, state.page_file]


def _serves_one_host(store: Store) -> bool:
    with contextlib.suppress(StoreError):
        if store.files():
            return True
    # Of SQLAlchemy's stores and others the repr shows the URL.
    return bool(re.search(r"\bsqlite(\+\w+)?:/", repr(store)))
