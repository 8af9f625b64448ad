"""The child: a line of base64 in, a line of JSON out, one row at a time, within limits.

Whatever the unpickler should let through meets these: no file can be opened or written, and any
event that Python's audit hooks know, from an import to a system call, refuses the row.
"""

from __future__ import annotations

import base64
import codecs
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from .decode import decode
from .limits import ROW_CPU_S, ROW_MEMORY, Refused
from .wire import pack

# CPython prints an error that it can't raise, as of a bytearray that it could not make.
_HARMLESS = ("sys.excepthook", "sys.unraisablehook")


class _Guard:
    """Refuses everything that an audit hook hears of while a row is read."""

    def __init__(self) -> None:
        self.reads = False
        self.event = ""

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.reads and event not in _HARMLESS:
            self.event = self.event or event
            raise Refused(f"it tries {event}")


def main() -> None:
    """Answer each line of standard input until it ends."""
    guard = _Guard()
    # Python imports this codec when a pickle of protocol 0 first needs it.
    codecs.lookup("raw-unicode-escape")
    # Python 3.13 imports a module to print such an error: the guard would refuse the row for it.
    sys.excepthook = sys.unraisablehook = _print_nothing
    _limit()
    sys.addaudithook(guard)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        data = base64.b64decode(line)
        # Of processor time, so that a loaded machine refuses nothing; its signal ends the process.
        signal.setitimer(signal.ITIMER_PROF, ROW_CPU_S)
        answer = _answer(data, guard)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _print_nothing(*error: object) -> None:
    pass


def _answer(data: bytes, guard: _Guard) -> str:
    answer: dict[str, Any]
    guard.reads = True
    try:
        answer = {"value": pack(decode(data))}
    except Refused as exc:
        answer = {"refused": str(exc)}
    except Exception as exc:
        answer = {"refused": f"it can't be read ({type(exc).__name__})"}
    finally:
        guard.reads = False
    if guard.event:
        # The hook's own error may have been caught on the way.
        answer = {"refused": f"it tries {guard.event}"}
    return json.dumps(answer)


def _limit() -> None:
    # The size first: from here on no file can be opened.
    size = _own_size()
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))
    if size is not None:
        most = size + ROW_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _own_size() -> int | None:
    """Return the bytes of this process's address space; ``None`` where only Linux would say.

    macOS has the limit, but does not hold to it.
    """
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    return int(statm.read_text("ascii").split()[0]) * resource.getpagesize()
