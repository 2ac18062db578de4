"""What FastAPI and plain Quart share: the models and queries of the examples, and their clients."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import asyncpg
from pydantic import AfterValidator, BaseModel, Field
from redis.asyncio import Redis

ROWS, COMMANDS = 10, 50
"""Connections to PostgreSQL and to Redis, as a service has them."""

ACQUIRE_TIMEOUT = 1.0

MAX_ID = 2**63 - 1

CREATE = "INSERT INTO notes (title, body) VALUES ($1, $2) RETURNING *"
READ = "SELECT * FROM notes WHERE id = $1"
LIST = "SELECT * FROM notes WHERE id < $1 ORDER BY id DESC LIMIT $2"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")
    return text


Text: TypeAlias = Annotated[str, AfterValidator(_without_nul)]


class NewNote(BaseModel):
    """What a client sends."""

    title: Annotated[Text, Field(min_length=1, max_length=200)]
    body: Annotated[Text, Field(max_length=10_000)] = ""


class Note(BaseModel):
    """A note."""

    id: int
    title: str
    body: str
    created_at: datetime


class Page(BaseModel):
    """The part of the list that a client wants."""

    limit: int = Field(20, ge=1, le=100)
    before: int = Field(MAX_ID, ge=1, le=MAX_ID)


class Notes(BaseModel):
    """A part of the list, and the address of the following one."""

    notes: list[Note]
    next: str | None


class Counter(BaseModel):
    """A counter and its value."""

    name: str
    value: int


class UnavailableError(Exception):
    """No connection became free in time."""


class Limit:
    """At most some holders at a time; others wait, first come, first served, for a second."""

    def __init__(self, size: int) -> None:
        """size: holders at a time."""
        self._free = asyncio.Semaphore(size)

    async def __aenter__(self) -> None:
        """Wait for a place; raises UnavailableError."""
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                await self._free.acquire()
        except TimeoutError as error:
            raise UnavailableError from error

    async def __aexit__(self, *_: object) -> None:
        """Give the place to whoever has waited longest."""
        self._free.release()


class Clients:
    """asyncpg's pool, with its own reset, and a Redis client, each behind a limit."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open them inside the serving loop, and close them at the end."""
        self._rows, self._commands = Limit(ROWS), Limit(COMMANDS)
        self._pool = await asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=0, max_size=ROWS, timeout=1.5, command_timeout=5
        )
        self._redis = Redis.from_url(
            os.environ["REDIS_URL"],
            max_connections=COMMANDS,
            socket_connect_timeout=1.5,
            socket_timeout=5,
            decode_responses=True,
        )
        try:
            yield
        finally:
            await self._redis.aclose()
            await self._pool.close()

    async def fetchrow(self, query: str, *args: object) -> Any:
        """Return the first row of a query, or None."""
        async with self._rows, self._pool.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Return the rows of a query."""
        async with self._rows, self._pool.acquire() as connection:
            rows: list[Any] = await connection.fetch(query, *args)
            return rows

    async def counter(self, name: str) -> Counter:
        """Return a counter."""
        async with self._commands:
            value = await self._redis.get(f"counter:{name}")
        return Counter(name=name, value=int(value or 0))
