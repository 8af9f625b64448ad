"""What receivers report to the benchmark: who saw which number, and when."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_FORMAT = struct.Struct("!qqq")


def pack(receiver: int, number: int, at_ns: int) -> bytes:
    """Return one report; ``at_ns`` is by the monotonic clock, which all processes share."""
    return _FORMAT.pack(receiver, number, at_ns)


class Reports:
    """Collects the reports of several processes."""

    def __init__(self, path: Path, *, timeout_s: float = 15.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(timeout_s)

    def of(self, number: int, *, receivers: int) -> list[int]:
        """Return when each of the receivers saw a number, in nanoseconds, first to last.

        :raises TimeoutError: a report did not come.
        """
        seen: dict[int, int] = {}
        while len(seen) < receivers:
            receiver, what, at_ns = _FORMAT.unpack(self._socket.recv(_FORMAT.size))
            if what == number:
                seen.setdefault(receiver, at_ns)
        return sorted(seen.values())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
