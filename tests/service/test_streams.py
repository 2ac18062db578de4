"""Streams and WebSockets pass the same checks as requests, and end in known ways."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from orders.core.serving import WEBSOCKET_QUEUE
from quart import Quart, Response, websocket
from quart.testing.connections import WebsocketDisconnectError, WebsocketResponseError

from .conftest import Lines

Logged = Callable[[], Awaitable[Lines]]


@pytest.fixture
def app(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> Quart:
    """Return an app with WebSockets and streams, which may be open for a short time only."""
    monkeypatch.setenv("TRUSTED_HOSTS", "good.example")
    monkeypatch.setenv("STREAM_TIMEOUT", "0.2")
    app = create_app()

    @app.websocket("/echo")
    async def echo() -> None:
        try:
            while True:
                await websocket.send(await websocket.receive())
        finally:
            closed.append("/echo")

    @app.websocket("/once")
    async def once() -> None:
        await websocket.send(await websocket.receive())

    @app.websocket("/broken")
    async def broken() -> None:
        await websocket.accept()
        raise RuntimeError("password=secret")

    @app.websocket("/closing")
    async def closing() -> None:
        await websocket.accept()
        await websocket.close(4000, "my own reason")

    @app.get("/stream/<kind>")
    async def stream(kind: str) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"one\n"
                if kind == "broken":
                    raise RuntimeError("password=secret")
                await asyncio.sleep(5 if kind == "endless" else 0.05)
                yield b"two\n"
            finally:
                closed.append(kind)

        return Response(parts(), content_type="text/event-stream")

    return app


@pytest.fixture
def closed() -> list[str]:
    """Return the streams and WebSockets whose generators and handlers have ended."""
    return []


async def connect(app: Quart, path: str, **headers: str) -> Any:
    """Open a WebSocket, send one message, and return the first answer, or how it failed."""
    given = {"Host": "good.example"} | {name.replace("_", "-"): headers[name] for name in headers}
    async with app.test_client().websocket(path, headers=given) as connection:
        await connection.send("hello")
        try:
            return await connection.receive()
        except (WebsocketDisconnectError, WebsocketResponseError) as error:
            return error


async def test_a_websocket_is_one_line_in_the_log(app: Quart, logged: Logged) -> None:
    async with app.test_app():
        assert await connect(app, "/echo?token=secret", X_Request_ID="abc-123") == "hello"
        await connect(app, "/once")
        await connect(app, "/missing")

    left, complete, missing = await logged()
    assert isinstance(left.pop("duration_ms"), float)
    assert left.pop("timestamp")
    assert left == {
        "event": "websocket",
        "level": "info",
        "logger": "orders.core.access",
        "route": "/echo",
        "status": 101,
        "ended": "client left",
        "request_id": "abc-123",
    }
    assert "ended" not in complete
    assert len(complete["request_id"]) == 32
    assert (missing["status"], missing["route"], missing["path"]) == (404, None, "/missing")


async def test_a_websocket_passes_the_same_checks(app: Quart, logged: Logged) -> None:
    cases: list[tuple[str, dict[str, str], int]] = [
        ("/echo", {"Host": "evil.test"}, 400),
        ("/echo", {"Host": "a..b"}, 400),
        ("/echo?" + "x" * 5000, {}, 414),
        ("/missing", {}, 404),
    ]
    async with app.test_app():
        for path, headers, status in cases:
            refused = await connect(app, path, **headers)
            assert isinstance(refused, WebsocketResponseError), path
            assert refused.response.status_code == status
            assert refused.response.content_type == "application/problem+json"
            assert refused.response.headers["X-Content-Type-Options"] == "nosniff"
            assert len(refused.response.headers["X-Request-ID"]) == 32
        assert await connect(app, "/echo", Host="GOOD.example:8000") == "hello"

    assert [line["status"] for line in await logged()] == [400, 400, 414, 404, 101]


async def test_an_error_closes_a_websocket_with_1011(app: Quart, logged: Logged) -> None:
    async with app.test_app():
        error = await connect(app, "/broken")

    assert isinstance(error, WebsocketDisconnectError)
    assert error.args == (1011,)
    failed, line = await logged()
    assert "password=secret" in failed["exception"]
    assert failed["request_id"] == line["request_id"]
    assert line["ended"] == "error"


async def test_a_handler_closes_with_its_own_code(app: Quart, logged: Logged) -> None:
    async with app.test_app():
        error = await connect(app, "/closing")

    assert error.args == (4000,)
    (line,) = await logged()
    assert "ended" not in line


async def test_a_websocket_ends_at_its_limit(app: Quart, logged: Logged, closed: list[str]) -> None:
    async with (
        app.test_app(),
        asyncio.timeout(2),
        app.test_client().websocket("/echo", headers={"Host": "good.example"}) as connection,
    ):
        await connection.send("hello")
        assert await connection.receive() == "hello"
        with pytest.raises(WebsocketDisconnectError) as error:
            await connection.receive()

    assert error.value.args == (1001,)
    assert closed == ["/echo"]
    (line,) = await logged()
    assert (line["ended"], line["status"]) == ("timeout", 101)
    assert 200 <= line["duration_ms"] < 400


async def test_the_messages_that_wait_for_a_handler_are_limited(app: Quart) -> None:
    @app.websocket("/busy")
    async def busy() -> None:
        await websocket.accept()
        await asyncio.sleep(60)

    taken = 0
    scope: Any = {"type": "websocket", "path": "/busy", "query_string": b"", "scheme": "ws"} | {
        "headers": [(b"host", b"good.example")],
    }

    async def flood() -> Any:
        nonlocal taken
        taken += 1
        await asyncio.sleep(0)
        return {"type": "websocket.receive", "text": "x", "bytes": None}

    async def send(_: Any) -> None:
        pass

    async with app.test_app():
        await app(scope, flood, send)

    assert taken == WEBSOCKET_QUEUE


async def test_a_stream_ends_at_its_limit(app: Quart, logged: Logged, closed: list[str]) -> None:
    async with app.test_app(), asyncio.timeout(2):
        client = app.test_client()
        headers = {"Host": "good.example"}
        async with client.request("/stream/endless", headers=headers) as connection:
            assert await connection.receive() == b"one\n"

    assert closed == ["endless"]
    (line,) = await logged()
    assert (line["status"], line["route"], line["ended"]) == (200, "/stream/<kind>", "timeout")
    assert 200 <= line["duration_ms"] < 400


async def test_a_stream_that_ends_by_itself_is_complete(app: Quart, logged: Logged) -> None:
    async with app.test_app():
        response = await app.test_client().get("/stream/short", headers={"Host": "good.example"})
        assert await response.get_data() == b"one\ntwo\n"

    (line,) = await logged()
    assert "ended" not in line
    assert line["duration_ms"] >= 50


async def test_a_stream_that_fails_is_logged_as_such(app: Quart, logged: Logged) -> None:
    async with app.test_app():
        with pytest.raises(RuntimeError):
            await app.test_client().get("/stream/broken", headers={"Host": "good.example"})

    line = (await logged())[-1]
    assert (line["event"], line["ended"]) == ("request", "error")


async def test_a_limit_of_streams_is_none_of_handlers(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUEST_TIMEOUT bounds the time until a response begins, and not how long it streams."""
    monkeypatch.setenv("REQUEST_TIMEOUT", "0.05")
    app = create_app()

    @app.get("/slowly")
    async def slowly() -> Response:
        async def parts() -> AsyncIterator[str]:
            for part in ("one ", "two ", "three"):
                yield part
                await asyncio.sleep(0.05)

        return Response(parts())

    async with app.test_app():
        response = await app.test_client().get("/slowly")

    assert await response.get_data(as_text=True) == "one two three"
