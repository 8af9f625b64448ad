"""A small HTTP client, with one connection for each request.

A single-threaded worker of uWSGI serves one connection until it is closed: one that is kept alive
would keep all others out.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 20.0


class StatusError(OSError):
    """The app answered with another status than 200."""


class Interrupted(OSError):
    """The answer ended too early, as that of a worker that was killed does."""


def call(
    port: int,
    path: str = "/",
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Return the JSON that an app answers to a GET or, with a body, to a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
    except http.client.HTTPException as exc:
        raise Interrupted(f"port {port}{path}: {exc!r}") from exc
    finally:
        connection.close()
    if response.status != 200:
        raise StatusError(f"port {port}{path}: status {response.status}: {text[:500]}")
    return json.loads(text)
