"""What the helpers of all servers share: one that stops, freezes and starts again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import pytest

from .processes import Process, clean_environment, free_port

#: whom a server runs as that refuses to run as root
UNPRIVILEGED = "nobody" if os.geteuid() == 0 else None
#: Debian keeps servers off the PATH of most users
SERVERS_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
_LIMIT_S = 60


class Server(ABC):
    """A server that can be stopped, frozen, and started again on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: Process | None = None

    @abstractmethod
    def _start(self) -> Process:
        """Start its process, and wait until it takes connections."""

    @property
    def process(self) -> Process:
        """The process that runs."""
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process = self._start()
        assert not self._process.ended, self._process.evidence()

    def stop(self) -> None:
        """End it at once, as a crash does; nothing happens if it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send(number)

    def freeze(self) -> None:
        """Let it hold all connections and answer to none."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self.process.thaw()

    def restore(self) -> None:
        """Let it run, whether it was stopped or frozen."""
        if self._process is None or self._process.ended:
            self.start()
        else:
            self.thaw()

    def release(self) -> None:
        """End it, and remove what it kept."""
        self.stop()


class ServerInFolder(Server):
    """One with a folder of its own, under ``/tmp``.

    No other user than root may enter the folders of pytest, which each run of it closes again.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix=f"waffle-{name}-"))
        if UNPRIVILEGED is not None:
            shutil.chown(self.folder, UNPRIVILEGED)

    @property
    def log_path(self) -> Path:
        """Where it says what it does."""
        return self.folder / "server.log"

    def release(self) -> None:
        super().release()
        shutil.rmtree(self.folder)

    def _fill(self, command: Iterable[str | Path]) -> None:
        """Run what fills the folder before the first start; fail, and remove it, if that fails."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [program, *arguments],
            user=UNPRIVILEGED,
            cwd="/",
            env={**clean_environment(), "PATH": SERVERS_PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(self.folder)
            said = done.stdout[-12_000:]
            pytest.fail(f"{program} ended with status {done.returncode}\n{said}", pytrace=False)
