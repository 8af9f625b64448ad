"""Who owns the files that a process makes in the folder of another user."""

from __future__ import annotations

import os
from pathlib import Path


def give_to_owner_of_folder(descriptor: int, folder: Path) -> None:
    """Give a file that root has just made in another user's folder to that user and group.

    A command that root runs must leave nothing behind that the workers can't open.

    :raises OSError: the file system does not allow it.
    """
    if os.geteuid() == 0:
        owner = os.stat(folder)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
