"""Ask an installed uWSGI: its version, its Python, and how it reads an ini."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from .model import CheckError

_TIMEOUT_S = 20.0
_BEGIN = ";uWSGI instance configuration\n[uwsgi]\n"
_FIRST = "hook-asap = call:show_config"
_END = ";end of configuration"

# `exit:0` would run vacuum and the atexit hooks, which remove a live server's pidfile.
# Source: measured on 2.0.21, 2.0.30, 2.0.31 and Debian's 2.0.21; uwsgi_hook_callint in
# core/hooks.c calls a symbol of the process with one number.
_PARSE_ONLY = ("--hook-asap", "call:show_config", "--hook-asap", "callint:_exit 0")


class Server(msgspec.Struct, frozen=True):
    """One installed uWSGI.

    :ivar version: as it prints it, such as ``2.0.21-debian``.
    :ivar python: major and minor of the Python inside; None if only a plugin knows.
    :ivar needs_binary_path: it is pyuwsgi in a virtual environment.
    """

    path: str
    version: str
    python: tuple[int, int] | None
    options: frozenset[str]
    needs_binary_path: bool

    @property
    def version_tuple(self) -> tuple[int, ...]:
        """Return the numbers of the version, to be compared."""
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[:3])


def clean_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what uWSGI would act on.

    Source: uWSGI parses ``UWSGI_*`` as options before any file, and notifies systemd at
    ``NOTIFY_SOCKET`` that it starts (uwsgi_setup in core/uwsgi.c, 2.0.31).
    """
    return {
        name: value
        for name, value in env.items()
        if not name.startswith("UWSGI_") and name not in {"NOTIFY_SOCKET", "LISTEN_FDS"}
    }


def find_binary(given: str | None, env: Mapping[str, str]) -> str | None:
    """Return uWSGI's path: the given one, ``WAFFLE_UWSGI``, beside this Python, on the PATH.

    :raises CheckError: if one was named, and is not an executable.
    """
    named = given or env.get("WAFFLE_UWSGI")
    if named:
        found = shutil.which(named, path=env.get("PATH"))
        if found is None:
            raise CheckError(f"{named} is not an executable uWSGI")
        return found
    beside = Path(sys.executable).parent / "uwsgi"
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which("uwsgi", path=env.get("PATH"))


def ask(path: str, env: Mapping[str, str]) -> Server:
    """Return what the binary says of itself; starts it three times, each bounded by 20 s.

    :raises CheckError: if it is not uWSGI.
    """
    version = _run([path, "--version"], env).stdout.strip()
    if not re.match(r"\d+\.\d+", version):
        raise CheckError(f"{path} --version says {version[:80]!r}: is it uWSGI?")
    python = re.search(r"^(\d+)\.(\d+)\S*\s*\Z", _run([path, "--python-version"], env).stdout, re.M)
    listed = re.findall(r"--([A-Za-z0-9_-]+)", _run([path, "--help"], env).stdout)
    return Server(
        path=path,
        version=version,
        python=(int(python[1]), int(python[2])) if python else None,
        options=frozenset(listed),
        needs_binary_path=_is_pyuwsgi_in_venv(Path(path)),
    )


def show_config(
    server: Server, file: str, section: str, env: Mapping[str, str], also: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Return every option of the ini as uWSGI resolves it, in its order.

    With files before it, the options begin with ``ini``, as that of the first of them.

    Parses and leaves before any hook of the file; takes about 6 ms, at most 20 s. Call it
    only with a file whose hazards are empty, or were allowed by the user.

    :param also: files that uWSGI reads before this one.
    :raises CheckError: with uWSGI's own words, if it refuses the file.
    """
    # The last colon starts a section, so a path with a colon needs one.
    target = file if section == "uwsgi" and ":" not in file else f"{file}:{section}"
    files = [word for name in (*also, target) for word in ("--ini", name)]
    done = _run([server.path, *_PARSE_ONLY, *files], env)
    output = done.stdout
    begin = output.find(_BEGIN)
    lines = output[begin + len(_BEGIN) :].split("\n")
    # With log-date, a date stands before each line.
    date = len(lines[0].partition(_FIRST)[0])
    lines = [line[date:] for line in lines]
    if done.returncode != 0 or begin < 0 or _END not in lines:
        words = [line for line in output.splitlines() if not line.startswith("[uWSGI] getting")]
        raise CheckError("uWSGI refuses the file: " + ("; ".join(words[-5:]) or "no reason given"))
    lines = lines[: lines.index(_END)]
    pairs = [(key, value) for key, _, value in (line.partition(" = ") for line in lines)]
    # Our own arguments come first.
    return pairs[2:] if also else pairs[3:]


def _run(command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "--ini" in command else subprocess.DEVNULL,
            env=clean_env(env),
            timeout=_TIMEOUT_S,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as exc:
        raise CheckError(f"{command[0]} gave no answer in {_TIMEOUT_S:g} s") from exc
    except OSError as exc:
        raise CheckError(f"{command[0]} can't be run: {exc.strerror}") from exc


def _is_pyuwsgi_in_venv(path: Path) -> bool:
    if not (path.parent.parent / "pyvenv.cfg").is_file():
        return False
    try:
        with path.open("rb") as script:
            head = script.read(4096)
    except OSError:
        return False
    return head.startswith(b"#!") and b"pyuwsgi" in head
