"""The open descriptors of this process, by the file that each is of."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def open_descriptors(of: Path | str) -> set[str]:
    """Return the descriptors whose file's name has a text in it, deleted files included.

    Only of one file: what other tests left is closed whenever it is collected.
    """
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if str(of) in os.readlink(f"/proc/self/fd/{descriptor}"):
                found.add(descriptor)
    return found
