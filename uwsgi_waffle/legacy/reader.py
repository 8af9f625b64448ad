"""Texts of Flask-WaffleConf to plain values, read by a child process that a bad row can't leave."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import WaffleError
from .child.limits import MAX_TEXT_LENGTH, ROW_CPU_S
from .child.wire import unpack

# The child stops itself by its own limit; this is for one that hangs.
_ANSWER_S = 30.0
_MAX_ANSWER = 64 * 1024 * 1024
# This folder is all that it may import from, apart from the standard library.
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from child.loop import main; main()"


class LegacyError(WaffleError, ValueError):
    """A stored text is not the plain value of a setting; the message never shows the value."""


def decode_legacy(text: str | bytes) -> Any:
    """Return the value that Flask-WaffleConf stored as base64 of a pickle.

    See :meth:`LegacyReader.decode`; for many texts, a reader is faster.

    :raises LegacyError: it is not such a value; the message never shows the value.
    """
    with LegacyReader() as reader:
        return reader.decode(text)


class LegacyReader:
    """Reads stored texts, in one child process for all that are good.

    The child is a fresh interpreter that knows nothing of the app. It may use 2 s of processor
    time for a text and 256 MiB more memory than it starts with. After a text that is refused it
    is replaced. Use it as a context; not for several threads at once.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LegacyReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def decode(self, text: str | bytes) -> Any:
        """Return the value that Flask-WaffleConf stored as base64 of a pickle.

        Reads pickles of Python 2.7 and 3 in protocols 0 to 5. A value is made of ``None``,
        ``bool``, ``int``, ``float``, ``str``, ``bytes``, ``list``, ``tuple``, ``dict``, ``set``,
        ``frozenset``, ``bytearray``, ``datetime`` and its like, ``Decimal`` and ``UUID``; an
        ``OrderedDict`` comes as a ``dict``. A plain string of Python 2 is read as UTF-8. Nothing
        of the pickle is run. Blocks for at most 30 s.

        :raises LegacyError: it is anything else; the message never shows the value.
        :raises WaffleError: no Python process can be started.
        """
        line = _checked(text)
        child = self._child = self._child or _start()
        try:
            answer = _ask(child, line + b"\n")
            if "refused" in answer:
                raise LegacyError(answer["refused"])
            return unpack(answer["value"])
        except BaseException:
            # Nothing that a bad row left behind may meet the next one.
            self.close()
            raise

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            _end(child)


def _checked(text: str | bytes) -> bytes:
    if len(text) > MAX_TEXT_LENGTH:
        raise LegacyError(f"it has more than {MAX_TEXT_LENGTH} characters")
    if not text:
        raise LegacyError("it is empty")
    try:
        encoded = text.encode("ascii") if isinstance(text, str) else text
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise LegacyError("it is not base64") from None
    # Python's decoder is lenient about the last bits and about what follows the padding.
    if base64.b64encode(data) != encoded:
        raise LegacyError("it is not base64")
    return encoded


def _start() -> subprocess.Popen[bytes]:
    # -I and -S: nothing of the environment, the user or the site is run or found.
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parent)]
    # Some builds of Python need it to find their own library.
    environ = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
        )
    except OSError as exc:
        raise WaffleError(f"the process that reads old values can't be started: {exc}") from exc
    try:
        if _line(child) == b"ready\n":
            return child
    except BaseException:
        _end(child)
        raise
    status = _end(child)
    raise WaffleError(
        f"the process that reads old values ended at its start (exit status {status}): check that "
        f"{sys.executable} is a Python that runs"
    )


def _ask(child: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(line)
        child.stdin.flush()
    answered = _line(child)
    if not answered.endswith(b"\n"):
        status = child.wait(_ANSWER_S)
        if status == -signal.SIGPROF:
            raise LegacyError(f"it takes more than {ROW_CPU_S:.0f} s to read")
        raise LegacyError(f"reading it ended the process that read it (exit status {status})")
    answer: dict[str, Any] = json.loads(answered)
    return answer


def _line(child: subprocess.Popen[bytes]) -> bytes:
    """Return the child's next line; without its newline if the child ended first."""
    assert child.stdout is not None
    received = bytearray()
    deadline = time.monotonic() + _ANSWER_S
    while not received.endswith(b"\n") and len(received) < _MAX_ANSWER:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            raise LegacyError(f"it is not read within {_ANSWER_S:.0f} s")
        piece = os.read(child.stdout.fileno(), 1024 * 1024)
        if not piece:
            break
        received += piece
    return bytes(received)


def _end(child: subprocess.Popen[bytes]) -> int:
    child.kill()
    status = child.wait()
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        # What was not written yet is not worth an error.
        with contextlib.suppress(OSError):
            pipe.close()
    return status
