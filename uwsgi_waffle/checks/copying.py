"""A private copy of what was scanned, for uWSGI to read in place of the files themselves.

A user who can write the files could swap them between our look and uWSGI's, which runs
commands at once. So uWSGI gets other files: each line that the reader saw, with its magic
variables and its blocks resolved, and with its includes led to the copies of their targets.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class Entry:
    """An option while it is being resolved.

    :ivar raw: the value before its placeholders were replaced.
    :ivar quoting: the value whose ``@(file)`` are not replaced yet, if it has any.
    :ivar done: uWSGI has acted on it at once, and replaces no placeholder in it.
    :ivar made: the option that this one sets.
    :ivar sheet: the copy of the file that it includes.
    """

    __slots__ = (
        *("done", "file", "inherited", "key", "line", "made", "quoting", "raw", "sheet", "value"),
    )

    def __init__(self, key: str, value: str, file: str, line: int, inherited: bool) -> None:
        self.key = key
        self.raw = self.value = value
        self.quoting: str | None = None
        self.file = file
        self.line = line
        self.inherited = inherited
        self.done = False
        self.made: Entry | None = None
        self.sheet: Sheet | None = None


class Sheet:
    """The lines of one file, or of one section of it, in the order in which they count.

    :ivar name: as the file was named to uWSGI; None if an option says it.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.lines: list[Entry | None] = []

    def add(self, entry: Entry, *, closed: bool = False) -> None:
        """Add a line.

        :param closed: it starts a block, whose lines stand resolved behind its end.
        """
        self.lines += [entry, None] if closed else [entry]


class NotCopiedError(Exception):
    """There is no line, or no name, that says the same in a copy."""


class PrivateCopy:
    """The copy, in a folder that no other user may enter.

    :ivar path: of the copy of the first file.
    """

    def __init__(self, folder: str, sheets: Sequence[Sheet], quoted: Mapping[str, bytes]) -> None:
        self.path = f"{folder}/0.ini"
        self._folder = folder
        # Marks the ends of blocks that are ours.
        self._end = secrets.token_hex(16)
        self._names = {sheet: f"{folder}/{number}.ini" for number, sheet in enumerate(sheets)}
        self._quoted = {name: f"{folder}/{number}.txt" for number, name in enumerate(quoted)}
        self._spelled = {path: sheet.name or "" for sheet, path in self._names.items()}
        for name, path in self._quoted.items():
            Path(path).write_bytes(quoted[name])
            self._spelled[path] = name
        for sheet, path in self._names.items():
            text = "".join(f"{line}\n" for line in self._lines(sheet))
            content = f"[uwsgi]\n{text}".replace("%", "%%")
            Path(path).write_bytes(content.encode("utf-8", "surrogateescape"))

    def original(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the options that uWSGI found in the copy as it would have found them."""
        return [
            (key, self.spelled(value))
            for key, value in pairs
            if not (key == "endif" and value == self._end)
        ]

    def spelled(self, text: str) -> str:
        """Return a text in which the copies have the names of what they are copies of."""
        text = text.replace(self._end, "")
        return re.sub(
            rf"{re.escape(self._folder)}/\d+\.(?:ini|txt)",
            lambda match: self._spelled.get(match[0], match[0]),
            text,
        )

    def _lines(self, sheet: Sheet) -> Iterator[str]:
        for entry in sheet.lines:
            if entry is None:
                yield f"endif = {self._end}"
                continue
            key, value = entry.key, self._value(entry)
            line = f"{key} = {value}"
            if not _survives(key, value):
                raise NotCopiedError(_about(entry))
            yield line

    def _value(self, entry: Entry) -> str:
        if entry.made is not None:
            if entry.made.quoting not in (None, entry.made.raw):
                raise NotCopiedError(_about(entry))
            return f"{entry.made.key}={self._value(entry.made)}"
        if entry.sheet is not None:
            path = self._names[entry.sheet]
            self._spelled[path] = entry.value
            return path
        if entry.quoting is not None:
            if entry.quoting != entry.raw and "$(" in entry.quoting:
                raise NotCopiedError(_about(entry))
            return re.sub(
                r"@\(([^)@]+)\)",
                lambda match: f"@({self._quoted.get(match[1], match[1])})",
                entry.quoting,
            )
        return entry.raw


def _survives(key: str, value: str) -> bool:
    """Return whether uWSGI reads a line of both as both."""
    if not key or key[0] in "[;#" or set("=\n\0") & set(key) or set("\n\0") & set(value):
        return False
    blank = " \t\r"
    return key == key.strip(blank) and value == value.strip(blank)


def _about(entry: Entry) -> str:
    return f"{entry.file}:{entry.line}: {entry.key} = {entry.raw}"


@contextmanager
def private_copy(sheets: Sequence[Sheet], quoted: Mapping[str, bytes]) -> Iterator[PrivateCopy]:
    """Write the copy, and remove it at the end.

    :raises NotCopiedError: if a line can't be written so that uWSGI sees the same.
    """
    with tempfile.TemporaryDirectory(prefix="uwsgi_waffle-") as folder:
        if re.fullmatch(r"[\w/.-]+", folder, re.ASCII) is None:
            raise NotCopiedError(f"{os.path.dirname(folder)} as TMPDIR")
        yield PrivateCopy(folder, sheets, quoted)
