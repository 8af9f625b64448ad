"""Processes that the tests start, and their end."""

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
from xprocess import ProcessStarter, XProcess

from .waiting import DEADLINE_S, eventually

STOP_S = 10.0


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now.

    Below the range that the kernel gives to outgoing connections, so that none of them takes
    it while a server restarts.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Process:
    """A server that pytest-xprocess started, with all that it forked.

    :param arguments: of the command line.
    :param ready: tells, from the log so far, whether it is up.
    """

    def __init__(
        self,
        xprocess: XProcess,
        name: str,
        arguments: Iterable[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        ready: Callable[[str], bool],
    ) -> None:
        self._xprocess = xprocess
        self._name = name
        self._seen: dict[int, psutil.Process] = {}
        self.log_path = Path(str(xprocess.getinfo(name).logpath))
        log_path = self.log_path
        command, env_, cwd_ = list(arguments), dict(env), str(cwd)

        class Starter(ProcessStarter):  # type: ignore[misc]
            args = command
            env = env_
            popen_kwargs = {"cwd": cwd_, "stdin": subprocess.DEVNULL}  # noqa: RUF012
            timeout = int(DEADLINE_S)
            terminate_on_interrupt = True

            def startup_check(self) -> bool:
                ended = xprocess.resources[-1].popen.poll() is not None
                return ended or ready(log_path.read_text(errors="replace"))

        try:
            xprocess.ensure(name, Starter)
        finally:
            self._resource = xprocess.resources[-1]
            self.popen: subprocess.Popen[bytes] = self._resource.popen
            self.pid: int = self.popen.pid

    @property
    def log(self) -> str:
        """All that the server has printed."""
        return self.log_path.read_text(errors="replace")

    def evidence(self) -> str:
        """Return the end of the log, to be shown with a failure."""
        return f"----- {self._name} (pid {self.pid}) printed -----\n{self.log[-12_000:]}"

    def eventually(self, what: str, probe: Callable[[], Any], **options: Any) -> Any:
        """See :func:`~integration.support.waiting.eventually`."""
        return eventually(what, probe, evidence=self.evidence, **options)

    def descendants(self) -> list[psutil.Process]:
        """Return all living processes that this one has forked, also if their parent is gone."""
        # xprocess makes each process the leader of a group of its own.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if process.pid != self.pid and os.getpgid(process.pid) == self.pid:
                    self._seen[process.pid] = process
        return [process for process in self._seen.values() if _lives(process)]

    def wait_for_end(self) -> int:
        """Return the exit code, once the process has ended by itself."""
        self.eventually("ended", lambda: self.popen.poll() is not None)
        return int(self.popen.returncode)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self.popen.send_signal(number)

    def stop(self) -> None:
        """End it and every process that it has forked, without asking.

        A master of uWSGI takes a second to end when it is asked.
        """
        # The parent first, so that it replaces nobody.
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(STOP_S)
        forked = self.descendants()
        for process in forked:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # Whoever adopted them may take its time to bury them.
        eventually("ended", lambda: not any(map(_lives, forked)), interval_s=0.005)

    def release(self) -> None:
        """Stop, and close what xprocess holds open for this process."""
        try:
            self.stop()
        finally:
            self._xprocess.config._extlogfiles.pop(self._name, None)
            for handle in self._resource.fhandles:
                handle.close()


def clean_environment(**extra: str) -> dict[str, str]:
    """Return an environment for a server, without what would set it up from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UWSGI_", "WAFFLE_", "FLASK_", "PYTEST_"))
        and name not in {"NOTIFY_SOCKET", "LISTEN_FDS", "PYTHONWARNINGS"}
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
