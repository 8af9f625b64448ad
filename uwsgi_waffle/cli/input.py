"""Values that are not on the command line: from standard input, a file, or asked for."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TextIO

import click

from ..settings.raws import MAX_BYTES
from .base import is_interactive
from .tables import visible

# What is kept is shorter; JSON may be written with more spaces than it is kept with.
_MOST = 16 * MAX_BYTES


def is_elsewhere(text: str | None) -> bool:
    """Return whether the value is not on the command line itself."""
    return text is None or text == "-" or (text.startswith("@") and not text.startswith("@@"))


def read(file: BinaryIO) -> bytes:
    """Return all of a file that the command line names.

    :raises ClickException: it can't be read, or is a device that may have no end.
    """
    try:
        if _has_no_end(file):
            raise click.ClickException(f"{visible(file.name)} is a device, which holds no document")
        return file.read()
    except OSError as exc:
        raise click.ClickException(f"{visible(file.name)} can't be read: {exc.strerror}") from exc


def _has_no_end(file: BinaryIO) -> bool:
    try:
        found = os.fstat(file.fileno())
    except OSError:
        # It is in memory.
        return False
    is_empty = found.st_rdev == os.stat(os.devnull).st_rdev
    return stat.S_ISCHR(found.st_mode) and not is_empty and not file.isatty()


class Input:
    """Reads the values of one command; standard input serves one of them."""

    def __init__(self) -> None:
        self._used_by = ""

    def texts(self, given: Mapping[str, str | None]) -> dict[str, str]:
        """Return the text of each setting.

        :param given: mapping of setting name to what follows its "=", or ``None`` without one.
        :raises ClickException: a value is empty or can't be read.
        :raises UsageError: two settings want standard input.
        """
        return {name: self._text(name, text) for name, text in given.items()}

    def _text(self, name: str, text: str | None) -> str:
        if text is None:
            found = self._ask(name) if is_interactive() else self._standard_input(name)
        elif text == "-":
            found = self._standard_input(name)
        elif text.startswith("@@"):
            return text[1:]
        elif text == "@":
            raise click.UsageError(f"{name}=@ names no file; a string that begins with @ is @@…")
        elif text.startswith("@"):
            found = _file(name, text[1:])
        else:
            return text
        if not found:
            raise click.ClickException(
                f"{name}: there is no value, and nothing was written: an empty string is {name}="
            )
        return found

    def _ask(self, name: str) -> str:
        answer: str = click.prompt(
            f"{visible(name)} (not shown)",
            hide_input=True,
            default="",
            show_default=False,
            err=True,
        )
        return answer

    def _standard_input(self, name: str) -> str:
        if self._used_by:
            raise click.UsageError(f"{self._used_by} and {name} both read standard input")
        self._used_by = name
        if is_interactive():
            click.echo(f"the value of {visible(name)}, ended by Ctrl-D:", err=True)
        try:
            return _bounded(name, "standard input", sys.stdin)
        except UnicodeDecodeError:
            raise click.ClickException(
                f"{name}: standard input is not UTF-8, and nothing was written"
            ) from None


def _file(name: str, path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            return _bounded(name, f"the file {path}", file)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise click.ClickException(
            f"{name}: the file {path} can't be read ({reason}), and nothing was written: for a "
            f"string that begins with @, write {name}=@@…"
        ) from exc


def _bounded(name: str, source: str, file: TextIO) -> str:
    # A device has no end.
    text = file.read(_MOST + 1)
    if len(text) > _MOST:
        raise click.ClickException(
            f"{name}: {source} has no end, or is far longer than a setting may be, and nothing was "
            "written: keep the name of a file in the setting"
        )
    # The one that an editor or echo puts at the end is not meant.
    return text.removesuffix("\n")
