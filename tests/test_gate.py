"""The gate: a request runs from its start until its body is closed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

import pytest
from flask import Flask, Response, send_file, stream_with_context
from werkzeug.test import Client, EnvironBuilder

from uwsgi_waffle.gate import Gate
from uwsgi_waffle.settings import declare
from uwsgi_waffle.snapshot import Snapshot, initial_snapshot

SNAPSHOT = initial_snapshot(declare({"A": {"desc": "a", "default": 1}}))
Begin = Callable[[], Snapshot]


def gated(app: Flask, begin: Begin = lambda: SNAPSHOT) -> Gate:
    gate = Gate(app.wsgi_app, begin, "gate.key")
    app.wsgi_app = gate  # type: ignore[method-assign]
    return gate


def started(*args: Any) -> Any:
    """What a server gives for the status and the headers."""


@pytest.fixture
def app() -> Flask:
    return Flask("shop")


def test_request_runs_while_its_view_does(app: Flask) -> None:
    gate = gated(app)
    seen: list[bool] = []

    @app.get("/")
    def view() -> str:
        seen.append(gate.idle)
        return "ok"

    assert gate.idle
    response = app.test_client().get("/")
    response.close()
    assert seen == [False]
    assert gate.idle


def test_request_counts_as_running_before_the_settings_are_looked_at(app: Flask) -> None:
    seen: list[bool] = []

    def begin() -> Snapshot:
        seen.append(gate.idle)
        return SNAPSHOT

    gate = gated(app, begin)
    app.test_client().get("/").close()
    assert seen == [False]


def numbers(gate: Gate, seen: list[bool]) -> Iterator[str]:
    for number in range(3):
        seen.append(gate.idle)
        yield str(number)


@pytest.mark.parametrize("with_context", [True, False])
def test_request_runs_until_its_stream_is_closed(app: Flask, with_context: bool) -> None:
    gate = gated(app)
    seen: list[bool] = []

    @app.get("/")
    def view() -> Response:
        body = numbers(gate, seen)
        return Response(stream_with_context(body) if with_context else body)

    response = app.test_client().get("/")
    assert response.get_data() == b"012"
    response.close()
    assert seen == [False] * 3
    assert gate.idle


@pytest.mark.parametrize("with_context", [True, False])
def test_request_ends_when_the_client_goes_away_in_mid_stream(
    app: Flask, with_context: bool
) -> None:
    gate = gated(app)

    @app.get("/")
    def view() -> Response:
        body = numbers(gate, [])
        return Response(stream_with_context(body) if with_context else body)

    body: Any = app(EnvironBuilder("/").get_environ(), started)
    next(iter(body))
    assert not gate.idle
    body.close()
    assert gate.idle


def test_request_ends_when_its_view_fails(app: Flask) -> None:
    gate = gated(app)

    @app.get("/")
    def view() -> str:
        raise ZeroDivisionError

    app.test_client().get("/").close()
    assert gate.idle
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/")
    assert gate.idle


def test_request_ends_when_a_teardown_function_fails(app: Flask) -> None:
    gate = gated(app)

    @app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise ZeroDivisionError

    @app.get("/stream")
    def stream() -> Response:
        return Response(stream_with_context(numbers(gate, [])))

    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/")
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/stream").get_data()
    assert gate.idle


def test_request_ends_when_a_stream_fails_at_its_close(app: Flask) -> None:
    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            raise ZeroDivisionError

    gate = gated(app)

    @app.get("/")
    def view() -> Response:
        return Response(Broken())

    body: Any = app(EnvironBuilder("/").get_environ(), started)
    list(body)
    with pytest.raises(ZeroDivisionError):
        body.close()
    assert gate.idle


def test_request_ends_when_the_settings_can_not_be_looked_at(app: Flask) -> None:
    def begin() -> Snapshot:
        raise ZeroDivisionError

    gate = gated(app, begin)
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/")
    assert gate.idle


def test_body_that_the_server_must_get_as_it_is_stays_so(app: Flask) -> None:
    # uWSGI uses sendfile only for the very object that its file wrapper made.
    class FileWrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([self.file.read()])

        def close(self) -> None:
            self.file.close()

    gate = gated(app)

    @app.get("/")
    def view() -> Response:
        response = send_file(BytesIO(b"data"), "text/plain")
        response.direct_passthrough = True
        return response

    environ = EnvironBuilder("/").get_environ()
    environ["wsgi.file_wrapper"] = FileWrapper
    body: Any = app(environ, started)
    b"".join(body)
    body.close()
    assert gate.idle


def test_stream_behind_a_middleware_of_the_app_still_runs(app: Flask) -> None:
    inner = app.wsgi_app

    class Shouting:
        def __init__(self, body: Any) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            return (chunk.upper() for chunk in self._body)

        def close(self) -> None:
            self._body.close()

    def shout(environ: dict[str, Any], start_response: Any) -> Any:
        return Shouting(inner(environ, start_response))

    app.wsgi_app = shout  # type: ignore[method-assign]
    gate = gated(app)

    @app.get("/")
    def view() -> Response:
        return Response(iter(["a", "b"]))

    body: Any = app(EnvironBuilder("/").get_environ(), started)
    assert not gate.idle
    assert b"".join(body) == b"AB"
    body.close()
    assert gate.idle


def test_file_reaches_the_server_as_the_very_object_that_its_wrapper_gave(app: Flask) -> None:
    gate = gated(app)
    given: list[Any] = []

    def file_wrapper(file: Any, size: int = 8192) -> Any:
        # What uWSGI's does.
        given.append(file)
        return file

    @app.get("/")
    def view() -> Response:
        return send_file(BytesIO(b"data"), "text/plain")

    environ = EnvironBuilder("/").get_environ()
    environ["wsgi.file_wrapper"] = file_wrapper
    body: Any = app(environ, started)
    assert body is given[0]
    body.close()
    assert gate.idle


def test_request_whose_body_nobody_closes_ends_when_it_is_dropped(app: Flask) -> None:
    gate = gated(app)

    @app.get("/")
    def view() -> str:
        return "ok"

    for _ in range(3):
        app.test_client().get("/")
    gc.collect()
    assert gate.idle


def test_requests_at_once_are_told_apart(app: Flask) -> None:
    gate = gated(app)

    @app.get("/")
    def view() -> Response:
        return Response(numbers(gate, []))

    def start() -> Any:
        return app(EnvironBuilder("/").get_environ(), started)

    first, second = start(), start()
    first.close()
    assert not gate.idle
    second.close()
    second.close()
    assert gate.idle


def test_ticket_lasts_from_request_start_to_end_of_the_body(app: Flask) -> None:
    gate = gated(app)
    tickets: list[object] = []

    @app.before_request
    def before() -> None:
        from flask import request

        tickets.append(gate.ticket(request.environ))

    @app.get("/")
    def view() -> Response:
        from flask import request

        def body() -> Iterator[str]:
            tickets.append(gate.ticket(request.environ))
            yield "x"

        tickets.append(gate.ticket(request.environ))
        return Response(stream_with_context(body()))

    app.test_client().get("/").close()
    assert len(tickets) == 3
    assert len(set(map(id, tickets))) == 1
    assert gate.ticket({}).snapshot is None


def test_gate_serves_a_wsgi_app_that_is_not_flask() -> None:
    def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    gate = Gate(plain, lambda: SNAPSHOT, "gate.key")
    assert Client(gate).get("/").get_data() == b"x"
    assert gate.idle
