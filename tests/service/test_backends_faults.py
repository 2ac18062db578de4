"""What the service does when a server is killed or hangs, and when it is back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from orders.backends import BACKENDS
from orders.backends.base import Backend
from quart import Quart

from .backends import KINDS
from .kinds import Kind, Server

TIMEOUT = 0.5
"""Seconds that the backends may take in these tests."""

FAILED = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}

each_backend = pytest.mark.parametrize(
    ("backend", "kind"),
    list(zip(BACKENDS, KINDS, strict=True)),
    ids=[backend.name for backend in BACKENDS],
)


@dataclass
class Answer:
    status: int
    seconds: float


class Drill:
    """A served app with an endpoint that needs the backend, and one that does not."""

    def __init__(self, app: Quart) -> None:
        self._client = app.test_client()

    async def ask(self, path: str) -> Answer:
        started = perf_counter()
        response = await self._client.get(path)
        return Answer(response.status_code, perf_counter() - started)

    async def seconds_until_recovered(self) -> float:
        started = perf_counter()
        while (await self.ask("/affected")).status != HTTPStatus.OK:
            assert perf_counter() - started < 5, "no recovery"
            await asyncio.sleep(0.05)
        return perf_counter() - started


@asynccontextmanager
async def drill(
    backend: Backend[Any, Any],
    server: Server,
    kind: Kind,
    create_app: Callable[[], Quart],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Drill]:
    prefix = backend.settings.model_config["env_prefix"]
    monkeypatch.setenv(f"{prefix}TIMEOUT", str(TIMEOUT))
    monkeypatch.setenv(f"{prefix}CONNECT_TIMEOUT", str(TIMEOUT))
    monkeypatch.setenv(kind.VARIABLE, server.url)
    monkeypatch.setenv("READINESS_REQUIRES", backend.name)
    app = create_app()

    @app.get("/affected")
    async def affected() -> str:
        await backend.ping()
        return "ok"

    async with app.test_app():
        drill = Drill(app)
        await drill.seconds_until_recovered()
        yield drill


@each_backend
async def test_a_killed_server_fails_fast_and_comes_back(
    backend: Backend[Any, Any],
    kind: Kind,
    create_app: Callable[[], Quart],
    open_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = await asyncio.to_thread(kind.start, open_folder, durable=False)
    async with drill(backend, server, kind, create_app, monkeypatch) as service:
        await asyncio.to_thread(server.kill)
        for _ in range(3):
            affected = await service.ask("/affected")
            assert affected.status in FAILED
            assert affected.seconds < 2
        together = await asyncio.gather(*(service.ask("/affected") for _ in range(20)))
        assert {answer.status for answer in together} <= FAILED
        assert max(answer.seconds for answer in together) < 2
        assert (await service.ask("/health/live")).status == HTTPStatus.OK
        assert (await service.ask("/health/ready")).status == HTTPStatus.SERVICE_UNAVAILABLE

        with await asyncio.to_thread(kind.start, open_folder, durable=False, port=server.port):
            assert await service.seconds_until_recovered() < 2
            assert (await service.ask("/health/ready")).status == HTTPStatus.OK


@each_backend
async def test_a_frozen_server_is_given_up_in_time(
    backend: Backend[Any, Any],
    kind: Kind,
    create_app: Callable[[], Quart],
    open_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with await asyncio.to_thread(kind.start, open_folder, durable=False) as server:
        async with drill(backend, server, kind, create_app, monkeypatch) as service:
            await asyncio.to_thread(server.freeze)
            try:
                waiting = asyncio.create_task(service.ask("/affected"))
                await asyncio.sleep(TIMEOUT / 5)
                assert not waiting.done()
                unaffected = await service.ask("/health/live")
                assert unaffected.status == HTTPStatus.OK
                assert unaffected.seconds < TIMEOUT / 2, "the event loop must stay free"
                for affected in [await waiting, await service.ask("/affected")]:
                    assert affected.status in FAILED
                    assert affected.seconds < TIMEOUT + 1
            finally:
                await asyncio.to_thread(server.thaw)
            assert await service.seconds_until_recovered() < 2


def test_all_frozen_servers_together_do_not_hold_up_the_end(
    create_app: Callable[[], Quart],
    open_folder: Path,
    serve: Callable[..., Any],
) -> None:
    """2 s for all clients, 0.1 s for uvicorn's own pause, and the rest for a busy machine."""
    servers = [kind.start(open_folder / kind.NAME, durable=False) for kind in KINDS]
    try:
        urls = {kind.VARIABLE: server.url for kind, server in zip(KINDS, servers, strict=True)}
        process = serve(POOLS, **urls)
        for _ in range(100):
            if process.ask("/health/ready")[0] == HTTPStatus.OK:
                break
        status, _, body = process.ask("/health/ready")
        assert (status, body.count(b'"ok"')) == (HTTPStatus.OK, len(servers) + 1)
        assert process.ask("/many")[0] == HTTPStatus.OK
        for server in servers:
            server.freeze()

        seconds = process.stop()

        assert seconds < 2.6
        events = [line["event"] for line in process.log()]
        assert "Application shutdown complete." in events
        assert "Traceback" not in process.text()
    finally:
        for server in servers:
            server.thaw()
            server.stop()


POOLS = """
from orders.backends import BACKENDS

@app.get("/many")
async def many():
    # Several connections of each kind.
    await asyncio.gather(*(backend.ping() for backend in BACKENDS for _ in range(5)))
    return "done"
"""
