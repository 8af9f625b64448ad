"""Who is measured: this project, what it is built on, and what others made."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from integration.support.find import need_uwsgi
from integration.support.processes import clean_environment

ROOT = Path(__file__).resolve().parent.parent

_VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
"""


#: This project with what it needs, and no test tool: what a user of file mode installs.
ALONE = "alone"


@dataclass(frozen=True)
class Contender:
    """One app with one way to keep its setting; all answer alike.

    :ivar kind: what the app is told by ``BENCH_KIND``.
    :ivar baseline: the name of the contender that is the same app without live settings.
    :ivar peer: the name of its virtual environment, or ``None`` for that of this project.
    :ivar follows_s: how long its workers may take to follow a change.
    """

    name: str
    label: str
    kind: str
    baseline: str | None = None
    peer: str | None = None
    follows_s: float = 5.0

    @property
    def live(self) -> bool:
        """Whether its setting can be changed."""
        return self.kind not in ("plain", "stat")

    @property
    def watches(self) -> bool:
        """Whether a worker follows a change by itself, and not only when it reads."""
        return self.live and self.peer not in ("constance", "sentry")

    @property
    def module(self) -> str:
        """What uWSGI loads."""
        return {
            None: "bench.app:app",
            ALONE: "bench.app:app",
            "waffleconf": "bench.peers.waffleconf_app:app",
            "constance": "bench.peers.constance_app:application",
            "sentry": "bench.peers.sentry_app:app",
        }[self.peer]

    @property
    def prepares(self) -> bool:
        """Whether its own program makes what it needs before its server starts."""
        return self.peer not in (None, ALONE)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return Path(sys.executable) if self.peer is None else _venv(self.peer) / "bin" / "python"

    @property
    def uwsgi(self) -> str:
        """The uWSGI of its environment."""
        return need_uwsgi().path if self.peer is None else str(_venv(self.peer) / "bin" / "uwsgi")

    def run(self, *arguments: str, **env: str) -> str:
        """Run a peer's own program; return what it prints."""
        command = [str(self.python), "-W", "ignore", "-m", self.module.split(":")[0], *arguments]
        return subprocess.run(
            command,
            env=clean_environment(PYTHONPATH=str(ROOT), BENCH_KIND=self.kind, **env),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=600,
        ).stdout


_ALL = (
    Contender("flask", "plain Flask", "plain"),
    Contender("flask-stat", "plain Flask and os.stat", "stat", "flask"),
    Contender("waffle-file", "uwsgi_waffle, file", "file", "flask"),
    Contender("waffle-redis", "uwsgi_waffle, Redis", "redis", "flask"),
    Contender("old-flask", "plain Flask 2.2", "plain", peer="waffleconf"),
    Contender("waffleconf-file", "Flask-WaffleConf, file", "file", "old-flask", "waffleconf", 30.0),
    Contender("waffleconf-redis", "Flask-WaffleConf, Redis", "redis", "old-flask", "waffleconf"),
    Contender("django", "plain Django", "plain", peer="constance"),
    Contender("constance-database", "constance, database", "database", "django", "constance"),
    Contender("constance-redis", "constance, Redis", "redis", "django", "constance"),
    Contender(
        "constance-caching", "constance, CachingRedis", "cachingredis", "django", "constance", 90.0
    ),
    Contender("sentry", "sentry-options, files", "file", "flask", "sentry", 15.0),
)
#: measured where two hosts are, only: it needs a PostgreSQL
ON_POSTGRESQL = Contender("waffle-postgresql", "uwsgi_waffle, PostgreSQL", "postgresql", "flask")
BY_NAME = {contender.name: contender for contender in (*_ALL, ON_POSTGRESQL)}


def contenders(*, peers: bool) -> list[Contender]:
    """Return all that are installed; tell of each environment that is missing."""
    absent = {one.peer for one in _ALL if one.peer and not _installed(one.peer)}
    if peers:
        for peer in sorted(absent):
            print(f"left out: {peer}, because {_venv(peer)} is not installed (see make bench)")
    return [one for one in _ALL if one.peer is None or (peers and one.peer not in absent)]


def alone(chosen: list[Contender]) -> list[Contender]:
    """Return contenders of which none finds packages that only this project's tests need.

    An optional package that is there is imported, by msgspec at least; each peer is measured in
    an environment of what it needs, too.
    """
    if not _installed(ALONE):
        print(f"beside the test tools, because {_venv(ALONE)} is not installed (see make bench)")
        return chosen
    return [one if one.peer else replace(one, peer=ALONE) for one in chosen]


def versions(peer: str | None) -> dict[str, str]:
    """Return the version of every package in an environment, by name."""
    python = sys.executable if peer is None else str(_venv(peer) / "bin" / "python")
    done = subprocess.run([python, "-c", _VERSIONS], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _venv(peer: str) -> Path:
    return ROOT / f".venv-bench-{peer}"


def _installed(peer: str) -> bool:
    return (_venv(peer) / "bin" / "uwsgi").exists() and (_venv(peer) / ".installed").exists()
