"""The cache: a value is loaded once, and Redis is not needed."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any
from uuid import uuid4

import pytest
from dev import redis as kind
from dev.server import DevServer, Server
from orders.backends import redis
from orders.backends.redis import CACHE_TIMEOUT, cached
from quart import Quart

CreateApp = Callable[[], Quart]


class Source:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def load(self) -> dict[str, int]:
        self.asked += 1
        return {"asked": self.asked}


@pytest.fixture
def key() -> str:
    return f"test:{uuid4()}"


async def test_the_source_is_asked_once_while_a_value_is_kept(key: str, app: Quart) -> None:
    source = Source()

    async with app.test_app(), app.app_context():
        first = await cached(key, 60, source.load)
        second = await cached(key, 60, source.load)
        ttl = await redis.client().ttl(key)
        await redis.client().delete(key)
        third = await cached(key, 60, source.load)

    assert (first, second, third) == ({"asked": 1}, {"asked": 1}, {"asked": 2})
    assert 0 < ttl <= 60


@pytest.mark.parametrize(
    "value", [None, 0, "", "Zoë", [], (1, (2, 3)), {"a": (1,)}, {1: {2: None}}, 1.5, True]
)
async def test_a_hit_and_a_miss_return_the_same(
    value: Any, key: str, app: Quart, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = 0

    async def load() -> Any:
        nonlocal loaded
        loaded += 1
        return value

    async with app.test_app(), app.app_context():
        miss = await cached(key, 60, load)
        hit = await cached(key, 60, load)
        await redis.client().connection_pool.disconnect()
        with monkeypatch.context() as patch:
            patch.setattr(redis.BACKEND.client(), "execute_command", hangs)
            without = await cached(key, 60, load)

    assert loaded == 2
    assert repr(miss) == repr(hit) == repr(without)


async def hangs(*_: Any, **__: Any) -> None:
    await asyncio.sleep(60)


async def test_a_value_that_is_not_json_is_an_error_with_and_without_redis(
    key: str, app: Quart, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load() -> Any:
        return datetime.now(UTC)

    async with app.test_app(), app.app_context():
        with pytest.raises(TypeError):
            await cached(key, 60, load)
        monkeypatch.setattr(redis.BACKEND.client(), "execute_command", hangs)
        with pytest.raises(TypeError):
            await cached(key, 60, load)


async def test_an_error_of_the_source_is_raised(key: str, app: Quart) -> None:
    async def load() -> Any:
        raise ZeroDivisionError

    async with app.test_app(), app.app_context():
        with pytest.raises(ZeroDivisionError):
            await cached(key, 60, load)


async def test_what_others_have_stored_there_does_no_harm(key: str, app: Quart) -> None:
    async with app.test_app(), app.app_context():
        await redis.client().set(key, "{not json")
        assert await cached(key, 60, Source().load) == {"asked": 1}
        await redis.client().delete(key)
        await redis.client().lpush(key, "a list")
        assert await cached(key, 60, Source().load) == {"asked": 1}


async def test_without_redis_the_source_answers(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    app = create_app()

    async with app.test_app(), app.app_context():
        assert await cached("key", 60, Source().load) == {"asked": 1}


async def test_a_busy_pool_is_not_waited_for(
    key: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_POOL_SIZE", "1")
    app = create_app()

    async with app.test_app(), app.app_context():
        waiting = asyncio.ensure_future(redis.client().blpop([f"{key}:list"]))
        await asyncio.sleep(0.05)
        started = perf_counter()
        answer = await cached(key, 60, Source().load)
        seconds = perf_counter() - started
        waiting.cancel()

    assert answer == {"asked": 1}
    assert CACHE_TIMEOUT <= seconds < 5 * CACHE_TIMEOUT


@pytest.fixture
def server(own_server: Callable[[DevServer], Server]) -> Server:
    """Start a server that only this test uses."""
    return own_server(kind)


async def test_a_frozen_server_is_not_waited_for(server: Server, create_app: CreateApp) -> None:
    app, source = create_app(), Source()

    async with app.test_app(), app.app_context():
        assert await cached("key", 60, source.load) == {"asked": 1}
        await asyncio.to_thread(server.freeze)
        started = perf_counter()
        answers = await asyncio.gather(*(cached("key", 60, source.load) for _ in range(5)))
        seconds = perf_counter() - started
        await asyncio.to_thread(server.thaw)
        recovering = perf_counter()
        while await cached("key", 60, source.load) != {"asked": 1}:
            assert perf_counter() - recovering < 2, "no recovery"

    assert {answer["asked"] for answer in answers} == {2, 3, 4, 5, 6}
    assert seconds < 5 * CACHE_TIMEOUT
