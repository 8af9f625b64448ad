"""What the figures were taken on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import psutil

from integration.support.find import need_redis

from .contenders import ROOT, contenders, versions
from .load import client

#: Of every environment; only those of interest, or the table would be as long as pip's.
_PACKAGES = (
    "uwsgi-waffle",
    "Flask-WaffleConf",
    "django-constance",
    "sentry_options",
    "Flask",
    "Werkzeug",
    "Django",
    "Flask-SQLAlchemy",
    "SQLAlchemy",
    "msgspec",
    "redis",
    "pyuwsgi",
)
_HERE = "this project"


def describe(*, peers: bool) -> dict[str, object]:
    """Return the machine, the versions and the day, for the head of a report."""
    environments: dict[str, dict[str, str]] = {}
    for peer in dict.fromkeys(one.peer for one in contenders(peers=peers)):
        found = versions(peer)
        environments[peer or _HERE] = {name: found[name] for name in _PACKAGES if name in found}
    redis = subprocess.run([need_redis(), "--version"], capture_output=True, text=True, check=True)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis-server": " ".join(redis.stdout.split()[2:3]).removeprefix("v="),
        "load": client(),
        "load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "environments": environments,
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
