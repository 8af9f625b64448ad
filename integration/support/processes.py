"""The one runner of the processes that tests, faults and benchmarks start, and their end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
from typing_extensions import Self

from .waiting import DEADLINE_S, eventually

STOP_S = 10.0
#: below the range that the kernel gives to outgoing connections, so that none of them takes a
#: port while its server restarts; those from 30,000 on are for the buses of Redis clusters
_PORTS = range(20_000, 30_000)
_given: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now, and that this run has not returned before.

    Each process of ``pytest -n`` has ports of its own: two would take the same one between the
    look and the server's start.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = _PORTS[number::count]
    while True:
        port = random.choice(own)
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Process:
    """A program in a process group of its own, with a log; ended together with all it forked.

    :param name: stands in the evidence of a failure.
    :param arguments: the command line.
    :param log: gets what it prints, after what is there.
    :param ready: says, from what this start has printed, whether it is up; waited for. A program
        that ended by itself is not waited for: see :attr:`popen`.
    :param user: whom to run it as.
    :param deadline_s: how long it may take until it is ready.
    """

    def __init__(
        self,
        name: str,
        arguments: Iterable[str],
        *,
        env: Mapping[str, str],
        cwd: Path | str,
        log: Path,
        ready: Callable[[str], bool] | None = None,
        user: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.name = name
        self.log_path = log
        self._seen: dict[int, psutil.Process] = {}
        with log.open("ab") as output:
            self._log_start = output.tell()
            self.popen = subprocess.Popen(
                list(arguments),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                start_new_session=True,
            )
        self.pid = self.popen.pid
        if ready is not None:
            try:
                self.eventually(
                    "ready", lambda: self.ended or ready(self.log), deadline_s=deadline_s
                )
            except BaseException:
                self.stop()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """All that it has printed since this start."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the process that was started has ended."""
        return self.popen.poll() is not None

    def evidence(self) -> str:
        """Return the end of the log, to be shown with a failure."""
        return f"----- {self.name} (pid {self.pid}) printed -----\n{self.log[-12_000:]}"

    def eventually(self, what: str, probe: Callable[[], Any], **options: Any) -> Any:
        """See :func:`~integration.support.waiting.eventually`; the log is the evidence."""
        return eventually(what, probe, evidence=self.evidence, **options)

    def descendants(self) -> list[psutil.Process]:
        """Return all living processes that this one has forked, also if their parent is gone.

        Those that left the group, as each backend of PostgreSQL does, while their parents live.
        """
        if self.popen.returncode is None:
            for child in psutil.Process(self.pid).children(recursive=True):
                self._seen[child.pid] = child
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if process.pid != self.pid and os.getpgid(process.pid) == self.pid:
                    self._seen[process.pid] = process
        return [process for process in self._seen.values() if _lives(process)]

    def wait_for_end(self) -> int:
        """Return the exit code, once the process has ended by itself."""
        self.eventually("ended", lambda: self.ended)
        return int(self.popen.returncode)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self.popen.send_signal(number)

    def freeze(self) -> None:
        """Stop it and all it has forked; returns when they stand still."""
        # The parent first, so that it replaces none of them.
        frozen = [psutil.Process(self.pid), *self.descendants()]
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        self.eventually("stopped", lambda: not any(map(_moves, frozen)))

    def thaw(self) -> None:
        """Let them go on after :meth:`freeze`."""
        for process in [psutil.Process(self.pid), *self.descendants()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def end(self) -> None:
        """Ask it to end, by SIGTERM; :meth:`stop` what is there after :data:`STOP_S`."""
        self.descendants()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.terminate()
            self.popen.wait(STOP_S)
        self.stop()

    def stop(self) -> None:
        """End it and every process that it has forked, at once, by SIGKILL.

        A master of uWSGI takes a second to end when it is asked.
        """
        self.descendants()
        # Once its leader has been waited for, the number may belong to another group.
        if self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(STOP_S)
        forked = self.descendants()
        for process in forked:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # The process that adopted them may take its time to collect them.
        eventually("ended", lambda: not any(map(_lives, forked)), interval_s=0.005)


_OF_OTHERS = ("UWSGI_", "WAFFLE_", "FLASK_", "PYTEST_")
# The last makes each process compile the package again.
_KEPT_BACK = {"NOTIFY_SOCKET", "LISTEN_FDS", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE"}


def clean_environment(**extra: str) -> dict[str, str]:
    """Return an environment for a server, without what would set it up from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # By xdist's names a program that takes ports itself takes those of its test's process.
        if (name.startswith("PYTEST_XDIST_") or not name.startswith(_OF_OTHERS))
        and name not in _KEPT_BACK
    }
    # So that a log holds what was printed before a crash.
    return {**kept, "PYTHONUNBUFFERED": "1", "PATH": _path(), **extra}


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _moves(process: psutil.Process) -> bool:
    try:
        return _lives(process) and process.status() != psutil.STATUS_STOPPED
    except psutil.Error:
        return False
