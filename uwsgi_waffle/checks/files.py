"""Reads the files that an ini names, once and within bounds."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping

from .model import CheckError

_MAX_BYTES = 4 << 20
_MAX_BYTES_OF_ALL = 16 << 20
_MAX_FILES = 2_000


class FileReader:
    """Reads the files of one check: at most 2,000 of 4 MiB each, and of 16 MiB together.

    :param given: mapping of a name to the bytes that are taken in place of the file's.
    :ivar quoted: mapping of the name in ``@(name)`` to the bytes of the file.
    """

    def __init__(self, given: Mapping[str, bytes]) -> None:
        self.quoted: dict[str, bytes] = {}
        self._given = dict(given)
        self._bytes_left = _MAX_BYTES_OF_ALL
        self._files_left = _MAX_FILES

    def text(self, name: str, where: str) -> str:
        """Return the text of an ini.

        :param where: stands before the message of an error.
        :raises CheckError: it can't be read, or is not a text file.
        """
        return self._read(name, where).decode("utf-8", "replace")

    def quote(self, name: str, where: str) -> str:
        """Return what ``@(name)`` stands for: the text without one newline at its end.

        :raises CheckError: it can't be read, or is not a text file.
        """
        if name not in self.quoted:
            self.quoted[name] = self._read(name, where)
        text = self.quoted[name].decode("utf-8", "surrogateescape")
        return text[:-1] if text.endswith(("\n", "\r")) else text

    def lines(self, name: str, where: str) -> list[str]:
        """Return the lines of a file, for ``for-readline``; none of a file that is not there.

        :raises CheckError: it is too large, or not a text file.
        """
        if not is_file(name):
            return []
        text = self._read(name, where).decode("utf-8", "backslashreplace")
        return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []

    def _read(self, name: str, where: str) -> bytes:
        limit = min(_MAX_BYTES, self._bytes_left)
        content = self._given.get(name)
        if content is None:
            content = _content(name, where, limit)
        if len(content) > limit:
            raise CheckError(
                f"{where}{name} is larger than {_MAX_BYTES} bytes, or all files together than "
                f"{_MAX_BYTES_OF_ALL}"
            )
        self._files_left -= 1
        self._bytes_left -= len(content)
        if self._files_left < 0:
            raise CheckError(f"{where}{name} is one more than {_MAX_FILES} files")
        if b"\0" in content:
            # uWSGI would end each string there, and see other lines than these.
            raise CheckError(f"{where}{name} is not a text file")
        return content


def is_file(name: str) -> bool:
    """Return whether there is a regular file of that name."""
    # A name with a NUL or without an end is none.
    try:
        return stat.S_ISREG(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def _content(name: str, where: str, limit: int) -> bytes:
    try:
        # A pipe would block, and what the name stands for may change before it is opened.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError:
        raise CheckError(f"{where}{name} is not a file") from None
    except OSError as exc:
        if exc.errno in {errno.ENOENT, errno.ENXIO, errno.ENOTDIR}:
            raise CheckError(
                f"{where}{name or 'an empty name'} is not a file{_hint(name)}"
            ) from exc
        raise CheckError(f"{where}{name} can't be read: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckError(f"{where}{name} is not a file{_hint(name)}")
        try:
            return file.read(limit + 1)
        except OSError as exc:
            raise CheckError(f"{where}{name} can't be read: {exc.strerror}") from exc


def _hint(name: str) -> str:
    if re.search(r"[$@%]\(", name):
        return " (uWSGI takes no placeholder here, because it includes at once)"
    return ""
