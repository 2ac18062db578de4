"""WebSockets: their spans, their durations and their lines in the log."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from orders.core.errors import BackendUnavailable
from quart import Quart, abort, websocket
from quart.testing.connections import WebsocketResponseError
from quart.typing import TestClientProtocol as Client

from ..conftest import Lines
from ..process import Process, WebSocket
from .conftest import Recorded

Logged = Callable[[], Awaitable[Lines]]

ECHO = """
@app.websocket("/echo")
async def echo():
    await websocket.send(await websocket.receive())
"""


@pytest.fixture
def app(app: Quart) -> Quart:
    """Return the app with WebSockets."""

    @app.websocket("/rooms/<int:number>")
    async def room(number: int) -> None:
        await websocket.receive()
        await websocket.send(f"room {number}")

    @app.websocket("/broken")
    async def broken() -> None:
        await websocket.accept()
        raise LookupError("nobody has the address secret@example.org")

    @app.websocket("/unavailable")
    async def unavailable() -> None:
        raise BackendUnavailable

    @app.websocket("/forbidden")
    async def forbidden() -> None:
        abort(403)

    return app


def status_of(span: ReadableSpan) -> object:
    """Return the status of the handshake."""
    return (span.attributes or {})["http.response.status_code"]


async def test_a_websocket_is_one_span_named_after_its_route(
    client: Client, recorded: Recorded, logged: Logged
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    caller = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    async with client.websocket("/rooms/5?token=secret", headers=caller) as connection:
        await connection.send("hello")
        assert await connection.receive() == "room 5"

    (span,) = recorded.spans("asgi")
    (line,) = await logged()
    assert span.name == "WEBSOCKET /rooms/<int:number>"
    assert (span.attributes or {})["http.route"] == "/rooms/<int:number>"
    assert status_of(span) == 101
    assert span.status.status_code is StatusCode.UNSET
    assert "secret" not in span.to_json()
    assert line["trace_id"] == f"{span.context.trace_id:032x}" == trace_id
    assert (line["event"], line["status"]) == ("websocket", 101)
    points = recorded.points("websocket.server.duration")
    assert {name: point.count for name, point in points.items()} == {"101 /rooms/<int:number>": 1}


async def test_a_websocket_that_fails_is_an_error_without_its_message(
    client: Client, recorded: Recorded
) -> None:
    async with client.websocket("/broken"), asyncio.timeout(5):
        while not recorded.spans("asgi"):
            await asyncio.sleep(0.01)

    (span,) = recorded.spans("asgi")
    assert span.name == "WEBSOCKET /broken"
    assert status_of(span) == 101
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()
    assert list(recorded.points("websocket.server.duration")) == ["1011 101 /broken"]


@pytest.mark.parametrize(
    ("path", "host", "status", "name", "is_error"),
    [
        ("/rooms/5", "evil.test", 400, "WEBSOCKET /rooms/<int:number>", False),
        ("/forbidden", "good.test", 403, "WEBSOCKET /forbidden", False),
        ("/nothing", "good.test", 404, "WEBSOCKET", False),
        ("/unavailable", "good.test", 503, "WEBSOCKET /unavailable", True),
    ],
)
async def test_a_refused_websocket_has_its_status(
    path: str,
    host: str,
    status: int,
    name: str,
    is_error: bool,
    app: Quart,
    client: Client,
    recorded: Recorded,
) -> None:
    app.trusted_hosts = ["good.test"]  # type: ignore[attr-defined]

    with pytest.raises(WebsocketResponseError):
        async with client.websocket(path, headers={"Host": host}) as connection:
            await connection.receive()

    (span,) = recorded.spans("asgi")
    assert (span.name, status_of(span)) == (name, status)
    assert (span.status.status_code is StatusCode.ERROR) is is_error


def test_a_server_accepts_websockets_while_tracing_is_on(serve: Callable[..., Process]) -> None:
    with serve(ECHO) as process:
        with WebSocket(process.port, "/echo") as client:
            client.send("hello")
            assert getattr(client.receive(), "data", None) == "hello"
            assert client.closed_with() == 1000
        process.stop()

        (line,) = process.log("websocket")
        assert len(line["trace_id"]) == 32
