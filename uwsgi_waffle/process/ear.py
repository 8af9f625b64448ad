"""The ear: of all processes that share a page, the one that hears what other hosts announce."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..notifiers.base import Notice, Notifier
from ..notifiers.file import FileNotifier
from .locks import is_named, lock_byte, open_shared, unlock_byte
from .page import Page, is_open

#: so many processes of a host stand in line; all others only follow the page
RANKS = 3
#: an ear that has not been heard of for longer, or for three polls, has a deputy
SILENT_S = 1.0
_SILENT_POLLS = 3
_BEAT_S = 0.1
_CHANGE_S = 0.001
_CHANGE_MOST_S = 0.05
_BEAT = struct.Struct("=q")


class Succession:
    """The line of the processes that share a page: the first is the ear, the next its deputies.

    A place in the line is a lock on one byte of a file that nobody else opens. It ends with its
    process, however that ends, and no child inherits it. A process that holds a place without
    working is shown by the age of its heartbeat, which is in the file.

    Source: fcntl(2), "record locks": they belong to the process, and end when it closes any
    descriptor of the file. Where another app of the process does that, the place is taken again,
    or is another's by then. Linux: ``CLOCK_MONOTONIC`` is one for all processes of a boot.

    :param path: the file; made when it is first needed.
    :param silent_s: how old a heartbeat may be; one of the future is of an earlier boot.
    """

    def __init__(
        self, path: Path, *, silent_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._silent_s = silent_s
        self._clock = clock
        self._descriptor: int | None = None
        self._rank: int | None = None
        self._beaten_at = float("-inf")

    def __del__(self) -> None:
        self.leave()

    def hears(self) -> bool:
        """Take the first place that is free; return whether this process is to hear.

        It is where no process before it in line shows a heartbeat, and where the file can't be
        used. Waits for nobody.
        """
        if self._descriptor is not None and not is_named(self._path, self._descriptor):
            # Those who come later stand in line at another file.
            self.leave()
        try:
            if self._descriptor is None:
                self._descriptor = open_shared(self._path)
            self._advance(self._descriptor)
            return self._rank is not None and not any(
                self._beats(self._descriptor, rank) for rank in range(self._rank)
            )
        except OSError:
            self.leave()
            return True

    def beat(self) -> None:
        """Show those who are behind in line that this process hears."""
        now = self._clock()
        if self._descriptor is None or self._rank is None or now < self._beaten_at + _BEAT_S:
            return
        self._beaten_at = now
        with contextlib.suppress(OSError):
            self._put(self._descriptor, now)

    def leave(self) -> None:
        """Give the place to the next."""
        descriptor, self._descriptor, self._rank = self._descriptor, None, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _advance(self, descriptor: int) -> None:
        held, self._rank = self._rank, None
        for rank in range(RANKS if held is None else held + 1):
            if lock_byte(descriptor, rank):
                self._rank = rank
                break
        if self._rank == held:
            return
        if held is not None:
            unlock_byte(descriptor, held)
        if self._rank is not None:
            # Its holder before was alive: nobody behind is to hear until this one is late.
            self._put(descriptor, self._clock())

    def _beats(self, descriptor: int, rank: int) -> bool:
        word = os.pread(descriptor, _BEAT.size, rank * _BEAT.size)
        if len(word) < _BEAT.size:
            return False
        (beaten_ns,) = _BEAT.unpack(word)
        age_s = self._clock() - beaten_ns / 1e9
        return bool(0 <= age_s <= self._silent_s)

    def _put(self, descriptor: int, now: float) -> None:
        assert self._rank is not None
        os.pwrite(descriptor, _BEAT.pack(int(now * 1e9)), self._rank * _BEAT.size)


class Ear(Notifier):
    """Waits for the notices of a channel if this process is the ear of its host, else for files.

    The others follow the page, which the ear marks with what it has read: at the next request, or
    at the next poll. A change of this host they see at once, by the watch file. A process that
    begins to hear is given a notice that only a read of the store shows what was missed.

    :param name: of the channel.
    :param make_channel: makes the notifier of the channel; not called in a process that follows.
    :param files: waits for changes of this host, and for what is written to the page.
    :param page: of the store; a process that can't use it hears by itself.
    """

    def __init__(
        self,
        name: str,
        make_channel: Callable[[], Notifier],
        files: FileNotifier,
        page: Page,
        *,
        poll_interval_s: float,
    ) -> None:
        self.name = name
        self._make_channel = make_channel
        self._files = files
        self._page = page
        self._succession = Succession(
            page.path.with_name(f"{page.path.name}.ear"),
            silent_s=max(SILENT_S, _SILENT_POLLS * poll_interval_s),
        )
        self._closed = threading.Event()
        # Held while it changes what is waited for; never while it is waited for.
        self._lock = threading.Lock()
        self._channel: Notifier | None = None
        self._works = False
        self._asked = page.asked

    def __repr__(self) -> str:
        return f"<Ear {self.name} {'hears' if self.is_ear else 'follows the page'}>"

    @property
    def is_ear(self) -> bool:
        # While its channel fails nobody of the host hears, and others try in vain, too.
        return self._channel is not None and self._works

    def announce(self, revision: int, epoch: str = "", mark: str = "") -> None:
        """Announce on this host alone; others hear by a ``Publisher``."""
        self._files.announce(revision, epoch, mark)

    def wait(self, timeout_s: float) -> Notice | None:
        with self._lock:
            if self._closed.is_set():
                return None
            hears = bool(self._page.problem) or self._succession.hears()
            left = None if hears else self._dropped()
            channel = self._subscribed() if hears else None
        if left is not None:
            # What it did not hear at the end, the one that hears now may have read already.
            left.close()
            return Notice(None)
        if channel is None:
            return self._followed(timeout_s)
        try:
            notice = channel.wait(timeout_s)
        except Exception:
            self._works = False
            raise
        self._works = self._works or notice is not None
        if self._works:
            self._succession.beat()
        if notice is not None:
            self._let_end()
        return notice

    def close(self) -> None:
        self._closed.set()
        self._files.close()
        with self._lock:
            channel = self._dropped()
            self._succession.leave()
        if channel is not None:
            channel.close()

    def _followed(self, timeout_s: float) -> Notice | None:
        """Wait for a change of this host, or a question on the page.

        Not for what the ear marks: it is seen by the next request, or at the next poll, so that
        not all processes of all hosts read a change at once.
        """
        until = time.monotonic() + timeout_s
        while True:
            notice = self._files.wait(max(0.0, until - time.monotonic()))
            asked, self._asked = self._asked, self._page.asked
            is_over = self._closed.is_set() or time.monotonic() >= until
            if notice is not None or is_over or asked != self._asked:
                return notice

    def _let_end(self) -> None:
        """Wait for a change of this host that is under way, for at most a moment.

        What would be read until then would only have to be read again; most of its own notices
        come before it is over.
        """
        until, pause_s = time.monotonic() + _CHANGE_MOST_S, _CHANGE_S
        while is_open(self._page.words()) and not self._closed.is_set():
            if time.monotonic() + pause_s > until:
                break
            time.sleep(pause_s)
            pause_s *= 2

    def _subscribed(self) -> Notifier:
        if self._channel is None:
            self._channel, self._works = self._make_channel(), False
        return self._channel

    def _dropped(self) -> Notifier | None:
        channel, self._channel = self._channel, None
        return channel
