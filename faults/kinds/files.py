"""The watch file deleted, replaced, harmed; the disk full."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time

from ..injection import Steps, fault
from ..world import FaultSkipped, World

HOUR_NS = 3_600 * 1_000_000_000
_TURNS = 5
_PAUSE_S = 0.2


@fault(hold_s=0.5, short=True)
def watch_deleted(world: World) -> Steps:
    """Delete it, again and again."""
    for _ in range(_TURNS):
        with contextlib.suppress(FileNotFoundError):
            world.one.watch_file.unlink()
        time.sleep(_PAUSE_S)
    yield


@fault(hold_s=0.5)
def watch_replaced(world: World) -> Steps:
    """Put another file in its place, again and again."""
    path = world.one.watch_file
    for turn in range(_TURNS):
        new = path.with_suffix(".new")
        new.write_text(f"something else {turn}\n")
        new.rename(path)
        time.sleep(_PAUSE_S)
    yield


@fault(hold_s=0.5)
def watch_truncated(world: World) -> Steps:
    """Empty it, and fill it with noise, again and again."""
    path = world.one.watch_file
    for turn in range(_TURNS):
        if turn % 2:
            path.write_bytes(world.random.randbytes(100_000))
        else:
            os.truncate(path, 0)
        time.sleep(_PAUSE_S)
    yield


# The page alone keeps the requests of a host current.
@fault()
def watch_unreadable(world: World) -> Steps:
    """Forbid it to the workers, which then can't announce by it."""
    path = world.one.watch_file
    path.chmod(0)
    yield
    # Who made it again meanwhile made it as it has to be.
    path.chmod(0o660)


@fault(hold_s=3.0)
def watch_locked(world: World) -> Steps:
    """Hold the lock that each announcement by it needs."""
    with world.one.watch_file.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@fault(stale="resync")
def watch_folder_removed(world: World) -> Steps:
    """Remove its folder with the page, make it again later."""
    folder = world.one.watch_file.parent
    while True:
        try:
            shutil.rmtree(folder)
            break
        except FileNotFoundError:
            continue
        except OSError as exc:
            # A worker made the file again meanwhile.
            if exc.errno != errno.ENOTEMPTY:
                raise
    yield
    folder.mkdir()


@fault(hold_s=1.0)
def watch_mtime_ahead(world: World) -> Steps:
    """Set its mtime one hour ahead."""
    _shift_mtime(world, HOUR_NS)
    yield


@fault(hold_s=1.0)
def watch_mtime_back(world: World) -> Steps:
    """Set its mtime one hour back."""
    _shift_mtime(world, -HOUR_NS)
    yield


@fault(explains=("refused",), hold_s=3.0)
def disk_full(world: World) -> Steps:
    """Fill the disk of the watch file and of an embedded store."""
    if not world.disk_is_small:
        raise FaultSkipped("no tmpfs can be mounted here: it takes root")
    filler = world.disk / "filler"
    # Of PostgreSQL's disk there is enough.
    effect = world.refusing() if world.store == "sqlite" else contextlib.nullcontext()
    try:
        if world.store == "sqlite":
            # Else it may go on for long within the log that it has.
            world.database.ask("PRAGMA wal_checkpoint(TRUNCATE)")
        _fill(filler)
        with effect:
            yield
    finally:
        filler.unlink(missing_ok=True)


def _fill(path: os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


def _shift_mtime(world: World, offset_ns: int) -> None:
    at_ns = time.time_ns() + offset_ns
    os.utime(world.one.watch_file, ns=(at_ns, at_ns))
