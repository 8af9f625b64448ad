"""What happened in a run, operation by operation, as JSON lines.

Times are seconds of the driver's monotonic clock: one clock for all operations.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import msgspec

#: How a request fails; ``status`` is explained by no fault. ``ambiguous``: a change was refused,
#: and is stored all the same, because its connection was cut while it was committed.
Failure = Literal["connection", "timeout", "refused", "status", "slow", "ambiguous"]


class Run(msgspec.Struct, frozen=True, tag="run"):
    """What was started."""

    seed: int
    store: str
    arguments: list[str]


class Read(msgspec.Struct, frozen=True, tag="read"):
    """One GET.

    :ivar failure: empty if it succeeded.
    :ivar values: A and B of ``app.config``, then of ``waffle.conf``.
    :ivar interrupted: its worker said that it could not read the store.
    :ivar took_s: within the worker.
    """

    host: str
    port: int
    begin: float
    end: float
    failure: str = ""
    error: str = ""
    pid: int = 0
    revision: int = 0
    interrupted: bool = False
    values: tuple[int, int, int, int] = (0, 0, 0, 0)
    took_s: float = 0.0


class Write(msgspec.Struct, frozen=True, tag="write"):
    """One POST that changes A and B to the same new number.

    :ivar outcome: ``refused`` if the app said that nothing was written; ``unknown`` if it did
        not answer.
    """

    host: str
    port: int
    begin: float
    end: float
    number: int
    outcome: Literal["acknowledged", "refused", "unknown"]
    failure: str = ""
    error: str = ""
    pid: int = 0
    revision: int = 0
    took_s: float = 0.0


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """One fault, from its beginning to its end.

    :ivar stale: which of the bounds holds.
    :ivar floor: the store's revision after its end, also of what nobody acknowledged.
    :ivar skipped: why it was not injected.
    """

    name: str
    begin: float
    end: float
    stale: str
    floor: int = 0
    skipped: str = ""
    note: str = ""


class Excuse(msgspec.Struct, frozen=True, tag="excuse"):
    """A span in which a fault explains failures of some kinds.

    :ivar ports: of these workers; empty for all.
    """

    fault: str
    begin: float
    end: float
    kinds: list[Failure]
    ports: list[int] = []


class Status(msgspec.Struct, frozen=True, tag="status"):
    """What one worker says of itself."""

    at: float
    host: str
    port: int
    pid: int
    watcher_alive: bool
    state: str
    failing: dict[str, str]
    final: bool = False


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """A revision that a command of a host saw in the store, acknowledged or not."""

    host: str
    at: float
    revision: int


class Restored(msgspec.Struct, frozen=True, tag="restored"):
    """A backup that was put back; what was committed since it was made is gone.

    :ivar revision: of the backup.
    """

    begin: float
    end: float
    revision: int


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """One row of the store's history.

    :ivar gone: the number of the :class:`Restored`, from 1, that took it away; 0 if the store has
        it at the end.
    """

    revision: int
    name: str
    raw: str | None
    gone: int = 0


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """Something that a fault looked at itself, and found wrong."""

    at: float
    fault: str
    text: str


Entry = Run | Read | Write | Fault | Excuse | Status | Seen | Restored | Committed | Problem


class Recorder:
    """Appends entries to a file; any thread may call it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("ab")
        self._encode = msgspec.json.Encoder().encode
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Record an entry."""
        line = self._encode(entry) + b"\n"
        with self._lock:
            self.entries.append(entry)
            self._file.write(line)

    def close(self) -> None:
        """Flush what was recorded, and close the file."""
        with self._lock:
            self._file.close()


def read_record(path: Path) -> list[Entry]:
    """Return the entries of a file."""
    decode = msgspec.json.Decoder(Entry).decode
    with path.open("rb") as file:
        return [decode(line) for line in file]
