"""uWSGI's magic variables, such as ``%d`` for the folder of the file.

Source: config_magic_table_fill and magic_sub in uWSGI 2.0.31, core/utils.c.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .model import CheckError

_OF_THE_FIRST_FILE = "odspcenx"
# uWSGI's version and binary, the time, hashes and inodes.
_UNKNOWN = "VbtTjiJI"
_MAGIC = re.compile("%(.)", re.DOTALL)
_JOINED = "\0"
#: of all that is put into one file
MAX_GROWTH = 8 << 20


def magic_table(
    name: str, section: str, first: Mapping[str, str] | None, *, spelled: str
) -> dict[str, str]:
    """Return the value of every magic variable while one file is read.

    :param spelled: the name as the include spells it.
    :param first: the table of the file that was read first, whose values have capital letters.
    """
    # A symbolic link keeps its own folder; any other path is resolved.
    linked = os.path.islink(name)
    full = str(Path.cwd() / name) if linked else os.path.realpath(name)
    folder, base = os.path.split(full)
    stem, dot, ending = base.rpartition(".")
    table = {
        "o": spelled,
        "p": full,
        "s": base,
        "d": folder.rstrip("/") + "/",
        "c": os.path.basename(folder),
        "e": ending if dot else "",
        "n": stem if dot else base,
        "x": section,
        "v": os.getcwd(),
        "h": socket.gethostname(),
        "k": str(os.sysconf("SC_NPROCESSORS_ONLN")),
        "[": "\033",
        "%": "%",
        "(": "%(",
        "u": str(os.getuid()),
        "g": str(os.getgid()),
        "U": str(os.getuid()),
        "G": str(os.getgid()),
        **dict.fromkeys(_UNKNOWN, "?"),
        **dict.fromkeys("0123456789", ""),
    }
    with suppress(KeyError):
        table["U"] = pwd.getpwuid(os.getuid()).pw_name
    with suppress(KeyError):
        table["G"] = grp.getgrgid(os.getgid()).gr_name
    for number, part in enumerate([p for p in folder.split("/") if p][:10]):
        table[str(number)] = part
    for letter in _OF_THE_FIRST_FILE:
        table[letter.upper()] = (first or table)[letter]
    return table


def is_exact(text: str) -> bool:
    """Return whether the lines of a text will be those that uWSGI sees."""
    return not set(_UNKNOWN) & set(_MAGIC.findall(text))


def logical_lines(text: str, table: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Return every line with its magic variables replaced, and its 1-based number.

    A ``%`` at the end of a line joins it with the next one, as any ``%`` that stands before
    a character without a meaning takes that character away.

    :param text: without NUL characters.
    :raises CheckError: what is put in is longer than 8 MiB.
    """

    left = MAX_GROWTH

    def replace(match: re.Match[str]) -> str:
        nonlocal left
        value = _JOINED if match[1] == "\n" else table.get(match[1], "")
        left -= len(value)
        if left < 0:
            raise CheckError(f"{table['o']}: its variables grow beyond {MAX_GROWTH} characters")
        return value

    number = 1
    for line in _MAGIC.sub(replace, text).split("\n"):
        yield number, line.replace(_JOINED, "")
        number += 1 + line.count(_JOINED)
