"""Values that are not on the command line: from standard input, a file, or asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from .base import is_interactive


def is_elsewhere(text: str | None) -> bool:
    """Return whether the value is not on the command line itself."""
    return text is None or text == "-" or (text.startswith("@") and not text.startswith("@@"))


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
            f"{name} (not shown)", hide_input=True, default="", show_default=False, err=True
        )
        return answer

    def _standard_input(self, name: str) -> str:
        if self._used_by:
            raise click.UsageError(f"{self._used_by} and {name} both read standard input")
        self._used_by = name
        if is_interactive():
            click.echo(f"the value of {name}, ended by Ctrl-D:", err=True)
        try:
            return _without_newline(sys.stdin.read())
        except UnicodeDecodeError:
            raise click.ClickException(
                f"{name}: standard input is not UTF-8, and nothing was written"
            ) from None


def _file(name: str, path: str) -> str:
    try:
        return _without_newline(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise click.ClickException(
            f"{name}: the file {path} can't be read ({reason}), and nothing was written: for a "
            f"string that begins with @, write {name}=@@…"
        ) from exc


def _without_newline(text: str) -> str:
    # The one that an editor or echo puts at the end is not meant.
    return text.removesuffix("\n")
