"""The gate: a request runs from its start until the server has done with its environment."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

import pytest
from flask import Flask, Response, request, send_file, stream_with_context
from werkzeug.test import EnvironBuilder

from uwsgi_waffle.process.gate import Gate, WsgiApp
from uwsgi_waffle.process.page_file import Absent
from uwsgi_waffle.process.tickets import Ticket, Tickets
from uwsgi_waffle.settings.declare import declare
from uwsgi_waffle.snapshot import initial_snapshot

SNAPSHOT = initial_snapshot(declare({"A": {"desc": "a", "default": 1}}))
KEY = "gate.key"


class Gated:
    """An app behind a gate, with the tickets that show which requests run."""

    def __init__(self, app: Flask, *, clears_environ: bool) -> None:
        self.app = app
        self.tickets = Tickets()
        self.looks = 0
        self.fail = False
        gate = Gate(app.wsgi_app, self.look, KEY, clears_environ=clears_environ)
        app.__dict__["wsgi_app"] = gate.wsgi_app

    def look(self, environ: dict[str, Any]) -> None:
        self.looks += 1
        environ[KEY] = self.tickets.issue()
        if self.fail:
            raise ZeroDivisionError
        environ[KEY].snapshot = SNAPSHOT

    @property
    def idle(self) -> bool:
        return self.tickets.unused


def started(*args: Any) -> Any:
    """What a server gives for the status and the headers."""


def like_uwsgi(app: Any, *, chunks: int = 1000) -> bytes:
    """Serve one request, and clear its environment at the end, whatever happened."""
    environ = EnvironBuilder("/").get_environ()
    try:
        return received(app, environ, chunks)
    finally:
        environ.clear()


ENVIRONMENTS: list[dict[str, Any]] = []


def like_others(app: Any, *, chunks: int = 1000) -> bytes:
    """Serve one request, and keep its environment until the next."""
    ENVIRONMENTS[:] = [EnvironBuilder("/").get_environ()]
    return received(app, ENVIRONMENTS[0], chunks)


def received(app: WsgiApp, environ: dict[str, Any], chunks: int) -> bytes:
    body: Any = app(environ, started)
    try:
        return b"".join(chunk for chunk, _ in zip(body, range(chunks), strict=False))
    finally:
        if hasattr(body, "close"):
            body.close()


Server = Callable[..., bytes]


@pytest.fixture(params=[like_uwsgi, like_others])
def serve(request: pytest.FixtureRequest) -> Iterator[Server]:
    # No test may pass only because the collector happened to run.
    gc.collect()
    gc.disable()
    yield request.param
    gc.enable()


@pytest.fixture
def gated(serve: Server) -> Gated:
    return Gated(Flask("shop"), clears_environ=serve is like_uwsgi)


def test_request_runs_while_its_view_does(gated: Gated, serve: Server) -> None:
    seen: list[bool] = []

    @gated.app.get("/")
    def view() -> str:
        seen.append(gated.idle)
        return "ok"

    assert gated.idle
    assert serve(gated.app) == b"ok"
    assert seen == [False]
    assert gated.idle


def numbers(gated: Gated, seen: list[bool]) -> Iterator[str]:
    for number in range(3):
        seen.append(gated.idle)
        yield str(number)


@pytest.mark.parametrize("with_context", [True, False])
def test_request_runs_until_its_stream_ends(
    gated: Gated, serve: Server, with_context: bool
) -> None:
    seen: list[bool] = []

    @gated.app.get("/")
    def view() -> Response:
        body = numbers(gated, seen)
        return Response(stream_with_context(body) if with_context else body)

    assert serve(gated.app) == b"012"
    assert seen == [False] * 3
    assert gated.idle


@pytest.mark.parametrize("with_context", [True, False])
def test_request_ends_when_the_client_goes_away_in_mid_stream(
    gated: Gated, serve: Server, with_context: bool
) -> None:
    @gated.app.get("/")
    def view() -> Response:
        body = numbers(gated, [])
        return Response(stream_with_context(body) if with_context else body)

    assert serve(gated.app, chunks=1) == b"0"
    assert gated.idle


def test_request_ends_when_its_view_fails(gated: Gated, serve: Server) -> None:
    @gated.app.get("/")
    def view() -> str:
        raise ZeroDivisionError

    assert b"Internal Server Error" in serve(gated.app)
    assert gated.idle
    gated.app.testing = True
    with pytest.raises(ZeroDivisionError) as caught:
        serve(gated.app)
    # Though the traceback still holds the frames.
    assert caught.traceback
    assert gated.idle


def test_request_ends_when_its_view_is_ended_by_what_is_no_exception(
    gated: Gated, serve: Server
) -> None:
    @gated.app.get("/")
    def view() -> str:
        # As gevent ends a greenlet, and a server its worker.
        raise SystemExit

    with pytest.raises(SystemExit) as caught:
        serve(gated.app)
    assert caught.traceback
    assert gated.idle


def test_request_of_a_test_client_in_a_view_ends_though_its_error_is_kept(
    gated: Gated, serve: Server
) -> None:
    kept: list[BaseException] = []
    gated.app.testing = True

    @gated.app.get("/inner")
    def inner() -> str:
        raise ZeroDivisionError

    @gated.app.get("/")
    def view() -> str:
        try:
            gated.app.test_client().get("/inner")
        except ZeroDivisionError as exc:
            kept.append(exc)
        return "ok"

    assert serve(gated.app) == b"ok"
    assert kept
    assert gated.idle


def test_request_runs_while_its_body_is_closed(gated: Gated, serve: Server) -> None:
    seen: list[tuple[str, bool]] = []

    def body() -> Iterator[str]:
        try:
            yield "x"
        finally:
            seen.append(("stream", gated.idle))

    @gated.app.teardown_request
    def end(error: BaseException | None) -> None:
        seen.append(("teardown", gated.idle))

    @gated.app.get("/")
    def view() -> Response:
        response = Response(stream_with_context(body()))
        response.call_on_close(lambda: seen.append(("on close", gated.idle)))
        return response

    assert serve(gated.app, chunks=1) == b"x"
    assert set(seen) == {("stream", False), ("teardown", False), ("on close", False)}
    assert gated.idle


def test_request_ends_when_a_teardown_function_fails(gated: Gated, serve: Server) -> None:
    @gated.app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise ZeroDivisionError

    @gated.app.get("/")
    def view() -> Response:
        return Response(stream_with_context(numbers(gated, [])))

    with pytest.raises(ZeroDivisionError):
        serve(gated.app)
    assert gated.idle


def test_request_ends_when_a_stream_fails_at_its_close(gated: Gated, serve: Server) -> None:
    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            raise ZeroDivisionError

    @gated.app.get("/")
    def view() -> Response:
        return Response(Broken())

    with pytest.raises(ZeroDivisionError):
        serve(gated.app)
    assert gated.idle


def test_request_ends_when_the_settings_can_not_be_looked_at(gated: Gated, serve: Server) -> None:
    gated.fail = True
    with pytest.raises(ZeroDivisionError):
        serve(gated.app)
    assert gated.idle


def test_body_that_the_server_must_get_as_it_is_stays_so(gated: Gated) -> None:
    # gunicorn uses sendfile only for the very object that its file wrapper made.
    given: list[Any] = []

    class FileWrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file
            given.append(self)

        def __iter__(self) -> Iterator[bytes]:
            return iter([self.file.read()])

        def close(self) -> None:
            self.file.close()

    @gated.app.get("/")
    def view() -> Response:
        response = send_file(BytesIO(b"data"), "text/plain")
        response.direct_passthrough = True
        return response

    environ = EnvironBuilder("/").get_environ()
    environ["wsgi.file_wrapper"] = FileWrapper
    body: Any = gated.app(environ, started)
    assert body is given[0]
    assert b"".join(body) == b"data"
    body.close()
    environ.clear()
    assert len(given) == 1
    assert gated.idle


def test_file_reaches_the_server_as_the_very_object_that_its_wrapper_gave(gated: Gated) -> None:
    given: list[Any] = []

    def file_wrapper(file: Any, size: int = 8192) -> Any:
        # What uWSGI's does.
        given.append(file)
        return file

    @gated.app.get("/")
    def view() -> Response:
        return send_file(BytesIO(b"data"), "text/plain")

    environ = EnvironBuilder("/").get_environ()
    environ["wsgi.file_wrapper"] = file_wrapper
    body: Any = gated.app(environ, started)
    assert body is given[0]
    body.close()
    environ.clear()
    assert gated.idle


def test_stream_behind_a_middleware_of_the_app_still_runs(serve: Server) -> None:
    class Shouting:
        def __init__(self, body: Any) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            return (chunk.upper() for chunk in self._body)

        def close(self) -> None:
            self._body.close()

    app = Flask("shop")
    inner = app.wsgi_app

    def shout(environ: dict[str, Any], start_response: Any) -> Any:
        return Shouting(inner(environ, start_response))

    app.wsgi_app = shout  # type: ignore[method-assign]  # as Flask has it for middleware
    gated = Gated(app, clears_environ=serve is like_uwsgi)
    seen: list[bool] = []

    @app.get("/")
    def view() -> Response:
        return Response(numbers(gated, seen))

    assert serve(app) == b"012"
    assert seen == [False] * 3
    assert gated.idle


def test_request_whose_body_nobody_closes_ends_when_it_is_dropped(gated: Gated) -> None:
    @gated.app.get("/")
    def view() -> str:
        return "ok"

    for _ in range(3):
        gated.app.test_client().get("/")
    gc.collect()
    assert gated.idle


def test_request_that_is_made_again_in_its_environment_keeps_its_new_ticket(gated: Gated) -> None:
    @gated.app.get("/")
    def view() -> Response:
        return Response(numbers(gated, []))

    app: Any = gated.app
    environ = EnvironBuilder("/").get_environ()
    body = app(environ, started)
    body.close()
    # As a middleware does that tries again: the first body is dropped only now.
    body = app(environ, started)
    assert KEY in environ
    assert not gated.idle
    body.close()
    environ.clear()
    assert gated.idle


def test_requests_at_once_are_told_apart(gated: Gated) -> None:
    @gated.app.get("/")
    def view() -> Response:
        return Response(numbers(gated, []))

    def start() -> tuple[dict[str, Any], Any]:
        environ = EnvironBuilder("/").get_environ()
        app: Any = gated.app
        return environ, app(environ, started)

    def end(environ: dict[str, Any], body: Any) -> None:
        body.close()
        body.close()
        environ.clear()

    first, second = start(), start()
    end(*first)
    assert not gated.idle
    end(*second)
    assert gated.idle


def test_environment_holds_the_ticket_from_request_start_to_end_of_the_body(
    gated: Gated, serve: Server
) -> None:
    seen: list[Ticket] = []

    def note() -> None:
        seen.append(request.environ[KEY])

    gated.app.before_request(note)

    @gated.app.get("/")
    def view() -> Response:
        def body() -> Iterator[str]:
            note()
            yield "x"

        note()
        return Response(stream_with_context(body()))

    assert serve(gated.app) == b"x"
    assert [ticket.snapshot for ticket in seen] == [SNAPSHOT] * 3
    assert len(set(map(id, seen))) == 1


def test_gate_serves_a_wsgi_app_that_is_not_flask(serve: Server) -> None:
    def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    tickets = Tickets()

    def look(environ: dict[str, Any]) -> None:
        environ[KEY] = tickets.issue()

    gate = Gate(plain, look, KEY, clears_environ=serve is like_uwsgi)
    assert serve(gate.wsgi_app) == b"x"
    assert tickets.unused


def test_gate_says_within_a_request_whether_it_had_to_look() -> None:
    tickets = Tickets()
    seen: list[bool] = []

    def look(environ: dict[str, Any]) -> None:
        environ[KEY] = tickets.issue()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(gate.admitting.get())
        return []

    gate = Gate(app, look, KEY, clears_environ=True)
    gate.tickets = tickets
    gate.wsgi_app({}, started)
    seen.append(gate.admitting.get())
    shared = tickets.issue()
    tickets.share(shared, Absent(), bytes(24), time.monotonic() + 60.0)
    gate.wsgi_app({}, started)
    # Who shares a ticket has not.
    assert seen == [True, False, False]
