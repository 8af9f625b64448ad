"""Who owns the files that processes share, and what to do where one can't be used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_FULL = "make room on its disk"
_SCARCE = {
    errno.EMFILE: "raise the limit of open files of this process (ulimit -n, LimitNOFILE)",
    errno.ENFILE: "raise the limit of open files of this system (fs.file-max)",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
}


def scarcity(exc: OSError) -> str:
    """Return what to do where the system has no more of something; empty if that is not it."""
    return _SCARCE.get(exc.errno or 0, "")


def give_to_owner_of_folder(descriptor: int, folder: Path) -> None:
    """Give a file that root has just made in another user's folder to that user and group.

    A command that root runs must leave nothing behind that the workers can't open.

    :raises OSError: the file system does not allow it.
    """
    if os.geteuid() == 0:
        owner = os.stat(folder)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_shared_file(path: Path) -> None:
    """Make an empty file that owner and group of its folder may write, unless one is there.

    One that is there is not opened: closing any descriptor of a file drops all of this process's
    POSIX locks on it, those of SQLite's connections included.

    :raises OSError: it can't be made.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o660)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o660)
        give_to_owner_of_folder(descriptor, path.absolute().parent)
    finally:
        os.close(descriptor)
