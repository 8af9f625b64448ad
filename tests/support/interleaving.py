"""Processes of one host that take turns at every access to what they share, as a test has it.

Each process is a greenlet with its own manager and page, on one folder and one store in memory. It
stops before each word of the page that it reads or writes, before it takes, asks for or releases a
lock, at each step of the store, and at each look at the watch file. A schedule says who goes on
for how many steps, and who dies. The same schedule makes the same run.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from greenlet import getcurrent, greenlet

from uwsgi_waffle.notifiers.file import FileNotifier
from uwsgi_waffle.process import locks, page_file
from uwsgi_waffle.process import page as page_module
from uwsgi_waffle.process.gate import Gate
from uwsgi_waffle.process.page_file import PageFile
from uwsgi_waffle.process.tickets import TICKET_WORDS

from .rig import Clock, MemoryStore, Rig, set_ticket_clock

PAUSED = "paused"
_WORD = 8


class Turn(NamedTuple):
    """One process goes on.

    :ivar who: which, modulo how many there are; one that has ended does nothing.
    :ivar steps: for how many accesses; 0: until it pauses or ends.
    :ivar dies: it is killed then.
    """

    who: int
    steps: int
    dies: bool = False


class SteppedBackError(AssertionError):
    """A request saw less than what anyone had seen or been told before it began."""


class _Killed(BaseException):
    """The process is dead: none of its accesses happens any more."""


class _Process(greenlet):  # type: ignore[misc]  # greenlet has no types
    def __init__(self, host: Host, work: str) -> None:
        super().__init__(self._work)
        self.host = host
        self.todo = work
        self.killed = False
        self.commit: Callable[[], int] | None = None
        self.rig = Rig(host.folder, store=host.store)
        self.gate = Gate(self._app, self._look, "ticket", clears_environ=True)
        self.gate.tickets = self.rig.manager.tickets

    @property
    def ended(self) -> bool:
        return self.killed or self.dead

    def _look(self, environ: dict[str, Any]) -> None:
        self.rig.manager.admit(environ, "ticket")

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return []

    def _work(self) -> None:
        with contextlib.suppress(_Killed):
            for kind in self.todo:
                self._do(kind)

    def _do(self, kind: str) -> None:
        host = self.host
        least = host.seen
        if kind == "w":
            revision = self.rig.update(LIMIT=1 + host.store.revision)
        elif kind == "x":
            host.store.change_elsewhere()
            return
        elif kind == ".":
            host.main.switch(PAUSED)
            return
        elif kind == "c":
            revision = self.rig.manager.current().revision
        elif kind == "f":
            self.rig.manager.follow(None)
            return
        else:
            environ: dict[str, Any] = {}
            self.gate.wsgi_app(environ, lambda *_: None)
            revision = environ["ticket"].snapshot.revision
        if revision < least:
            raise SteppedBackError(f"{kind!r} saw {revision} after {least}")
        host.seen = max(host.seen, revision)


class _Store(MemoryStore):
    def read_since(self, revision: int, epoch: str, mark: str = "") -> Any:
        _step()
        return super().read_since(revision, epoch, mark)

    def change_elsewhere(self) -> None:
        super().write({"LIMIT": str(1 + self.revision)})

    def write(self, raws: Any, *, before_commit: Any = None, **more: Any) -> int:
        process = getcurrent()
        if not isinstance(process, _Process):
            return super().write(raws, **more)
        if before_commit is not None:
            before_commit()

        def commit() -> int:
            return super(_Store, self).write(raws, **more)

        # On its way to the database: from here on it may be committed though the client is dead.
        process.commit = commit
        _step()
        process.commit = None
        revision = commit()
        _step()
        return revision


class _View:
    """A mapping whose words are read one by one, since nothing says that they are read at once."""

    def __init__(self, view: page_file.View) -> None:
        self._view = view

    def __getitem__(self, where: slice, /) -> bytes:
        words = {}
        offsets = list(range(where.start, where.stop, _WORD))
        process = getcurrent()
        if isinstance(process, _Process) and where == TICKET_WORDS:
            process.host.turned += 1
            turn = process.host.turned % len(offsets)
            offsets = offsets[turn:] + offsets[:turn]
        for offset in offsets:
            _step()
            words[offset] = self._view[offset : offset + _WORD]
        return b"".join(words[offset] for offset in sorted(words))


def _step() -> None:
    process = getcurrent()
    if isinstance(process, _Process):
        if not process.killed:
            process.host.main.switch()
        if process.killed:
            raise _Killed


def _stopping(function: Callable[..., Any]) -> Callable[..., Any]:
    def stops(*args: Any, **more: Any) -> Any:
        _step()
        return function(*args, **more)

    return stops


def _unlock(descriptor: int, really: Callable[[int], None] = locks.unlock) -> None:
    # The kernel does it for a process that died.
    with contextlib.suppress(_Killed):
        _step()
    really(descriptor)


@contextlib.contextmanager
def stopping_everywhere() -> Iterator[None]:
    """Stop processes at every shared access; time stands still, so that no ticket runs out."""
    clock = Clock()
    real_view = page_file._view
    with contextlib.ExitStack() as stack:

        def patch(owner: Any, name: str, new: Any) -> None:
            stack.enter_context(mock.patch.object(owner, name, new))

        patch(page_file, "_view", lambda descriptor: _View(real_view(descriptor)))
        patch(page_file, "TICKET_S", 0.0)  # The pages here are as old as their processes.
        patch(PageFile, "put", _stopping(PageFile.put))
        patch(PageFile, "is_locked", _stopping(PageFile.is_locked))
        patch(page_module, "lock_shared", _stopping(locks.lock_shared))
        patch(page_module, "unlock", _unlock)
        patch(FileNotifier, "announce", _stopping(FileNotifier.announce))
        patch(FileNotifier, "signature", _stopping(FileNotifier.signature))
        set_ticket_clock(patch, clock)
        yield


class Host:
    """The processes of one host.

    :ivar seen: the highest revision that anyone has seen or been told.
    """

    def __init__(self, folder: Path, works: Sequence[str]) -> None:
        self.folder = folder
        self.store = _Store()
        self.main = getcurrent()
        self.seen = 0
        self.turned = 0
        self.late: list[Callable[[], int]] = []
        self.processes = [_Process(self, work) for work in works]

    def run(self, turns: Sequence[Turn]) -> None:
        """Run all processes to their end.

        :raises SteppedBackError: a request saw less than it must.
        """
        try:
            for turn in turns:
                self._go_on(self.processes[turn.who % len(self.processes)], turn)
            for process in self.processes:
                while not process.ended:
                    process.switch()
        finally:
            for process in self.processes:
                self._kill(process)

    def _go_on(self, process: _Process, turn: Turn) -> None:
        if self.late and turn.who % 2:
            self.late.pop()()
        steps = turn.steps or -1
        while steps and not process.ended:
            steps -= 1
            if process.switch() is PAUSED and not turn.steps:
                break
        if turn.dies and not process.ended:
            self._kill(process)
            if process.commit is not None:
                self.late.append(process.commit)

    def _kill(self, process: _Process) -> None:
        process.killed = True
        running = bool(process)
        if running:
            process.throw(_Killed)


def explore(works: Sequence[str], turns: Sequence[Turn]) -> None:
    """Run processes by a schedule.

    :param works: for each process what it does: ``r``, a request; ``c``, code outside of requests;
        ``f``, a turn of the watcher; ``w``, a change; ``x``, a change of another host, of which
        no notice comes; ``.``, a pause.
    :raises SteppedBackError: a request saw less than what anyone had seen before it began.
    """
    with tempfile.TemporaryDirectory(prefix="waffle-") as folder, stopping_everywhere():
        Host(Path(folder), works).run(turns)
