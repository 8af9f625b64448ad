"""A real uWSGI that serves the site, with a port of its own for each worker."""

from __future__ import annotations

import json
import re
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uwsgi_waffle.checks.binary import Server

from .client import call
from .processes import Process, clean_environment, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ROOT / "integration" / "apps"

#: The configuration of each site in the tests, unless a test sets another.
TEST_CONFIG: dict[str, Any] = {
    # Small, so that tests don't wait long for what a watcher does between requests.
    "WAFFLE_POLL_INTERVAL": 0.05,
    "WAFFLE_RESYNC_INTERVAL": 1,
    # So long that no load of the machine is taken for an outage; a refused connection is no wait.
    "WAFFLE_STORE_TIMEOUT": 10,
    "WAFFLE_WRITE_TIMEOUT": 20,
    "WAFFLE_REDIS_TIMEOUT": 10,
}


class UwsgiServer(Process):
    """A uWSGI server of one test's own.

    :param folder: the site's instance folder.
    :param options: of the command line, beside what every server here gets.
    :param workers: how many there are at most; each gets a socket of its own.
    :param config: more of the site's configuration.
    :param threads: ask for threads; on by default since uWSGI 2.0.27.
    :param wrapper: a command that starts the command it is given.
    """

    def __init__(
        self,
        name: str,
        server: Server,
        folder: Path,
        options: Iterable[str],
        *,
        workers: int,
        config: Mapping[str, Any],
        env: Mapping[str, str],
        threads: bool = True,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.workers = workers
        self._applied = folder / "applied.jsonl"
        arguments = [*wrapper, server.path]
        packages = [str(ROOT)]
        if server.python is None:
            # Debian's uWSGI, which runs the system's Python without any virtual environment.
            arguments += ["--plugin", "python3"]
            packages += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        arguments += [f"--pythonpath={path}" for path in dict.fromkeys(packages)]
        # need-app: a server without its app would answer, and never what is awaited.
        arguments += [f"--processes={workers}", "--need-app", "--disable-logging", *options]
        if threads:
            arguments.append("--enable-threads")
        if not any(option.startswith("--mount") for option in options):
            arguments += [f"--wsgi-file={APPS / 'serve.py'}", "--callable=app"]
        # Not port 0: a reload of the master would bind others.
        self.ports = [free_port() for _ in range(workers)]
        for number, port in enumerate(self.ports):
            arguments += [f"--http-socket=127.0.0.1:{port}", f"--map-socket={number}:{number + 1}"]
        environment = clean_environment(
            SITE_INSTANCE=str(folder), SITE_CONFIG=json.dumps({**TEST_CONFIG, **config}), **env
        )
        if server.needs_binary_path:
            environment["UWSGI_BINARY_PATH"] = str(Path(server.path).parent / "python")
        super().__init__(
            name,
            arguments,
            env=environment,
            cwd=folder,
            log=folder.parent / f"{name}.log",
            ready=lambda log: log.count(" bound to TCP address ") == workers,
        )

    def get(self, worker: int, path: str = "/", **options: Any) -> Any:
        """Return what a worker, counted from 1, answers to a GET."""
        return call(self.ports[worker - 1], path, **options)

    def post(self, worker: int, values: Mapping[str, Any], path: str = "/update", **o: Any) -> Any:
        """Return what a worker answers to a POST."""
        return call(self.ports[worker - 1], path, values, **o)

    def reports(self, path: str = "/") -> list[dict[str, Any]]:
        """Return a report from every worker, in the order of their numbers."""
        return [self.get(worker, path) for worker in range(1, self.workers + 1)]

    def worker_pids(self) -> set[int]:
        """Return the pids of all living workers, as the operating system sees them."""
        mules = {int(pid) for pid in re.findall(r"spawned uWSGI mule \d+ \(pid: (\d+)\)", self.log)}
        pids = {process.pid for process in self.descendants()} - mules
        if "spawned uWSGI master process" not in self.log and not self.ended:
            pids.add(self.pid)
        return pids

    def applied(self) -> list[dict[str, Any]]:
        """Return what every process has applied so far, as the site recorded it."""
        if not self._applied.exists():
            return []
        # The last line may be half written.
        lines = self._applied.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def appliers(self, revision: int, app: str | None = None) -> set[int]:
        """Return the pids of all processes that applied a revision."""
        return {
            line["pid"]
            for line in self.applied()
            if app in (None, line["app"]) and line["revision"] == revision
        }
