"""What holds for every backend: its URL, and how the service starts and waits without it."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import pytest
from orders.backends import BACKENDS
from orders.backends.base import Backend
from orders.core.settings import InvalidSettings
from quart import Quart

from .backends import KINDS
from .kinds import Kind
from .process import Process

CreateApp = Callable[[], Quart]

each_variable = pytest.mark.parametrize("variable", [server.VARIABLE for server in KINDS])

each_backend = pytest.mark.parametrize(
    ("backend", "server"),
    list(zip(BACKENDS, KINDS, strict=True)),
    ids=[backend.name for backend in BACKENDS],
)


@each_variable
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_url_stops_the_start(
    variable: str, value: str | None, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    (line,) = str(stopped.value).splitlines()
    assert line.startswith(f"{variable}: is missing; for example ")
    assert "://" in line


def test_wrong_urls_end_the_process_with_a_line_each(
    create_app: CreateApp, serve: Callable[..., Process]
) -> None:
    """And with code 1, not with a traceback."""
    wrong = {server.VARIABLE: "ftp://user:secret@localhost/x" for server in KINDS}

    process = serve(wait=False, **wrong)

    assert process.popen.wait(15) == 1
    lines = process.text().splitlines()
    assert [line.partition(":")[0] for line in lines] == [server.VARIABLE for server in KINDS]
    assert "secret" not in process.text()
    assert "Traceback" not in process.text()


def move(server: Kind, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the service look for a backend at another port."""
    url = urlsplit(os.environ[server.VARIABLE])
    credentials, at, _ = url.netloc.rpartition("@")
    elsewhere = url._replace(netloc=f"{credentials}{at}127.0.0.1:{port}")
    monkeypatch.setenv(server.VARIABLE, elsewhere.geturl())


async def test_the_service_starts_and_is_live_but_not_ready_without_backends(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in KINDS:
        move(server, 1, monkeypatch)
    monkeypatch.setenv("READINESS_TIMEOUT", "0.1")
    monkeypatch.setenv("READINESS_REQUIRES", ",".join(backend.name for backend in BACKENDS))
    app = create_app()

    async with app.test_app():
        live = await app.test_client().get("/health/live")
        started = perf_counter()
        ready = await app.test_client().get("/health/ready")
        duration = perf_counter() - started

    report = await ready.get_json()
    assert live.status_code == 200
    assert ready.status_code == 503
    assert report["status"] == "unavailable"
    assert list(report["backends"]) == [backend.name for backend in BACKENDS]
    for health in report["backends"].values():
        assert set(health) == {"status", "latency_ms"}
        assert health["status"] == "unavailable"
    assert duration < 1, "all are asked side by side, each for a limited time"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that lets connections wait, as firewalls do: its queue for them is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="others answer when the queue is full")
@each_backend
async def test_waiting_for_a_new_connection_is_bounded(
    backend: Backend[Any, Any],
    server: Kind,
    silent_port: int,
    create_app: CreateApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move(server, silent_port, monkeypatch)
    prefix = backend.settings.model_config["env_prefix"]
    monkeypatch.setenv(f"{prefix}CONNECT_TIMEOUT", "0.05")
    app = create_app()

    @app.get("/ping")
    async def ping() -> str:
        await backend.ping()
        return "pong"

    async with app.test_app(), asyncio.timeout(2):
        response = await app.test_client().get("/ping")

    assert response.status_code in {503, 504}
    assert response.content_type == "application/problem+json"


async def test_by_default_the_databases_are_required(create_app: CreateApp) -> None:
    app = create_app()

    required = {backend.name for backend in BACKENDS if backend.name in {"postgres", "mongo"}}
    assert app.extensions["health"][1] == required
