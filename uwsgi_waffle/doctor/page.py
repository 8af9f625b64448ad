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
from .rules import finding

_PAUSE_S = 0.05
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
    holders = _holders(path)
    deadline = time.monotonic() + longest_s
    while holders and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        # Who made one change after the other had let go in between.
        holders = {holder for holder in holders if _holds(*holder)}
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
    for pid in map(int, filter(str.isdecimal, processes)):
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
        name = state = "?"
        with contextlib.suppress(OSError):
            # The name may hold anything, a parenthesis too.
            before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            name, state = before.partition("(")[2], after.split()[0]
        yield f"pid {pid} ({name}{', stopped' if state in 'tT' else ''})"
