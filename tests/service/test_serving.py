"""How requests are served: limits, headers, bodies, streams, and clients who leave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from typing import Any

import pytest
from orders.core.serving import HEADERS
from orders.settings import Settings
from quart import Quart, Response, request
from quart.datastructures import FileStorage
from quart.typing import TestClientProtocol as Client

from .conftest import Lines

Logged = Callable[[], Awaitable[Lines]]


@pytest.mark.parametrize("path", ["/health/live", "/nothing/here", "/health/live?" + "x" * 5000])
async def test_every_response_has_the_headers(path: str, client: Client) -> None:
    response = await client.get(path)

    for name, value in HEADERS.items():
        assert response.headers.getlist(name.decode()) == [value.decode()]
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    assert len(response.headers["X-Request-ID"]) == 32
    assert "Server" not in response.headers


async def test_a_handler_may_set_these_headers(app: Quart, client: Client) -> None:
    @app.get("/cached")
    async def cached() -> Response:
        return Response("cached", headers={"Cache-Control": "max-age=60"})

    response = await client.get("/cached")

    assert response.headers.getlist("Cache-Control") == ["max-age=60"]


async def test_a_long_url_is_refused(client: Client, logged: Logged) -> None:
    limit = Settings().max_url_length

    fits = await client.get("/health/live?" + "x" * (limit - len("/health/live")))
    too_long = await client.get("/health/live?" + "x" * limit)

    assert fits.status_code == 200
    assert too_long.status_code == 414
    assert too_long.content_type == "application/problem+json"
    assert [line["status"] for line in await logged()] == [200, 414]


async def test_only_trusted_hosts_are_served(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.setenv("TRUSTED_HOSTS", "API.example.org, .internal.example.org")
    app = create_app()

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    async with app.test_app():
        client = app.test_client()
        for host, path, status in [
            ("api.example.org", "/hello", 200),
            ("API.Example.org", "/hello", 200),
            ("api.example.org:8000", "/hello", 200),
            ("a.internal.example.org", "/hello", 200),
            ("A.INTERNAL.example.org", "/hello", 200),
            ("example.org", "/hello", 400),
            ("evil.test", "/hello", 400),
            ("evil.test", "/nothing", 400),
            ("", "/hello", 400),
            ("10.0.0.1", "/health/live", 200),
            ("10.0.0.1", "/health/ready", 200),
            ("10.0.0.1", "/health", 400),
        ]:
            with subtests.test(host=host, path=path):
                response = await client.get(path, headers={"Host": host})
                assert response.status_code == status


async def test_every_host_is_served_by_default(client: Client) -> None:
    for host in ("evil.test", "127.0.0.1:8000", "[::1]:8000", "[::1]", "a_b", "localhost."):
        response = await client.get("/health/live", headers={"Host": host})
        assert response.status_code == 200, host


async def test_a_host_header_that_names_no_host_is_refused(client: Client) -> None:
    for host in ("a" * 300, "a..b", "a b", "a/b", "user@a", "a:b", "[::1]x", "a:123456", "é"):
        response = await client.get("/health/live", headers={"Host": host})
        assert response.status_code == 400, host
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_who_leaves_cancels_the_handler(
    method: str, app: Quart, logged: Logged
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    @app.route("/slow", methods=[method])
    async def slow() -> str:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "done"

    async with (
        app.test_app(),
        app.test_client().request("/slow", method=method) as connection,
    ):
        await started.wait()
        await connection.disconnect()

    assert cancelled.is_set()
    (line,) = await logged()
    assert (line["route"], line["status"], line["ended"]) == ("/slow", 499, "client left")
    assert line["request_id"]


async def test_a_client_who_leaves_ends_the_stream(app: Quart, logged: Logged) -> None:
    closed = asyncio.Event()

    @app.get("/numbers")
    async def numbers() -> Response:
        async def forever() -> AsyncIterator[str]:
            try:
                while True:
                    yield "1 "
                    await asyncio.sleep(0.001)
            finally:
                closed.set()

        return Response(forever())

    async with app.test_app(), app.test_client().request("/numbers") as connection:
        assert await connection.receive() == b"1 "
        assert not closed.is_set()
        await connection.disconnect()

    assert closed.is_set()
    (line,) = await logged()
    assert (line["route"], line["status"], line["ended"]) == ("/numbers", 200, "client left")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_body_comes_in_parts(app: Quart, method: str) -> None:
    @app.route("/length", methods=[method])
    async def length() -> str:
        return " ".join([str(len(part)) async for part in request.body if part])

    headers = {"Transfer-Encoding": "chunked"}
    async with app.test_app():
        client = app.test_client()
        async with client.request("/length", method=method, headers=headers) as connection:
            for part in (b"a", b"bc"):
                await connection.send(part)
                await asyncio.sleep(0.01)
            await connection.send_complete()
        response = await connection.as_response()

    assert await response.get_data(as_text=True) == "1 2"


async def test_without_a_body_it_is_empty(app: Quart) -> None:
    @app.get("/length")
    async def length() -> str:
        return str(len(await request.get_data()))

    async with app.test_app(), asyncio.timeout(5):
        response = await app.test_client().get("/length")

    assert await response.get_data(as_text=True) == "0"


async def test_a_response_of_a_hook_has_the_route(
    app: Quart, client: Client, logged: Logged
) -> None:
    @app.before_request
    async def refuse() -> tuple[str, int]:
        return "Log in.", 401

    response = await client.get("/health/live")

    assert response.status_code == 401
    (line,) = await logged()
    assert (line["route"], line["status"]) == ("/health/live", 401)


async def test_text_that_is_not_utf8_is_a_400(app: Quart, client: Client) -> None:
    @app.post("/text")
    async def text() -> str:
        return str(await request.get_data(as_text=True))

    assert (await client.post("/text", data="Zoë".encode())).status_code == 200
    refused = await client.post("/text", data=b"\xff")
    assert refused.status_code == 400
    assert refused.content_type == "application/problem+json"


async def test_the_server_sees_that_what_it_cancels_is_cancelled(app: Quart) -> None:
    started, never = asyncio.Event(), asyncio.Event()
    scope: Any = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http"} | {
        "path": "/slow",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }

    @app.get("/slow")
    async def slow() -> str:
        started.set()
        await never.wait()
        return "done"

    async def receive() -> Any:
        await never.wait()

    async def send(message: Any) -> None:
        raise AssertionError(message)

    async with app.test_app():
        serving = asyncio.create_task(app(scope, receive, send))
        await started.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_no_task_is_left_behind(app: Quart, seconds: float) -> None:
    @app.get("/short")
    async def short() -> str:
        await asyncio.sleep(seconds)
        return "done"

    # Without the clients of the backends, which have tasks of their own.
    response = await app.test_client().get("/short")
    await asyncio.sleep(0.01)

    assert response.status_code == 200
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_large_upload_does_not_block(app: Quart) -> None:
    @app.post("/upload")
    async def upload() -> str:
        (file,) = (await request.files).values()
        return str(len(file.read()))

    async with app.test_app():
        content = FileStorage(BytesIO(b"x" * 900_000), "large.bin")
        response = await app.test_client().post("/upload", files={"file": content})

    assert await response.get_data(as_text=True) == "900000"
