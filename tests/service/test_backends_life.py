"""How the clients of all backends are opened and closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter

import pytest
from orders.backends import base
from orders.backends.base import Backend, connected
from orders.core.settings import EnvSettings
from quart import Quart

from .conftest import Lines


def fake(
    name: str, happened: list[str], closing: Callable[[], Awaitable[object]] | None = None
) -> Backend[EnvSettings, str]:
    """Return a backend that notes when it is opened and closed. closing: what it does then."""

    @asynccontextmanager
    async def connect(_: EnvSettings) -> AsyncIterator[str]:
        if closing is broken:
            raise ValueError("wrong options")
        happened.append(f"open {name}")
        try:
            yield name
        finally:
            happened.append(f"close {name}")
            if closing:
                await closing()

    async def ping() -> None:
        pass

    return Backend(
        name=name,
        settings=EnvSettings,
        connect=connect,
        ping=ping,
        failures={},
        is_database=False,
    )


async def broken() -> None:
    raise ValueError("cannot be closed")


async def forever() -> None:
    await asyncio.sleep(60)


async def open_and_close(app: Quart, *backends: Backend[EnvSettings, str]) -> None:
    async with connected(app, backends, [EnvSettings() for _ in backends]), app.app_context():
        assert [backend.client() for backend in backends] == [each.name for each in backends]


async def test_backends_are_closed_in_reverse_order(app: Quart) -> None:
    happened: list[str] = []

    await open_and_close(app, fake("first", happened), fake("second", happened))

    assert happened == ["open first", "open second", "close second", "close first"]


async def test_a_failed_start_closes_what_was_opened(app: Quart) -> None:
    happened: list[str] = []

    with pytest.raises(ValueError, match="wrong options"):
        await open_and_close(app, fake("a", happened), fake("b", happened, broken))

    assert happened == ["open a", "close a"]


async def test_closing_is_bounded_for_all_clients_together(
    app: Quart, logged: Callable[[], Awaitable[Lines]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "CLOSE_TIMEOUT", 0.1)
    happened: list[str] = []
    backends = [fake(name, happened, forever) for name in ("a", "b", "c")]

    started = perf_counter()
    await open_and_close(app, *backends, fake("d", happened))

    assert perf_counter() - started < 0.2
    assert {"close a", "close b", "close c", "close d"} < set(happened)
    lines = await logged()
    assert {line["backend"] for line in lines} == {"a", "b", "c"}
    assert {line["event"] for line in lines} == {"client not closed in time"}


async def test_an_error_at_the_end_stops_no_other_client_from_closing(
    app: Quart, logged: Callable[[], Awaitable[Lines]]
) -> None:
    happened: list[str] = []

    async def fails() -> None:
        raise OSError("no such socket")

    await open_and_close(app, fake("a", happened), fake("b", happened, fails))

    assert happened[2:] == ["close b", "close a"]
    (line,) = await logged()
    assert line["backend"] == "b"
    assert "no such socket" in line["exception"]


async def test_a_client_outside_a_serving_app_says_what_to_do(app: Quart) -> None:
    backend = fake("first", [])

    with pytest.raises(RuntimeError, match=r"The first client .*test_app\(\)"):
        backend.client()
    async with app.app_context():
        with pytest.raises(RuntimeError, match=r"The first client .*test_app\(\)"):
            backend.client()


async def test_a_cancellation_is_not_lost() -> None:
    """On Python 3.11 it was, when it came at the same moment as the result."""
    result = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(asyncio.wait_for(result, 1))
    await asyncio.sleep(0)

    result.set_result("late")
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
