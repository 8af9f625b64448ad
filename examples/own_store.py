"""An example of your own store: all settings in one JSON file, which is replaced at each change.

It keeps the contract; tests/stores/test_own_store.py shows how that is tested. For a real site the
embedded SQLite store is the better choice: this one writes everything again each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from uwsgi_waffle import (
    Delta,
    Dump,
    HistoryEntry,
    RevisionConflict,
    Row,
    Store,
    StoreError,
    StoreUnavailable,
)


class JsonFileStore(Store):
    """Keeps settings in a JSON file.

    :param path: the file; another beside it, ``.lock``, is held by the one that writes.
    """

    def __init__(self, path: Path, *, write_timeout_s: float = 5.0) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._write_timeout_s = write_timeout_s

    def prepare(self) -> None:
        with self._locked():
            if not self._path.exists():
                self._save({"revision": 0, "epoch": uuid.uuid4().hex, "rows": {}, "history": []})

    def read_since(self, revision: int, epoch: str, mark: str = "") -> Delta:
        # One file that is replaced as a whole is one instant.
        data = self._load()
        complete = revision == 0 or epoch != data["epoch"] or revision > data["revision"]
        rows = [
            Row(name, raw)
            for name, (raw, changed_at) in data["rows"].items()
            if complete or changed_at > revision
        ]
        return Delta(data["revision"], data["epoch"], tuple(rows), complete)

    def write(
        self,
        raws: Mapping[str, str | None],
        *,
        author: str | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> int:
        with self._locked():
            data = self._load()
            if expected_revision not in (None, data["revision"]):
                raise RevisionConflict(expected_revision, data["revision"])
            revision: int = data["revision"] + 1
            at = datetime.now(timezone.utc).isoformat()
            for name, raw in raws.items():
                old_raw = data["rows"].get(name, [None])[0]
                data["history"].append([revision, name, old_raw, raw, author, reason, at])
                # A reset stays as a row without raw text, so that it travels.
                data["rows"][name] = [raw, revision]
            self._save({**data, "revision": revision})
            return revision

    def history(self, *, name: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        rows = [row for row in self._load()["history"] if name in (None, row[1])]
        rows.sort(key=lambda row: (-row[0], row[1]))
        return [
            HistoryEntry._make((*row[:6], datetime.fromisoformat(row[6]))) for row in rows[:limit]
        ]

    def load(
        self,
        dump: Dump,
        *,
        expected_revision: int | None = None,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        # Leave it out if the store need not be restored or copied to.
        with self._locked():
            found = self._load()["revision"]
            if expected_revision not in (None, found):
                raise RevisionConflict(expected_revision, found)
            rows = {name: [raw, dump.revision] for name, raw in dump.raws.items()}
            history = [[*entry[:6], entry.at.isoformat()] for entry in dump.history]
            if before_commit is not None:
                before_commit()
            epoch = uuid.uuid4().hex
            self._save(
                {"revision": dump.revision, "epoch": epoch, "rows": rows, "history": history}
            )

    def close(self) -> None:
        # Nothing stays open between two calls, so that a fork can carry nothing over.
        return

    def _load(self) -> Any:
        try:
            return json.loads(self._path.read_text("utf-8"))
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: {exc.strerror}") from exc

    def _save(self, data: Mapping[str, Any]) -> None:
        new_path = self._path.with_name(self._path.name + ".new")
        try:
            text = json.dumps(data, ensure_ascii=False).encode()
        except UnicodeError as exc:
            raise StoreError(f"{self._path}: {exc}") from exc
        with new_path.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new_path.replace(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + self._write_timeout_s
        try:
            with self._lock_path.open("w") as file:
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(0.002)
                try:
                    yield
                finally:
                    # A child that was forked in between has the same lock.
                    fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as exc:
            raise StoreUnavailable(f"{self._lock_path}: {exc.strerror}") from exc
