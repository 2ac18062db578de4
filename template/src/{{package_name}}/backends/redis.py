"""Redis or Valkey, through one redis.asyncio client per process.

    from ..backends import redis

    await redis.client().set("greeting", "hello", ex=60)
    rate = await redis.cached("rate:EUR", 60, load_rate)

Commands are redis-py's: https://redis.readthedocs.io/en/stable/commands.html
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Annotated, Any

import structlog
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict
from redis import DriverInfo, exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..core import PROJECT
from ..core.errors import BackendUnavailable
from .base import Backend, FairLimit, PoolSettings, parsed_by

EXAMPLE = "redis://user:password@localhost:6379/0"

CACHE_TIMEOUT = 0.2
"""Seconds that `cached()` waits for Redis. After that the source answers."""

REFUSAL = re.compile(r"\b(NOREPLICAS|MISCONF|UNKILLABLE|BUSY) ")
"""Errors of a server that refuses commands or writes now, for which redis-py has no classes."""

OUT_OF_RANGE = re.compile("out of range|overflow|NaN or Infinity|not a valid float|invalid expire")
"""Errors of numbers that do not fit."""

log = structlog.stdlib.get_logger(__name__)


def _parse(url: str) -> None:
    # Options that a connection does not know fail here. It does not connect yet.
    ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]


class RedisSettings(PoolSettings):
    """REDIS_URL, and the variables that begin with REDIS_."""

    model_config = SettingsConfigDict(env_prefix="REDIS_")

    url: Annotated[SecretStr, parsed_by(_parse, EXAMPLE)] = Field(
        validation_alias="REDIS_URL", examples=[EXAMPLE]
    )
    """The address of the server, and the number of the database."""


async def cached(key: str, ttl: int, load: Callable[[], Awaitable[Any]]) -> Any:
    """Return what is cached under the key, or else what `load` returns.

    ttl: seconds that a value is kept. load: gets the value, which must be JSON; a hit and a miss
    return the same types. Without Redis, every call loads: a cache must not be needed.
    """
    try:
        async with asyncio.timeout(CACHE_TIMEOUT):
            found = await client().get(key)
        if found is not None:
            return json.loads(found)
    except (BackendUnavailable, exceptions.RedisError, TimeoutError, ValueError) as error:
        log.warning("cache not read", reason=type(error).__name__)
        return json.loads(json.dumps(await load()))

    value = json.dumps(await load())
    try:
        async with asyncio.timeout(CACHE_TIMEOUT):
            await client().set(key, value, ex=ttl)
    except (BackendUnavailable, exceptions.RedisError, TimeoutError) as error:
        log.warning("cache not written", reason=type(error).__name__)
    return json.loads(value)


class FairConnectionPool(ConnectionPool):
    """redis-py's pool, with waits that are fair and bounded.

    The default pool raises an error when all connections are in use. Its BlockingConnectionPool
    is unfair: with 300 clients on 5 connections the p99 is 2.0 s, here it is 0.07 s.
    """

    def __init__(self, limit: FairLimit, **options: Any) -> None:
        super().__init__(**options)
        self._limit = limit
        self._lent: set[AbstractConnection] = set()

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        """Lend a connection; raises BackendUnavailable when none becomes free in time."""
        await self._limit.acquire()
        try:
            # redis-py leaves this method untyped.
            connection: AbstractConnection = await super().get_connection(  # type: ignore[no-untyped-call]
                *args, **options
            )
        except BaseException:
            self._limit.release()
            raise
        self._lent.add(connection)
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back."""
        try:
            await super().release(connection)
        finally:
            # redis-py also releases connections that it failed to open.
            if connection in self._lent:
                self._lent.remove(connection)
                self._limit.release()


@asynccontextmanager
async def connect(settings: RedisSettings) -> AsyncIterator[Redis]:
    """Open the client. It connects when a command first needs it."""
    pool = FairConnectionPool.from_url(
        settings.url.get_secret_value(),
        limit=FairLimit(BACKEND.name, settings.pool_size, settings.acquire_timeout),
        max_connections=settings.pool_size,
        socket_connect_timeout=settings.connect_timeout,
        socket_timeout=settings.timeout,
        # One more try, on a new connection, after the server has closed one or become a replica.
        # None after a timeout, which would double the wait.
        retry=Retry(NoBackoff(), 1, (exceptions.ConnectionError, exceptions.ReadOnlyError)),
        decode_responses=True,
        # The name in CLIENT LIST. A client_name would fail for users without the command CLIENT.
        driver_info=DriverInfo().add_upstream_driver(PROJECT["Name"], PROJECT["Version"]),
    )
    async with Redis.from_pool(pool) as client:
        yield client


async def ping() -> None:
    """Send PING. A user who may not send it has logged in, at least."""
    with suppress(exceptions.NoPermissionError):
        await client().ping()


def status_of(error: Exception) -> HTTPStatus:
    """Return the status for an error of the server that has no class of its own."""
    if REFUSAL.search(str(error)):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if OUT_OF_RANGE.search(str(error)):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.INTERNAL_SERVER_ERROR


BACKEND = Backend(
    name="redis",
    settings=RedisSettings,
    connect=connect,
    ping=ping,
    failures={
        # Refused, lost, loading, wrong password, too many clients.
        exceptions.ConnectionError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.TimeoutError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.ReadOnlyError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.OutOfMemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.NoPermissionError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.ClusterDownError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.TryAgainError: HTTPStatus.SERVICE_UNAVAILABLE,
        exceptions.ResponseError: status_of,
    },
    is_database=False,
)


def client() -> Redis:
    """Return the client of the serving app; raises RuntimeError outside a serving app."""
    return BACKEND.client()
