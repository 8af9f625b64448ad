"""The watcher: one daemon thread per app and process that follows the notices."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import Literal, Protocol

from ..backoff import Backoff
from ..errors import NotifierError
from ..notifiers.base import Notice, Notifier
from .manager import Manager

logger = logging.getLogger("uwsgi_waffle")

WATCHER = "watcher"


class WatcherTask(Protocol):
    """A periodic task on the watcher's thread; what it raises harms nothing else."""

    def turn(self) -> None:
        """Do what is due; called after each wait, in the watcher thread."""

    def end(self) -> None:
        """Called once in the watcher thread, when the watcher was stopped."""


class Watcher:
    """Waits for notices and lets the manager follow them, until it is stopped.

    A daemon thread, because uWSGI waits for any other until it kills the worker.

    Source: uWSGI 2.0.21 to 2.0.31, measured: 128 worker ends with a live daemon thread, none
    hung; a non-daemon thread hangs until SIGKILL.

    :param poll_interval_s: longest time between two looks at the watch file.
    :param tasks: done in each turn, after what was noticed is followed.
    """

    def __init__(
        self,
        manager: Manager,
        notifier: Notifier,
        *,
        poll_interval_s: float,
        tasks: Iterable[WatcherTask] = (),
    ) -> None:
        self._manager = manager
        self._notifier = notifier
        self._poll_interval_s = poll_interval_s
        self._tasks = list(tasks)
        self._stopping = threading.Event()
        # threading.Thread also under gevent: a native thread, or a greenlet if patched early.
        self._thread = threading.Thread(target=self._run, name="uwsgi_waffle", daemon=True)
        self._pid: int | None = None
        self._runs = False

    @property
    def pid(self) -> int | None:
        """The process that started this watcher."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this very process.

        ``is_alive()`` stays True in a worker that was forked after the start, and turns False for
        a thread that runs on if gevent's timeout ends the question.

        Source: CPython 3.11, ``Thread._wait_for_tstate_lock``, with gevent, ``LockType.acquire``.
        """
        return self._pid == os.getpid() and self._runs

    def add(self, task: WatcherTask) -> None:
        """Do one task more, from the next turn on."""
        self._tasks.append(task)

    def start(self) -> None:
        """Start the thread; once only."""
        self._pid = os.getpid()
        self._runs = True
        # Not after it: the thread takes it back when it ends, which may be at once.
        self._manager.watch(on=True)
        try:
            self._thread.start()
        except BaseException:
            # A thread that can't start must not keep the requests from reading.
            self._runs = False
            self._manager.watch(on=False)
            raise

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ask the thread to end, and wait for it; blocks for at most ``timeout_s``."""
        self._stopping.set()
        self._notifier.close()
        self._manager.watch(on=False)
        is_own = self._pid == os.getpid() and self._thread.ident is not None
        if is_own and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            self._runs = False
            # However it ended, requests must not rely on it. stop() said so itself, and by now
            # another watcher may run; in a child that a receiver forked nothing has ended.
            if not self._stopping.is_set() and self._pid == os.getpid():
                self._manager.watch(on=False)

    def _watch(self) -> None:
        backoff = Backoff()
        timeout_s = self._poll_interval_s
        while not self._stopping.is_set():
            try:
                notice = self._next_notice(timeout_s)
                if not self._stopping.is_set():
                    self._manager.watch(on=True, ear=self._notifier.is_ear)
                again_s = self._manager.follow(notice)
                timeout_s = self._poll_interval_s
                if again_s is not None:
                    timeout_s = min(timeout_s, max(again_s, 0.0))
                self._manager.health.works(WATCHER)
                backoff.reset()
            except Exception as exc:
                if WATCHER not in self._manager.health.failing():
                    logger.exception("the watcher goes on after an unexpected error")
                self._manager.health.failed(WATCHER, exc)
                self._stopping.wait(backoff.next_s())
            self._each_task("turn")
        self._each_task("end")

    def _each_task(self, method: Literal["turn", "end"]) -> None:
        for task in self._tasks:
            part = type(task).__name__
            try:
                getattr(task, method)()
            except Exception as exc:
                self._manager.health.failed(part, exc, harmless=True)
            else:
                self._manager.health.works(part)

    def _next_notice(self, timeout_s: float) -> Notice | None:
        try:
            notice = self._notifier.wait(timeout_s)
        except NotifierError as exc:
            self._manager.health.failed(self._notifier.name, exc)
            return None
        if notice is not None:
            self._manager.health.works(self._notifier.name)
        return notice
