"""Whether this process can use the page, and whether a process keeps it open."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..checks import Finding
from ..process.page import Page
from ..process.pids import state_of
from .rules import finding

# Often, so that who makes one change after the other is seen between two of them.
_PAUSE_S = 0.01
#: after so many looks nobody holds it each time by chance
_SURE = 200
#: of proc(5): by a signal, or by a debugger
_STOPPED = ("T", "t")
#: a process and the number of its descriptor
_Holder = tuple[int, int]


def check_page(path: Path, longest_s: float) -> Iterator[Finding]:
    """Yield what is wrong with a page.

    Blocks for ``longest_s`` where a process holds the page all that time, else hardly at all.

    :param path: of a page that is there.
    :param longest_s: longest time that a change may take.
    """
    page = Page(path)
    if page.problem:
        yield finding("D023", page.problem)
    words, looks = page.words(), 0
    holders = _holders(path)
    deadline = time.monotonic() + longest_s
    while holders and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        # Who makes one change after the other lets go in between.
        holders = {holder for holder in holders if _holds(*holder)}
        looks += 1
    if page.words() != words and looks < _SURE:
        # Changes are made, perhaps by those who held it at each of few looks.
        holders = {(pid, number) for pid, number in holders if state_of(pid) in _STOPPED}
    if holders:
        yield finding("D024", f"{path}: {', '.join(_named({pid for pid, _ in holders}))}")


def _holders(path: Path) -> set[_Holder]:
    """Return who holds a lock on a file, as far as this user may see."""
    found = set()
    try:
        wanted = os.stat(path)
        processes = os.listdir("/proc")
    except OSError:
        return set()
    # This process is not stopped, and hears of a change of its own that hangs.
    for pid in {int(name) for name in processes if name.isdecimal()} - {os.getpid()}:
        # A process of another user, or one that has just ended.
        with contextlib.suppress(OSError):
            for number in map(int, os.listdir(f"/proc/{pid}/fd")):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted) and _holds(
                        pid, number
                    ):
                        found.add((pid, number))
    return found


def _holds(pid: int, number: int) -> bool:
    """Return whether a lock belongs to a descriptor of a process.

    Source: proc(5), ``/proc/pid/fdinfo``: a line ``lock:`` for each.
    """
    try:
        text = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
    except OSError:
        return False
    return re.search(r"^lock:", text, re.MULTILINE) is not None


def _named(pids: Iterable[int]) -> Iterator[str]:
    for pid in sorted(pids):
        name = "?"
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        yield f"pid {pid} ({name}{', stopped' if state_of(pid) in _STOPPED else ''})"
