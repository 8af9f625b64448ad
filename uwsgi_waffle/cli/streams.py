"""The streams of the commands, which a shell may close, fill, or give a small encoding."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

import click

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Group(click.Group):
    """A group whose commands need no stream, and end without a traceback if one fails."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line; ``--help`` prints here."""
        with _usable():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _usable():
            return super().invoke(ctx)


class Status(click.ClickException):
    """An error whose exit status says more than 1 does: it stands, also if nothing can be shown."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, if that is possible."""
        try:
            super().show(file)
        except OSError:
            discard("stderr")


def discard(stream: str) -> None:
    """Let what is still to be written to ``stdout`` or ``stderr`` go nowhere.

    Else the end of the process would try it again, and exit with 120.
    """
    setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    """Return a context in which the streams can be used.

    :raises ClickException: the output can't be written.
    """
    # Who started this may have closed them.
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        discard("stdout")
    # A value or a file may hold what the terminal can't show.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except OSError as exc:
        # A closed pipe is click's; other files are named by the error.
        if exc.errno not in _UNWRITABLE or exc.filename is not None:
            raise
        discard("stdout")
        raise click.ClickException(f"the output can't be written: {exc.strerror}") from exc
