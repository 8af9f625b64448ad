"""An app that is served by turns with and without the extension, in one and the same worker."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterable
from typing import Any

from .app import WsgiApp, app, looking

#: Requests in a turn: about as long as a lease.
TURN = 250


class Turns:
    """Serves the app in one way for some requests, then in another, and notes what each took.

    Servers with the very same app differ by some percent, as their memory happens to lie; here
    only what stands before the app is exchanged.

    :param ways: mapping of name to what is assigned to ``app.wsgi_app``, or ``None`` for the
        app's own method.
    """

    def __init__(self, ways: dict[str, WsgiApp | None]) -> None:
        self._ways = ways
        self._order = random.Random(1)
        self._coming: list[str] = []
        self._way: str | None = None
        self._left = 0
        self._began = (0, 0)
        # By name, of each turn: nanoseconds of the clock and of the processor for a request.
        self._took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/turns":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._took).encode()]
        if self._left == 0:
            self._next_turn()
        self._left -= 1
        return app(environ, start_response)

    def _next_turn(self) -> None:
        if self._way is not None:
            clock_ns, processor_ns = self._began
            took = (time.perf_counter_ns() - clock_ns, time.thread_time_ns() - processor_ns)
            self._took[self._way].append((took[0] / TURN, took[1] / TURN))
        if not self._coming:
            self._coming = self._order.sample(list(self._ways), len(self._ways))
        self._way = self._coming.pop()
        way = self._ways[self._way]
        if way is None:
            app.__dict__.pop("wsgi_app", None)
        else:
            app.__dict__["wsgi_app"] = way
        self._left = TURN
        self._began = (time.perf_counter_ns(), time.thread_time_ns())


_inner: WsgiApp = type(app).wsgi_app.__get__(app)
application = Turns(
    {
        "flask": None,
        "flask again": None,
        "flask-stat": looking(_inner, os.path.join(app.instance_path, "waffle.watch")),
        f"waffle-{os.environ['BENCH_KIND']}": app.wsgi_app,
    }
)
