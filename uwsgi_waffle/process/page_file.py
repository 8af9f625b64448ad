"""The file of a page: made, opened, mapped, and kept open for as long as a thread uses it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import time
from pathlib import Path
from typing import Protocol

from ..errors import ConfigurationError
from ..ownership import give_to_owner_of_folder
from .locks import is_locked

#: Seconds for which requests may share a ticket, and with it a page that was replaced.
TICKET_S = 0.02
SIZE = 4096
MAGIC = b"waffle\x00\x01"
# Their mappings are not coherent between the machines that mount them, or not at all.
_REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "glusterfs", "lustre", "afs", "virtiofs")


class View(Protocol):
    """The bytes of a page, as a mapping or by ``pread``: a slice has both of its ends."""

    def __getitem__(self, where: slice, /) -> bytes: ...


class Absent:
    """Stands for a page that can't be opened; the watch file alone brings news then."""

    def __getitem__(self, where: slice, /) -> bytes:
        return bytes(where.stop - where.start)


class _Read:
    """Reads a page that can't be mapped.

    Source: measured on Linux 6.18: 394 ns for ``os.pread``, 1,302 ns for ``os.stat``.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getitem__(self, where: slice, /) -> bytes:
        return os.pread(self._descriptor, where.stop - where.start, where.start)

    def __del__(self) -> None:
        os.close(self._descriptor)


class Spoilt(OSError):
    """A page without its bytes, which a power failure or a truncation took: it has no use."""


class PageFile:
    """One file that the path named; closed when no thread uses it any more.

    :ivar inode: device and inode; ``None`` where there is no file.
    :ivar known_since: when this process first saw it under the path, by the monotonic clock.
    """

    __slots__ = ("_descriptor", "inode", "known_since", "view", "writable")

    def __init__(
        self, descriptor: int = -1, view: View | None = None, *, writable: bool = False
    ) -> None:
        self._descriptor = descriptor
        self.view: View = view or Absent()
        self.writable = writable
        self.known_since = time.monotonic()
        self.inode = None if descriptor < 0 else inode_of(os.fstat(descriptor))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def put(self, offset: int, word: bytes) -> None:
        os.pwrite(self._descriptor, word, offset)

    def is_locked(self) -> bool:
        return is_locked(self._descriptor)

    def outlast_others(self) -> None:
        """Wait until no process shares a ticket by the page that was here before this one."""
        while (rest_s := self.known_since + TICKET_S - time.monotonic()) > 0:
            time.sleep(rest_s)


def page_path(watch_file: Path, store: str) -> Path:
    """Return where the page of a store lies, beside the watch file.

    :param store: identifies the store, without any password.
    """
    digest = hashlib.blake2b(store.encode(errors="surrogatepass"), digest_size=6).hexdigest()
    return watch_file.with_name(f"{watch_file.name}.{digest}.page")


def refuse_remote(path: Path) -> None:
    """Check that a page would lie on a file system of this host.

    :raises ConfigurationError: it is a network or a FUSE file system.
    """
    kind = _file_system(path.parent)
    if kind.startswith(_REMOTE):
        raise ConfigurationError(
            f"the page {path} would lie on a file system of type {kind}, which keeps no mapped "
            "file the same for all processes: name a file on a local disk in WAFFLE_PAGE_FILE"
        )


def _file_system(folder: Path) -> str:
    """Return the type of the file system of a folder, or ``""`` if it can't be known.

    Source: proc(5), ``/proc/pid/mountinfo``.
    """
    try:
        device = os.stat(folder).st_dev
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(lines):
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            return rest.split()[0]
    return ""


def make(path: Path) -> None:
    """Make a page whose bytes are all there before its name is."""
    new = path.with_name(f"{path.name}.{os.urandom(4).hex()}.new")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
    try:
        os.fchmod(descriptor, 0o660)
        give_to_owner_of_folder(descriptor, path.parent)
        # Closed, and by other words than any page before it: who knew that one must look.
        opened, seq = os.urandom(8), os.urandom(8)
        os.write(descriptor, (MAGIC + opened + opened + seq).ljust(SIZE, b"\0"))
        # Not renamed: another process may just have made one, which must stay.
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        os.close(descriptor)
        os.unlink(new)


def remove(path: Path, inode: tuple[int, int]) -> None:
    """Remove a page, unless another process has replaced it by now."""
    with contextlib.suppress(FileNotFoundError):
        if inode_of(os.lstat(path)) == inode:
            os.unlink(path)


def opened(path: Path) -> PageFile:
    """Open the page that a path names.

    :raises Spoilt: it has lost its bytes.
    :raises OSError: it can't be opened, or is no page.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor, writable = os.open(path, os.O_RDWR | flags), True
    except PermissionError:
        descriptor, writable = os.open(path, os.O_RDONLY | flags), False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is something else: remove it")
        if status.st_size <= SIZE and _is_spoilt(os.pread(descriptor, SIZE, 0)):
            raise Spoilt(errno.EINVAL, "it has lost its bytes: remove it")
        if status.st_size != SIZE:
            raise OSError(errno.EINVAL, "it is something else: remove it")
        if os.pread(descriptor, len(MAGIC), 0) != MAGIC:
            raise OSError(errno.EINVAL, "it has another format: remove it")
        return PageFile(descriptor, _view(descriptor), writable=writable)
    except BaseException:
        os.close(descriptor)
        raise


def _is_spoilt(content: bytes) -> bool:
    """Return whether this was left of a page, and of nothing else that somebody may need."""
    is_whole = len(content) == SIZE and content.startswith(MAGIC)
    return not is_whole and (not any(content) or MAGIC.startswith(content[: len(MAGIC)]))


def _view(descriptor: int) -> View:
    try:
        # A mapping has a descriptor of its own, of the same open file, which is never locked.
        return mmap.mmap(descriptor, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    except (OSError, ValueError):
        return _Read(os.dup(descriptor))


def inode_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
