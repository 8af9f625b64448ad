"""The page: a small file that all processes of a host map, so that none of them steps back.

Its words say whether a change may be under way, and what this host has served or acknowledged.
The rules stand in docs/architecture.md, and as a model in tests/process/page.pml; change one only
with the model.

========  ===========  ==========================================================================
offset    word         meaning
========  ===========  ==========================================================================
0         magic        format of the file
8         opened       a random value, written just before a change is committed
16        closed       equals ``opened`` unless a change may be under way
24        seq          a random value, written before an identity that no change of this host made
32        identity     hash of epoch, revision and mark of what this host has served
40        revision     the same as a number, for people
48        epoch        hash of the epoch alone: which store this host knows; zero if none
56        asked        a random value: which revisions do requests hold? answered in the slots
========  ===========  ==========================================================================

Each word is written by one ``pwrite`` of eight aligned bytes. New values come from
:func:`os.urandom`: pids and clocks repeat over boots and containers, and :mod:`random` repeats in
forked siblings.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import struct
from pathlib import Path

from ..ownership import scarcity
from ..snapshot import Delta, Snapshot
from .locks import lock_shared, unlock
from .page_file import MAGIC, PageFile, Spoilt, View, inode_of, make, opened, remove

logger = logging.getLogger("uwsgi_waffle")

#: Where the words are that a ticket carries: ``opened``, ``closed`` and ``seq``.
TICKET_WORDS = slice(8, 32)

_WORD = 8
_OPENED, _CLOSED, _SEQ, _IDENTITY, _REVISION, _EPOCH, _ASKED = 8, 16, 24, 32, 40, 48, 56
_IDENTITY_WORD = slice(_IDENTITY, _IDENTITY + _WORD)
_ATTEMPTS = 3


class Page:
    """The page of one store, as one process has it; any thread may call every method.

    :ivar problem: why this process can't use the page, or can't write to it; or ``""``.

    :ivar may_make: whether this process makes the page where there is none, with the owner and
        group of its folder; one that only reads does not.
    """

    def __init__(self, path: Path, *, may_make: bool = True) -> None:
        self.path = path
        self._text_path = os.fspath(path)
        self.may_make = may_make
        self.problem = ""
        self._file = PageFile()
        self.follow_path()

    def __repr__(self) -> str:
        return f"<Page {self.path}>"

    # Reading

    @property
    def view(self) -> View:
        """The bytes of the page; another object after the page was replaced."""
        return self._file.view

    def words(self) -> bytes:
        """Return ``opened``, ``closed`` and ``seq``: what a ticket carries."""
        return self._file.view[TICKET_WORDS]

    @property
    def identity(self) -> bytes:
        """The identity that this host has served or acknowledged."""
        return self._file.view[_IDENTITY_WORD]

    @property
    def epoch(self) -> str:
        """The epoch of the store that this host knows, by its word; empty if it knows none."""
        view = self._file.view
        word = view[_EPOCH : _EPOCH + _WORD]
        # Of a page that somebody has overwritten it would name another store.
        return word.hex() if any(word) and view[0 : len(MAGIC)] == MAGIC else ""

    @property
    def asked(self) -> bytes:
        """The question that the processes of this host answer in their slots; zeros if none."""
        return self._file.view[_ASKED : _ASKED + _WORD]

    def ask(self) -> bytes:
        """Ask each process of this host which revisions its requests hold; return the question.

        It wakes their watchers.

        :raises OSError: the page can't be written.
        """
        question = os.urandom(_WORD)
        if not self._file.writable:
            raise OSError(self.problem or "there is no page")
        self._file.put(_ASKED, question)
        return question

    def follow_path(self) -> None:
        """Use the page that the path names now; one ``lstat`` unless it was replaced or is gone."""
        try:
            inode = inode_of(os.lstat(self._text_path))
        except OSError:
            inode = None
        if inode is not None and inode == self._file.inode:
            if self.problem and self._file.writable:
                self._try_again()
            return
        try:
            if inode is None:
                if not self.may_make:
                    self._file, self.problem = PageFile(), ""
                    return
                make(self.path)
            self._file = file = self._opened(inode)
        except OSError as exc:
            self._file = PageFile()
            self._failed("opened", exc)
        else:
            self.problem = ""
            if not file.writable:
                self._failed("written", PermissionError(errno.EACCES, "not for this user"))

    def _opened(self, inode: tuple[int, int] | None) -> PageFile:
        try:
            return opened(self.path)
        except Spoilt:
            if inode is None or not self.may_make:
                raise
            remove(self.path, inode)
            make(self.path)
            logger.warning("%s had lost its bytes and was made again", self.path)
            return opened(self.path)

    # Writing

    def mark(
        self, identity: bytes, revision: int, *, epoch: str = "", within_change: bool = False
    ) -> bytes:
        """Write what this process is about to serve or to acknowledge; return the new ``seq``.

        Nothing is returned where ``seq`` did not change.

        Blocks for at most :data:`TICKET_S`, and only after the page was replaced.

        :param epoch: the word of the store's epoch, from a store of which it matters.
        :param within_change: a change of this process is open, so that no ticket is shared,
            and ``seq`` need not change.
        """
        file, seq = self._file, b""
        if not file.writable:
            return seq
        try:
            if not within_change:
                # First: who finds this identity must not share a ticket from before it.
                file.put(_SEQ, new := os.urandom(_WORD))
                seq = new
            file.put(_REVISION, struct.pack("=q", revision))
            if epoch != self.epoch:
                file.put(_EPOCH, bytes.fromhex(epoch) or bytes(_WORD))
            file.put(_IDENTITY, identity)
        except OSError as exc:
            self._failed("written", exc)
        file.outlast_others()
        return seq

    def close_if_unused(self) -> None:
        """Say that no change is under way, unless a writer holds the page.

        Any process may do it, so that none waits for a writer that died; never waits itself.
        """
        try:
            self._close()
        except OSError as exc:
            self._failed("written", exc)

    def change(self) -> PageChange:
        """Hold the page until the end of a context; never waits for another's change."""
        return PageChange(self)

    def open(self) -> None:
        """Say that a change may be committed from now on; see :meth:`PageChange.open`."""
        file = self._file
        if file.writable:
            try:
                file.put(_OPENED, os.urandom(_WORD))
            except OSError as exc:
                self._failed("written", exc)
            file.outlast_others()

    def lock(self) -> int | None:
        """Return a descriptor that holds a shared lock on the page that the path names now."""
        for _ in range(_ATTEMPTS):
            self.follow_path()
            if not self._file.writable:
                return None
            try:
                descriptor = lock_shared(self.path)
            except OSError as exc:
                self._failed("locked", exc)
                return None
            if inode_of(os.fstat(descriptor)) == self._file.inode:
                return descriptor
            unlock(descriptor)
        return None

    @property
    def inode(self) -> tuple[int, int] | None:
        """Device and inode of the page in use."""
        return self._file.inode

    def _try_again(self) -> None:
        """Lock and write, as the next change will, after the system had no room for either."""
        try:
            unlock(lock_shared(self.path))
        except OSError as exc:
            self._failed("locked", exc)
            return
        try:
            self._close()
        except OSError as exc:
            self._failed("written", exc)
        else:
            # Not before: the slot would show a page that can't be used as one that can.
            self.problem = ""

    def _close(self) -> None:
        file = self._file
        if not file.writable:
            return
        # Read before the question: a writer that comes after it has another value here.
        opened = file.view[_OPENED : _OPENED + _WORD]
        if not file.is_locked():
            file.put(_CLOSED, opened)

    def _failed(self, what: str, exc: OSError) -> None:
        reason = exc.strerror or exc
        if fix := scarcity(exc):
            self.problem = f"the page {self.path} can't be {what} ({reason}): {fix}"
        else:
            self.problem = (
                f"the page {self.path} can't be {what} ({reason}): make it and its folder writable "
                "for every worker, or name another in WAFFLE_PAGE_FILE"
            )


class PageChange:
    """One change of this process; the page shows that it may be under way.

    :ivar opened: the change may have been committed.
    :ivar words: of the page from before the commit, by then open.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lock = page.lock()
        self._inode = page.inode
        self.opened = False
        self.words = b""

    def __enter__(self) -> PageChange:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    @property
    def covers(self) -> bool:
        """Whether it is open, and held so that no other process closes it: no ticket is shared."""
        return self.opened and self._lock is not None

    def open(self) -> None:
        """Say that the change may be committed from now on; called just before each attempt.

        Blocks for at most :data:`TICKET_S`, and only after the page was replaced.
        """
        self.opened = True
        self._page.open()
        self.words = self._page.words()

    def end(self) -> None:
        """Let go of the page, and close it if no other change is under way."""
        lock, self._lock = self._lock, None
        if lock is not None:
            unlock(lock)
        if self.opened:
            self._page.follow_path()
            if self._page.inode != self._inode:
                # Replaced during the change: this one never showed that it was open.
                self._page.open()
            self._page.close_if_unused()


def is_open(words: bytes) -> bool:
    """Return whether the words of a page say that a change may be under way."""
    return words[:8] != words[8:16]


def identity_of(read: Snapshot | Delta) -> bytes:
    """Return the 64-bit hash by which a page names the state of a store that was read."""
    return _identity(read.epoch, read.revision, read.mark)


# A change asks several times for the same one.
@functools.lru_cache(maxsize=8)
def _identity(epoch: str, revision: int, mark: str) -> bytes:
    text = f"{epoch}\0{revision}\0{mark}"
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
