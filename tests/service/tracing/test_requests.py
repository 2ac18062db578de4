"""Requests and event streams: their spans, their metrics and their lines in the log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from orders.core import health
from quart import Quart, Response
from quart.typing import TestClientProtocol as Client
from werkzeug.routing import BaseConverter

from ..conftest import Lines
from .conftest import Recorded

Logged = Callable[[], Awaitable[Lines]]


async def test_requests_are_named_after_their_routes(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/shares/<int:number>")
    async def share(number: int) -> str:
        return str(10 // number)

    for path in ("/shares/5?key=secret", "/shares/2", "/shares/0"):
        await client.get(path)
    await client.get("/prefix/shares/5", root_path="/prefix")

    found, _, failed, prefixed = recorded.spans("asgi")
    attributes = found.attributes or {}
    assert found.name == failed.name == prefixed.name == "GET /shares/<int:number>"
    assert attributes["http.route"] == "/shares/<int:number>"
    assert attributes["http.response.status_code"] == 200
    assert "secret" not in found.to_json()
    assert found.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR


async def test_requests_without_a_route_have_few_names(
    client: Client, recorded: Recorded, logged: Logged
) -> None:
    await client.get("/nothing/at/all")
    await client.delete("/openapi.json")
    async with client.request("/nothing", method="INVENTED") as connection:
        await connection.send_complete()

    assert [span.name for span in recorded.spans("asgi")] == ["GET", "DELETE", "HTTP"]
    assert [(line["status"], line["route"]) for line in await logged()] == [
        (404, None),
        (405, None),
        (404, None),
    ]
    assert all("http.route" not in (span.attributes or {}) for span in recorded.spans("asgi"))


async def test_durations_are_measured_by_route(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/shares/<int:number>")
    async def share(number: int) -> str:
        return str(10 // number)

    for path in ("/shares/5?key=secret", "/shares/2", "/shares/0", "/nothing", "/health/live"):
        await client.get(path)

    points = recorded.points("http.server.request.duration")
    assert {name: point.count for name, point in points.items()} == {
        "GET 200 /shares/<int:number> 1.1 http": 2,
        "500 GET 500 /shares/<int:number> 1.1 http": 1,
        "GET 404 1.1 http": 1,
    }


async def test_a_request_whose_client_left_is_recorded(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    started = asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        started.set()
        await asyncio.sleep(60)
        return "done"

    async with client.request("/slow") as connection:
        await started.wait()
        await connection.disconnect()

    (span,) = recorded.spans("asgi")
    assert span.name == "GET /slow"
    points = recorded.points("http.server.request.duration")
    assert {name: point.count for name, point in points.items()} == {"GET /slow 1.1 http": 1}


async def test_a_trace_continues_that_of_the_caller_and_leads_to_the_log(
    app: Quart, client: Client, recorded: Recorded, logged: Logged
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    caller = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}

    @app.get("/warn")
    async def warn() -> str:
        app.logger.warning("careful")
        return "warned"

    response = await client.get("/warn", headers=caller)
    await client.get("/nothing")

    span, other = recorded.spans("asgi")
    warning, line, other_line = await logged()
    assert f"{span.context.trace_id:032x}" == trace_id
    assert (warning["event"], warning["trace_id"]) == ("careful", trace_id)
    assert (line["event"], line["trace_id"]) == ("request", trace_id)
    assert line["request_id"] == response.headers["X-Request-ID"]
    assert other_line["trace_id"] == f"{other.context.trace_id:032x}" != trace_id


async def test_an_event_stream_is_one_span_until_it_ends(
    app: Quart, client: Client, recorded: Recorded, logged: Logged
) -> None:
    go_on = asyncio.Event()

    @app.get("/ticks")
    async def ticks() -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await go_on.wait()
            yield b"data: 2\n\n"

        return Response(events(), content_type="text/event-stream")

    async with client.request("/ticks") as connection:
        await connection.send_complete()
        assert await connection.receive() == b"data: 1\n\n"
        assert recorded.spans("asgi") == []
        go_on.set()
        assert await connection.receive() == b"data: 2\n\n"

    (span,) = recorded.spans("asgi")
    (line,) = await logged()
    assert span.name == "GET /ticks"
    assert (span.attributes or {})["http.response.status_code"] == 200
    assert line["trace_id"] == f"{span.context.trace_id:032x}"


async def test_a_stream_that_fails_is_an_error_without_its_message(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/ticks")
    async def ticks() -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            raise LookupError("nobody has the address secret@example.org")

        return Response(events(), content_type="text/event-stream")

    with pytest.raises((LookupError, ExceptionGroup)):
        async with client.request("/ticks") as connection:
            await connection.send_complete()
            await connection.receive()

    (span,) = recorded.spans("asgi")
    assert span.status.status_code is StatusCode.ERROR
    assert span.events
    assert "secret" not in span.to_json()


async def test_errors_in_spans_of_ones_own_keep_their_type_and_lose_their_message(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/wrong")
    async def wrong() -> str:
        with trace.get_tracer("mine").start_as_current_span("look up"):
            raise LookupError("nobody has the address secret@example.org")

    await client.get("/wrong")

    (span,) = recorded.spans("mine")
    (error,) = span.events
    assert span.status.status_code is StatusCode.ERROR
    assert (error.attributes or {})["exception.type"] == "LookupError"
    assert "secret" not in span.to_json()


async def test_probes_leave_no_spans(app: Quart, client: Client, recorded: Recorded) -> None:
    @app.get("/patients/health/<name>")
    async def patient(name: str) -> str:
        return name

    for path in ("/health/live", "/health/ready", "/patients/health/live"):
        await client.get(path)
    await client.get("/prefix/health/ready", root_path="/prefix")

    assert [span.name for span in recorded.spans("asgi")] == ["GET /patients/health/<name>"]
    pings = {"SELECT", "PING", "HEAD", "admin.ping"}
    assert not pings & {span.name for span in recorded.spans()}


async def test_all_backends_are_in_the_trace_of_a_request(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/all")
    async def ask_all() -> dict[str, Any]:
        report: dict[str, Any] = await health.check()
        return report

    # The first one connects and authenticates, too.
    await client.get("/all")
    response = await client.get("/all")

    backends = (await response.get_json())["backends"]
    *asked, request = recorded.trace_of("/all")
    assert len({span.instrumentation_scope for span in asked}) == len(asked) == len(backends)
    assert {span.parent and span.parent.span_id for span in asked} <= {request.context.span_id}


async def test_refused_requests_have_spans_of_bounded_size(
    app: Quart, client: Client, recorded: Recorded, logged: Logged
) -> None:
    @app.get("/numbers/<int:number>")
    async def number(number: int) -> str:
        return str(number)

    response = await client.get("/numbers/" + "9" * 60_000)

    (span,) = recorded.spans("asgi")
    assert response.status_code == 414
    assert (span.attributes or {})["http.response.status_code"] == 414
    assert len(span.to_json()) < 10_000
    assert len(await logged()) == 1


async def test_a_broken_converter_fails_in_the_service(
    app: Quart, client: Client, recorded: Recorded, logged: Logged
) -> None:
    class Broken(BaseConverter):
        def to_python(self, value: str) -> str:
            raise LookupError(value)

    app.url_map.converters["broken"] = Broken

    @app.get("/things/<broken:thing>")
    async def thing(thing: str) -> str:
        return thing

    with pytest.raises((LookupError, ExceptionGroup)):
        await client.get("/things/1")

    (span,) = recorded.spans("asgi")
    (line,) = await logged()
    assert span.name == "GET"
    assert (line["event"], line["ended"]) == ("request", "error")
