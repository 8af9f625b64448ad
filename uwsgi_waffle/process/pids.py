"""Whether a process of this host runs, and in which state."""

from __future__ import annotations

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Return whether a process runs; not one that is dead, whose parent has not looked yet.

    uWSGI looks once a second.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return state_of(pid) not in ("Z", "X")


def state_of(pid: int) -> str:
    """Return the letter of a process's state, or nothing if that is not known.

    Source: proc(5), ``/proc/pid/stat``: the state comes after the name, which may hold anything.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return status.rpartition(")")[2][1:2]
