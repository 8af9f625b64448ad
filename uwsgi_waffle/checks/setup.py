"""A whole uwsgi.ini for the environment that this Python runs in."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from ..ini import snippet_path
from .binary import Server
from .model import CheckError

_MOST_PROCESSES = 8
_HEAD = "; Written by `python -m uwsgi_waffle init`. Start it with: uwsgi --ini {name}\n[uwsgi]\n"


def ini_for_an_app(
    server: Server,
    *,
    name: str = "uwsgi.ini",
    app: str = "app:app",
    snippet: str = "waffle",
    http_socket: str = "127.0.0.1:8080",
    processes: int | None = None,
) -> str:
    """Return the text of an ini that serves one app and passes the check.

    :param name: of the file, which lies in the folder that the app is imported from.
    :param app: module and callable, such as ``shop:create_app()``.
    :param processes: by default one for each CPU, at least 2 and at most 8.
    :raises CheckError: uWSGI's Python is not the one that this environment has, ``app`` lacks one
        of its parts, or a text does not fit on a line of an ini.
    """
    written = _escaped(app)
    module, _, target = app.partition(":")
    if not target.strip() or not all(part.isidentifier() for part in module.split(".")):
        raise CheckError(f"{app!r} names no app: write MODULE:CALLABLE, such as app:app")
    if processes is None:
        processes = max(2, min(os.cpu_count() or 2, _MOST_PROCESSES))
    return (
        _HEAD.format(name=name)
        + "; What uwsgi_waffle needs: master, threads, lazy-apps and so on. Your lines below win.\n"
        + f"ini = {_path_in_an_option(snippet_path(snippet))}\n\n"
        + "; The app: the folder to import from, which is that of this file, and the callable.\n"
        + f"pythonpath = %d\nmodule = {written}\n"
        + _environment(server)
        + f"\nhttp-socket = {_escaped(http_socket)}\nprocesses = {processes}\n"
    )


def ini_for_an_emperor(server: Server, vassals: str, *, name: str = "emperor.ini") -> str:
    """Return the text of an ini that starts a server for each ini in a folder.

    :raises CheckError: a text does not fit on a line of an ini.
    """
    text = _HEAD.format(name=name)
    text += "; A server for each ini in this folder, started and stopped with its file.\n"
    text += f"emperor = {_escaped(os.path.abspath(vassals))}\ndie-on-term = true\n"
    if server.needs_binary_path:
        text += (
            "\n; pyuwsgi: how a vassal is started, and what a reload of the emperor runs.\n"
            f"emperor-wrapper = {_escaped(server.path)}\n"
            f"binary-path = {_escaped(_python_of(server))}\n"
        )
    return text


def _environment(server: Server) -> str:
    if server.needs_binary_path:
        return (
            "\n; pyuwsgi in a virtual environment: what a reload runs.\n"
            f"binary-path = {_escaped(_python_of(server))}\n"
        )
    text = ""
    if server.python is None:
        text += "\n; This uWSGI has its Python in a plugin.\nplugins = python3\n"
    elif server.python != sys.version_info[:2]:
        there, here = (
            ".".join(map(str, version[:2])) for version in (server.python, sys.version_info)
        )
        raise CheckError(
            f"{server.path} runs Python {there}, and this environment has {here}: install uWSGI "
            "in it (pip install 'uwsgi-waffle[uwsgi]'), or name another with --uwsgi"
        )
    if sys.prefix != sys.base_prefix:
        text += f"\n; Where the app's packages are.\nvirtualenv = {_escaped(sys.prefix)}\n"
    return text


def _python_of(server: Server) -> str:
    return str(Path(server.path).absolute().with_name("python"))


def _path_in_an_option(path: Path) -> str:
    # The last colon of a path would start a section.
    return _escaped(f"{path}:uwsgi" if ":" in str(path) else str(path))


def _escaped(text: str) -> str:
    """Return a text as it is written in an ini.

    :raises CheckError: uWSGI would read it otherwise.
    """
    if not text or text != text.strip() or not text.isprintable() or re.search(r"[$@%]\(", text):
        raise CheckError(f"{text!r} can't be written into an ini")
    return text.replace("%", "%%")
