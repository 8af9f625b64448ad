"""A small HTTP client that tells how a request failed."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, NamedTuple

from .app import TOOK
from .record import Failure

#: longer than any fault that makes a worker silent
TIMEOUT_S = 20.0
_TOOK = TOOK.lower().encode() + b":"


class Failed(Exception):
    """A request failed.

    :param took_s: within the worker, if it answered.
    """

    def __init__(self, kind: Failure, text: str, took_s: float = 0.0) -> None:
        super().__init__(text)
        self.kind = kind
        self.took_s = took_s


class Answer(NamedTuple):
    """The answer to a request.

    :ivar took_s: within the worker.
    """

    data: Any
    took_s: float


def ask(port: int, path: str, body: object = None, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """Return the answer to a GET or, with a body, to a POST; on a connection of its own.

    :raises Failed: names the kind of failure.
    """
    try:
        raw = _exchange(port, path, body, time.monotonic() + timeout_s)
    except TimeoutError as exc:
        raise Failed("timeout", f"no answer in {timeout_s:g} s") from exc
    except OSError as exc:
        raise Failed("connection", repr(exc)) from exc
    head, separator, text = raw.partition(b"\r\n\r\n")
    if not separator or not text.endswith(b"\n"):
        raise Failed("connection", f"cut off: {raw[-200:]!r}")
    lines = head.split(b"\r\n")
    status = lines[0].split(b" ")[1:2]
    if status not in ([b"200"], [b"409"]):
        raise Failed("status", f"{lines[0]!r} {text[:300]!r}")
    data = json.loads(text)
    took = [line for line in lines if line.lower().startswith(_TOOK)]
    took_s = float(took[0].split(b":")[1]) if took else 0.0
    if status == [b"409"]:
        raise Failed("refused", data["error"], took_s)
    return Answer(data, took_s)


def _exchange(port: int, path: str, body: object, deadline: float) -> bytes:
    request = f"{'GET' if body is None else 'POST'} {path} HTTP/1.0\r\n"
    if body is not None:
        text = json.dumps(body)
        request += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    else:
        request += "\r\n"
    with socket.create_connection(("127.0.0.1", port), deadline - time.monotonic()) as connection:
        connection.sendall(request.encode())
        answer = bytearray()
        while True:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            block = connection.recv(65_536)
            if not block:
                return bytes(answer)
            answer += block
