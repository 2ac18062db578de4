"""Redis: the client against a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from orders.backends import redis
from orders.core.errors import BackendUnavailable
from orders.core.settings import InvalidSettings
from quart import Quart
from redis.exceptions import ResponseError

from .load import assert_fair, served_under_load

CreateApp = Callable[[], Quart]


@pytest.fixture
async def small_app(create_app: CreateApp, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Quart]:
    """Serve an app with one connection and short waits."""
    monkeypatch.setenv("REDIS_POOL_SIZE", "1")
    monkeypatch.setenv("REDIS_ACQUIRE_TIMEOUT", "0.3")
    monkeypatch.setenv("REDIS_TIMEOUT", "0.4")
    app = create_app()
    async with app.test_app():
        yield app


async def execute(*command: Any) -> Any:
    return await redis.client().execute_command(*command)  # type: ignore[no-untyped-call]


async def wait(seconds: float) -> None:
    """Keep a connection busy."""
    assert await redis.client().blpop(["nothing"], timeout=seconds) is None


async def test_commands(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        client = redis.client()
        await client.set("greeting", "Zoë", ex=60)
        assert await client.get("greeting") == "Zoë"
        assert 0 < await client.ttl("greeting") <= 60


async def test_pipelines(app: Quart) -> None:
    async with app.test_app(), app.app_context(), redis.client().pipeline() as pipeline:
        pipeline.set("number", 1)
        pipeline.incr("number")
        assert await pipeline.execute() == [True, 2]


async def test_waiting_for_a_connection_is_bounded(small_app: Quart) -> None:
    async with small_app.app_context():
        waiting = asyncio.create_task(wait(60))
        await asyncio.sleep(0.02)
        async with asyncio.timeout(1):
            with pytest.raises(BackendUnavailable):
                await redis.client().get("greeting")
        waiting.cancel()
        assert await redis.client().ping()


async def test_waiting_for_a_connection_is_fair(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_POOL_SIZE", "2")
    monkeypatch.setenv("REDIS_ACQUIRE_TIMEOUT", "5")
    app = create_app()

    async with app.test_app(), app.app_context():
        served = await served_under_load(lambda: redis.client().ping())

    assert_fair(served)


async def test_a_command_is_bounded(small_app: Quart) -> None:
    async with small_app.app_context():
        with pytest.raises(tuple(redis.BACKEND.failures)):
            async with asyncio.timeout(0.7):
                await wait(60)
        assert await redis.client().ping()


async def test_a_cancelled_command_gives_its_connection_back(small_app: Quart) -> None:
    async with small_app.app_context():
        waiting = asyncio.create_task(wait(60))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await redis.client().ping()


async def test_replies_stay_with_their_requests_when_others_are_cancelled(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_POOL_SIZE", "2")
    app = create_app()
    async with app.test_app(), app.app_context():

        async def echo(number: int) -> None:
            assert await redis.client().echo(str(number)) == str(number)

        for _ in range(20):
            tasks = [asyncio.create_task(echo(number)) for number in range(20)]
            for number in range(0, 20, 3):
                await asyncio.sleep(0)
                tasks[number].cancel()
            done, _ = await asyncio.wait(tasks)
            assert not [task for task in done if not task.cancelled() and task.exception()]


async def test_a_closed_connection_is_replaced(small_app: Quart) -> None:
    async with small_app.app_context():
        client = redis.client()
        first = await client.client_id()
        await client.client_kill_filter(_id=str(first), skipme=False)
        assert await client.client_id() != first


async def test_the_service_names_itself(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        info = await redis.client().client_info()

    assert "orders" in str(info["lib-name"])


async def test_an_error_of_the_command_is_no_failure_of_the_backend(app: Quart) -> None:
    @app.get("/wrong")
    async def wrong() -> str:
        await redis.client().set("text", "a")
        return str(await redis.client().lpush("text", "a"))

    async with app.test_app(), app.app_context():
        assert (await app.test_client().get("/wrong")).status_code == 500
        with pytest.raises(ResponseError, match="unknown command"):
            await execute("NONSENSE")


OUT_OF_RANGE: dict[str, tuple[Any, ...]] = {
    "a sum that is too large": ("INCRBY", "largest", 1),
    "a number that is too large": ("INCRBY", "number", 2**63),
    "a time that is too large": ("EXPIRE", "number", 2**62),
    "a word for a number": ("INCRBYFLOAT", "number", "much"),
    "infinity": ("INCRBYFLOAT", "number", "inf"),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
async def test_a_value_that_is_out_of_range_is_a_422(name: str, app: Quart) -> None:
    @app.get("/command")
    async def command() -> str:
        await redis.client().set("largest", 2**63 - 1)
        await redis.client().set("number", 1)
        return str(await execute(*OUT_OF_RANGE[name]))

    async with app.test_app():
        response = await app.test_client().get("/command")

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"


GOOD = [
    "redis://localhost:6379/0",
    "redis://user:p%40ss%23word@localhost",
    "rediss://:password@cache.example.org:6380/1?ssl_cert_reqs=required",
    "unix:///run/redis.sock?db=1",
    "redis://[::1]:6379/0?protocol=2",
]

WRONG = [
    "localhost:6379",
    "http://user:secret@localhost",
    "redis+sentinel://user:secret@localhost",
    "redis://user:secret@localhost:port/0",
    "redis://user:sec#ret@localhost:6379/0",
    "redis://user:12#secret@localhost:6379/0",
    "redis://user:secret@localhost:6379/0?socket_timeout=soon",
    "redis://user:secret@localhost:6379/0?unknown=secret",
]


@pytest.mark.parametrize("url", GOOD)
async def test_a_good_url_is_accepted(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    async with create_app().test_app():
        pass


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_stops_the_start(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    (line,) = str(stopped.value).splitlines()
    assert line.startswith(
        ("REDIS_URL: is not a valid URL; for example redis://", "REDIS_URL: has")
    )
    assert not any(part in line for part in ("secret", "sec#", "#ret"))
