"""The async clients as the generated service tunes them, for the contenders that have none."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

POOL_SIZE = 10
MORE = 50
ROW = "SELECT id, message FROM bench WHERE id = $1"


class Clients:
    """One client for each backend, and what the endpoints ask of them."""

    postgres: "asyncpg.Pool[Any]"
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    http: aiohttp.ClientSession

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open them inside the serving loop, and close them at the end."""
        self.slots = asyncio.Semaphore(POOL_SIZE)
        self.commands = asyncio.Semaphore(MORE)
        self.postgres = await asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=0, max_size=POOL_SIZE, command_timeout=5
        )
        self.mongo = AsyncMongoClient(os.environ["MONGODB_URI"], maxPoolSize=MORE)
        self.redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0)
        self.http = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        try:
            yield
        finally:
            await self.http.close()
            await self.redis.aclose()
            await self.mongo.close()
            await self.postgres.close()

    async def row(self) -> dict[str, Any]:
        """Ask PostgreSQL."""
        async with self.slots, self.postgres.acquire() as connection:
            row = await connection.fetchrow(ROW, 1)
        assert row is not None
        return dict(row)

    async def document(self) -> dict[str, Any]:
        """Ask MongoDB."""
        found = await self.mongo.get_default_database("orders").bench.find_one({"_id": 1})
        assert found is not None
        return dict(found)

    async def value(self) -> dict[str, Any]:
        """Ask Redis."""
        async with self.commands:
            return {"value": await self.redis.get("bench")}

    async def answer(self) -> dict[str, Any]:
        """Ask the web service."""
        async with self.http.get(os.environ["SLOW_URL"]) as response:
            found: dict[str, Any] = await response.json()
            return found

    async def everything(self) -> list[Any]:
        """Ask all of them at once."""
        return list(await asyncio.gather(self.row(), self.document(), self.value(), self.answer()))
