"""Runs pytest as ``python -m pytest`` does, and records for CI's table what ran on what.

``WAFFLE_RESULTS`` is the folder of the records, ``WAFFLE_STAGE`` their name.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

SHOWN = ("Flask", "Werkzeug", "msgspec", "SQLAlchemy", "peewee", "redis")


def main() -> int:
    """Run pytest with the command line's arguments; return its exit status."""
    # As `python -m` does, and `python FILE` does not.
    sys.path[0] = os.getcwd()
    folder = os.environ.get("WAFFLE_RESULTS")
    arguments = sys.argv[1:]
    if folder is None:
        return int(pytest.main(arguments))
    what = " ".join(argument for argument in arguments if argument in ("tests", "integration"))
    stage = os.environ.get("WAFFLE_STAGE", "stage")
    Path(folder).mkdir(parents=True, exist_ok=True)
    base = f"{folder}/{stage} {what}"
    about = {
        "stage": stage,
        "tests": what,
        "python": platform.python_version(),
        "versions": {name: found for name in SHOWN if (found := _version(name))},
        "server": _server(),
    }
    Path(f"{base}.json").write_text(json.dumps(about))
    return int(pytest.main([*arguments, f"--junitxml={base}.xml"]))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _server() -> str:
    from uwsgi_waffle.checks.binary import ask, find_binary

    path = find_binary(None, os.environ)
    if path is None:
        return "no uWSGI"
    found = ask(path, os.environ)
    kind = "Debian's" if found.python is None else _package()
    return f"{kind} {found.version}"


def _package() -> str:
    return next((name for name in ("pyuwsgi", "uWSGI") if _version(name)), "uWSGI")


if __name__ == "__main__":
    sys.exit(main())
