"""Whether all who need an app's files may use them, and no one else."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ..checks import Finding
from ..preflight import release_of
from ..stores.base import WorkerReport
from .rules import finding

#: in which the owner lets the group write, as the package makes its files
_SHARED = stat.S_IWUSR | stat.S_IWGRP


class User(msgspec.Struct, frozen=True):
    """Someone who needs the files.

    :ivar reason: why, such as ``who owns the folder``.
    """

    uid: int
    gids: frozenset[int]
    reason: str

    def may_write(self, status: os.stat_result) -> bool:
        """Return whether the mode of a file, or of a folder, lets this user write."""
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IWUSR)
        if status.st_gid in self.gids:
            return bool(status.st_mode & stat.S_IWGRP)
        return bool(status.st_mode & stat.S_IWOTH)


def check_releases(paths: Iterable[Path | None]) -> Iterator[Finding]:
    """Yield which of these files the next deploy leaves behind."""
    releases = {path: release_of(path.parent) for path in paths if path is not None}
    found = [f"{path} in {release}" for path, release in releases.items() if release is not None]
    if found:
        yield finding("D027", "; ".join(found))


def check_files(
    written: Sequence[Path], others: Sequence[Path], reports: Iterable[WorkerReport]
) -> Iterator[Finding]:
    """Yield what is wrong with the owners and the modes of files and of their folders.

    :param written: files that each process writes in place.
    :param others: files that must be out of reach of others, too.
    :param reports: those of this host show whom the workers run as.
    """
    found = {p: status for p, status in _existing(written) if stat.S_ISREG(status.st_mode)}
    folders = dict(_existing({path.parent for path in [*written, *others]}))
    users = [*_owners(folders.values()), *_workers(reports)]
    closed = [
        f"{path} is {_ownership(status)}: {_user(user.uid)}, {user.reason}, can't write it"
        for path, status in found.items()
        for user in users
        if not user.may_write(status)
    ]
    if closed:
        yield finding("D019", "; ".join(dict.fromkeys(closed)))
    else:
        owners = {status.st_uid for status in found.values()}
        groups = {status.st_gid for status in found.values()}
        shared = all(status.st_mode & _SHARED == _SHARED for status in found.values())
        if not shared or (len(owners) > 1 and len(groups) > 1):
            yield finding("D010", _listed(found))
    everything = {**found, **dict(_existing(others)), **folders}
    open_ = {path: status for path, status in everything.items() if status.st_mode & stat.S_IWOTH}
    if open_:
        yield finding("D011", _listed(open_))


def _existing(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, os.stat(path)


def _owners(folders: Iterable[os.stat_result]) -> Iterator[User]:
    for status in folders:
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(status.st_uid)
            gids = {status.st_gid, *os.getgrouplist(user.pw_name, user.pw_gid)}
            yield User(status.st_uid, frozenset(gids), "who owns the folder")


def _workers(reports: Iterable[WorkerReport]) -> Iterator[User]:
    here = os.uname().nodename
    for report in reports:
        if report.host != here:
            continue
        # A process of another container with this host's name has another number here.
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{report.pid}/status").read_text(encoding="utf-8")
            ids = {
                name: [int(word) for word in words.split()]
                for name, words in re.findall(
                    r"^(Uid|Gid|Groups):[ \t]*(.*)$", status, re.MULTILINE
                )
            }
            uid, gid = ids["Uid"][1], ids["Gid"][1]
            yield User(uid, frozenset({gid, *ids["Groups"]}), "as whom workers run")


def _listed(found: dict[Path, os.stat_result]) -> str:
    return "; ".join(f"{path} is {_ownership(status)}" for path, status in found.items())


def _ownership(status: os.stat_result) -> str:
    with_name = f"{_user(status.st_uid)}:{_group(status.st_gid)}"
    return f"{stat.filemode(status.st_mode)} {with_name}"


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _group(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
