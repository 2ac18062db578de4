"""Outbound HTTP: the session against a real server, that works and that misbehaves."""

import asyncio
import json
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer as Server
from orders.backends import http
from orders.core.settings import InvalidSettings
from quart import Quart, request
from werkzeug.exceptions import NotFound
from yarl import URL

from .load import assert_fair, served_under_load

CreateApp = Callable[[], Quart]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Upstream:
    """A server whose answers a test chooses, one after the other. The last one repeats."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [well]
        self.requests: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        position = min(len(self.requests), len(self.answers)) - 1
        return await self.answers[position](request)


async def well(_: web.Request) -> web.StreamResponse:
    return web.json_response({"well": True})


async def overloaded(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def slow(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def slow_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"{")
    await asyncio.sleep(60)
    return response


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"the beginning")
    assert request.transport is not None
    request.transport.close()
    return response


async def no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"220 mail.example.org ESMTP\r\n\r\n")
    return web.Response()


def body(content: bytes, content_type: str = "application/json", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=content, headers={"Content-Type": content_type} | given)

    return answer


def redirect(location: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    return answer


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    upstream = Upstream()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", upstream.answer)
    # By name: no client keeps cookies for an IP address.
    async with Server(application, host="localhost") as server:
        monkeypatch.setenv("UPSTREAM_URL", str(server.make_url("/base")))
        yield upstream


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the waits between attempts, and nothing else."""
    monkeypatch.setattr(http, "BACKOFF", 0.001)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the app wait for the upstream for a short time only."""
    monkeypatch.setenv("UPSTREAM_TIMEOUT", "0.2")


@pytest.fixture
async def app(upstream: Upstream, create_app: CreateApp) -> AsyncIterator[Quart]:
    """Serve an app with an endpoint for each way to call the upstream."""
    app = create_app()

    @app.route("/json", methods=["GET", "POST", "PUT"])
    async def call() -> str:
        async with http.session().request(request.method, "thing") as response:
            response.raise_for_status()
            return json.dumps(await response.json())

    @app.get("/text")
    async def text() -> str:
        async with http.session().get("thing") as response:
            return await response.text()

    @app.get("/read")
    async def read() -> bytes:
        async with http.session().get("thing") as response:
            return await response.read()

    @app.get("/lines")
    async def lines() -> str:
        async with http.session().get("thing") as response:
            return str([line async for line in response.content])

    async with app.test_app():
        yield app


async def status_of(app: Quart, path: str = "/json", method: str = "GET") -> int:
    client = app.test_client()
    response = await getattr(client, method.lower())(path)
    status: int = response.status_code
    return status


async def test_a_relative_url_is_below_the_upstreams(app: Quart, upstream: Upstream) -> None:
    async with app.app_context(), http.session().get("things/1") as response:
        assert await response.json() == {"well": True}

    assert upstream.requests[-1].path == "/base/things/1"


async def test_the_request_id_is_passed_on(app: Quart, upstream: Upstream) -> None:
    response = await app.test_client().get("/json", headers={"X-Request-ID": "abc-123"})

    assert response.status_code == 200
    assert upstream.requests[-1].headers["X-Request-ID"] == "abc-123"


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("trouble", [overloaded, reset])
async def test_an_idempotent_call_is_tried_again(
    trouble: Answer, method: str, app: Quart, upstream: Upstream
) -> None:
    upstream.answers = [trouble, trouble, well]

    assert await status_of(app, method=method) == 200
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("trouble", [overloaded, reset])
async def test_trouble_that_stays_is_a_502(trouble: Answer, app: Quart, upstream: Upstream) -> None:
    upstream.answers = [trouble]

    assert await status_of(app) == 502
    # aiohttp itself tries once more when a connection is lost.
    assert len(upstream.requests) in {3, 6}


@pytest.mark.parametrize("trouble", [overloaded, reset])
async def test_a_call_that_changes_something_is_not_repeated(
    trouble: Answer, app: Quart, upstream: Upstream
) -> None:
    upstream.answers = [trouble, well]

    assert await status_of(app, method="POST") == 502
    assert len(upstream.requests) == 1


async def test_retries_stay_within_the_deadline(
    impatient: None, app: Quart, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BACKOFF", 60)
    monkeypatch.setattr(http.random, "uniform", lambda _, longest: longest)  # type: ignore[attr-defined]
    upstream.answers = [overloaded]

    async with asyncio.timeout(2):
        assert await status_of(app) == 504


@pytest.mark.parametrize("answer", [slow, slow_body])
async def test_a_slow_upstream_is_a_504(
    answer: Answer, impatient: None, app: Quart, upstream: Upstream
) -> None:
    upstream.answers = [answer]

    async with asyncio.timeout(2):
        assert await status_of(app) == 504


BROKEN = {
    "cut JSON": body(b'{"well": tr'),
    "no JSON": body(b"<html>"),
    "deep JSON": body(b"[" * 100_000),
    "many digits": body(b"9" * 5000),
    "another type": body(b"{}", "text/html"),
    "not UTF-8": body(b'{"name": "\xff"}'),
    "a charset that does not fit": body("é".encode("latin-1"), "application/json; charset=utf-8"),
    "a charset that nobody knows": body(b"\xff", "application/json; charset=nonsense"),
    "wrong gzip": body(b"no gzip", Content_Encoding="gzip"),
    "cut deflate": body(zlib.compress(b"{}" * 1000)[:10], Content_Encoding="deflate"),
    "cut short": cut_short,
    "no HTTP": no_http,
    "an error": overloaded,
    "a redirect to another scheme": redirect("ftp://x/y"),
    "a redirect to nowhere": redirect("http://"),
    "a redirect to a wrong URL": redirect("http://[::1"),
    "a redirect without end": redirect("thing"),
    "a redirect to a closed port": redirect("http://127.0.0.1:1/"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_response_is_a_502(name: str, app: Quart, upstream: Upstream) -> None:
    upstream.answers = [BROKEN[name]]

    response = await app.test_client().get("/json")

    assert response.status_code == 502
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/text", body(b"\xff", "text/plain; charset=utf-8")),
        ("/read", body(b"no gzip", Content_Encoding="gzip")),
        ("/read", cut_short),
        ("/lines", cut_short),
    ],
)
async def test_a_broken_body_is_a_502_however_it_is_read(
    path: str, answer: Answer, app: Quart, upstream: Upstream
) -> None:
    upstream.answers = [answer]

    assert await status_of(app, path) == 502


async def test_an_upstream_that_is_away_is_a_502(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time: a connection that fails takes no place in the pool."""
    monkeypatch.setenv("UPSTREAM_POOL_SIZE", "1")
    for url in ("http://127.0.0.1:1", "http://nothing.invalid"):
        monkeypatch.setenv("UPSTREAM_URL", url)
        app = create_app()

        @app.get("/call")
        async def call() -> str:
            async with http.session().get("thing") as response:
                return await response.text()

        async with app.test_app():
            assert [await status_of(app, "/call") for _ in range(2)] == [502, 502]


async def test_connections_to_one_host_are_limited(
    upstream: Upstream, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now, most = 0, 0

    async def count(_: web.Request) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        return web.Response()

    upstream.answers = [count]
    monkeypatch.setenv("UPSTREAM_POOL_SIZE", "2")
    app = create_app()
    async with app.test_app(), app.app_context():
        await asyncio.gather(*(http.ping() for _ in range(6)))

    assert most == 2


async def test_waiting_for_a_connection_is_fair(
    upstream: Upstream, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_POOL_SIZE", "2")
    monkeypatch.setenv("UPSTREAM_ACQUIRE_TIMEOUT", "5")
    app = create_app()

    async with app.test_app(), app.app_context():
        served = await served_under_load(lambda: http.ping())

    assert_fair(served)


async def test_waiting_for_a_connection_is_bounded(
    upstream: Upstream, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_POOL_SIZE", "1")
    monkeypatch.setenv("UPSTREAM_ACQUIRE_TIMEOUT", "0.1")
    monkeypatch.setenv("UPSTREAM_CONNECT_TIMEOUT", "0.1")
    upstream.answers = [slow]
    app = create_app()

    @app.get("/call")
    async def call() -> str:
        async with http.session().get("thing") as response:
            return await response.text()

    async with app.test_app():
        first = asyncio.create_task(app.test_client().get("/call"))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            assert await status_of(app, "/call") == 503
        first.cancel()


async def test_hosts_that_nobody_calls_are_forgotten(app: Quart, upstream: Upstream) -> None:
    """Clients may choose them."""
    async with app.app_context():
        for name in ("localhost", "127.0.0.1"):
            url = f"http://{name}:{URL(os.environ['UPSTREAM_URL']).port}/"
            async with http.session().get(url):
                pass
        connector = http.session().connector
        assert isinstance(connector, http.FairConnector)
        assert len(connector._places) == 0


async def test_a_cancelled_call_gives_its_connection_back(
    upstream: Upstream, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_POOL_SIZE", "1")
    upstream.answers = [slow, well]
    app = create_app()

    async with app.test_app(), app.app_context():
        call = asyncio.create_task(http.ping())
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(1):
            await http.ping()


async def test_a_sick_upstream_is_not_ready(app: Quart, upstream: Upstream) -> None:
    upstream.answers = [overloaded]

    async with app.app_context():
        with pytest.raises(aiohttp.ClientResponseError):
            await http.ping()


async def test_cookies_are_not_kept(app: Quart, upstream: Upstream) -> None:
    async def setting_a_cookie(_: web.Request) -> web.StreamResponse:
        response = web.json_response({})
        response.set_cookie("session", "somebody")
        return response

    upstream.answers = [setting_a_cookie]
    await status_of(app)
    await status_of(app)

    assert "Cookie" not in upstream.requests[-1].headers


@pytest.mark.parametrize(
    "part",
    [
        "Zoë",
        "a/b",
        "a?b=1",
        "a#b",
        "a%2Fb",
        "%2e%2e",
        "a b",
        "a:b",
        "..a",
        "http://x",
        "a;b",
        1,
        "é",
    ],
)
async def test_a_part_of_a_path_arrives_as_it_is(
    part: object, app: Quart, upstream: Upstream
) -> None:
    """In one piece, in the middle and at the beginning."""
    async with app.app_context():
        for parts in (("customers", part, "orders"), (part,)):
            async with http.session().get(http.path(*parts)) as response:
                assert response.status == 200
            raw = upstream.requests[-1].rel_url.raw_path.removeprefix("/base/")
            assert upstream.requests[-1].rel_url.raw_path.startswith("/base/")
            assert upstream.requests[-1].rel_url.query_string == ""
            assert raw.count("/") == len(parts) - 1
            assert upstream.requests[-1].rel_url.parts[-len(parts) :] == tuple(map(str, parts)) or (
                "/" in str(part) or "%" in str(part)
            )


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_part_of_a_path_cannot_climb(part: str) -> None:
    for parts in ((part,), ("customers", part), ("customers", part, "orders")):
        with pytest.raises(NotFound):
            http.path(*parts)


GOOD = [
    "http://localhost:8001",
    "https://user:password@api.example.org/v1",
    "https://api.example.org/v1/",
    "http://[::1]:8001",
]

WRONG = [
    "localhost:8001",
    "ftp://user:secret@localhost",
    "http://",
    "http://user:secret@",
    "http://user:sec#ret@localhost",
    "http://user:secret@localhost:port",
    "http://user:secret@localhost:99999",
]


@pytest.mark.parametrize("url", GOOD)
async def test_a_good_url_is_accepted(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_URL", url)

    async with create_app().test_app():
        pass


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_stops_the_start(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_URL", url)

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    (line,) = str(stopped.value).splitlines()
    assert line.startswith(("UPSTREAM_URL: is not a valid URL; for example", "UPSTREAM_URL: has"))
    assert not any(part in line for part in ("secret", "sec#", "#ret"))
