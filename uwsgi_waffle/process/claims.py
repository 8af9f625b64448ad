"""Which of a server's processes speaks for all of them, where all would say the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from .locks import is_named, lock_byte, open_shared, unlock_byte


class Claims:
    """The claims of one process: a text that it has claimed, no other of its server claims.

    Processes with one parent, as the workers of a server, share a log. A claim is a lock on one
    byte of a file that nobody reads or writes: it ends with its process, however that ends, and
    is not inherited by children. Where the file can't be used, every process has its claims.

    Source: fcntl(2), "record locks": they belong to the process, may lie beyond the end of the
    file, and end when the process closes any descriptor of it, which is why this class opens it
    once, and nothing else does.

    :param path: the file; made when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pid = 0
        self._descriptor: int | None = None
        self._held: set[str] = set()

    def take(self, text: str) -> bool:
        """Return whether this process has the claim to a text, now or already. Waits for nobody."""
        with self._lock:
            if self._pid != os.getpid():
                self._close()
                self._held.clear()
                self._pid = os.getpid()
            if text not in self._held and self._is_locked_by_another(text):
                return False
            self._held.add(text)
            return True

    def drop(self, text: str) -> bool:
        """Give a claim back; return whether this process had it."""
        with self._lock:
            if text not in self._held or self._pid != os.getpid():
                return False
            self._held.discard(text)
            if self._descriptor is not None:
                with contextlib.suppress(OSError):
                    unlock_byte(self._descriptor, _place(text))
            return True

    def __del__(self) -> None:
        self._close()

    def _is_locked_by_another(self, text: str) -> bool:
        try:
            return not lock_byte(self._opened(), _place(text))
        except OSError:
            return False

    def _opened(self) -> int:
        if self._descriptor is not None and not is_named(self._path, self._descriptor):
            # Others claim by the file that was put in its place.
            self._close()
        if self._descriptor is None:
            self._descriptor = open_shared(self._path)
            for text in self._held:
                lock_byte(self._descriptor, _place(text))
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _place(text: str) -> int:
    """Return the byte that stands for a text among the processes of one server."""
    digest = hashlib.blake2b(f"{os.getppid()} {text}".encode(errors="replace"), digest_size=8)
    # Offsets are signed.
    return int.from_bytes(digest.digest(), "big") >> 2
