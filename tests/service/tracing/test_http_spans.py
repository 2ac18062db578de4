"""Outbound HTTP in a trace."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from orders.backends import http
from quart import Quart

from .conftest import Recorded


async def test_a_call_is_a_span_that_the_other_service_continues(
    create_app: Callable[[], Quart], recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        got.append(request.headers["traceparent"])
        return web.Response()

    upstream = web.Application()
    upstream.router.add_get("/things", answer)
    async with TestServer(upstream) as server:
        url = urlsplit(str(server.make_url("/")))
        monkeypatch.setenv("UPSTREAM_URL", f"http://somebody:secret@{url.netloc}")
        app = create_app()

        @app.get("/call")
        async def call() -> str:
            async with http.session().get("things?key=secret") as response:
                return str(response.status)

        async with app.test_app():
            response = await app.test_client().get("/call")
            assert await response.get_data(as_text=True) == "200"
            durations = recorded.points("http.client.request.duration")

    span, request = recorded.trace_of("/call")
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id
    (traceparent,) = got
    assert f"-{span.context.trace_id:032x}-{span.context.span_id:016x}-" in traceparent
    assert (span.attributes or {})["url.full"] == f"http://{url.netloc}/things"
    assert "secret" not in span.to_json()
    assert [point.count for point in durations.values()] == [1]
