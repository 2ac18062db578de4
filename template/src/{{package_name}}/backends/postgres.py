"""PostgreSQL, through one asyncpg pool per process.

    from ..backends import postgres

    row = await postgres.pool().fetchrow("SELECT title FROM notes WHERE id = $1", note_id)

    async with postgres.pool().acquire() as connection, connection.transaction():
        await connection.execute("UPDATE ...")
        await connection.execute("INSERT ...")

Queries and types are asyncpg's: https://magicstack.github.io/asyncpg/current/
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from inspect import signature
from time import perf_counter
from typing import Annotated, Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

import asyncpg
import structlog
from asyncpg import connect_utils
from asyncpg.pool import PoolConnectionProxy
from pydantic import Field, PositiveInt
from pydantic_settings import SettingsConfigDict

from ..core import PROJECT
from ..core.errors import BackendUnavailable
from .base import REPLACE_EVERY, Backend, FairLimit, InvalidUrl, PoolSettings, SecretUrl, parsed_by

Record: TypeAlias = asyncpg.Record
Connection: TypeAlias = "PoolConnectionProxy[Record]"

log = structlog.stdlib.get_logger(__name__)

EXAMPLE = "postgresql://user:password@localhost:5432/database"

IGNORED_OPTIONS = {
    *("channel_binding", "connect_timeout", "gssencmode", "sslsni"),
    *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
}
"""Options of libpq without which a connection works: POSTGRES_CONNECT_TIMEOUT bounds it."""

SERVER_OPTIONS = {
    *("application_name", "idle_in_transaction_session_timeout", "jit", "lock_timeout", "options"),
    *("search_path", "statement_timeout", "timezone"),
}
"""Options that asyncpg passes to the server. The server refuses connections with unknown ones."""

REFUSED: tuple[type[Exception], ...] = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)
"""Errors that stay with the connections, such as those of a primary that became a replica. All
connections are replaced, so that the next query meets the server as it is then."""


def read_url(url: str) -> str:
    """Return the URL without options that asyncpg does not have.

    Raises InvalidUrl, which names what is wrong, or another error of asyncpg's parser.
    """
    before, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if options.get("channel_binding") == "require":
        raise InvalidUrl("has channel_binding=require, which asyncpg does not support")
    kept = {name: value for name, value in options.items() if name not in IGNORED_OPTIONS}
    cleaned = f"{before}?{urlencode(kept)}" if kept else before
    parse: Any = connect_utils._parse_connect_dsn_and_args  # type: ignore[attr-defined]
    _, parsed = parse(**dict.fromkeys(signature(parse).parameters) | {"dsn": cleaned})
    for name in set(parsed.server_settings or ()) - SERVER_OPTIONS:
        raise InvalidUrl(f"has the option {name}, which asyncpg does not support")
    return cleaned


class PostgresSettings(PoolSettings):
    """DATABASE_URL, and the variables that begin with POSTGRES_."""

    model_config = SettingsConfigDict(env_prefix="POSTGRES_")

    url: Annotated[SecretUrl, parsed_by(read_url, EXAMPLE)] = Field(
        validation_alias="DATABASE_URL", examples=[EXAMPLE]
    )
    """The address of the database."""

    pool_size: PositiveInt = 10
    """Connections that one process opens."""

    pooler: bool = False
    """Whether the address is that of a pooler in transaction mode, such as PgBouncer. Statements
    are then not prepared."""

    def connection_options(self) -> dict[str, Any]:
        """Return the arguments of `asyncpg.connect` and `asyncpg.create_pool`."""
        return {
            "dsn": read_url(self.url.get_secret_value()),
            "timeout": self.connect_timeout,
            "statement_cache_size": 0 if self.pooler else 100,
            "server_settings": {"application_name": PROJECT["Name"]},
        }


class Pool:
    """asyncpg's pool, with waits that are fair and bounded.

    asyncpg serves the newest waiter first and lets waiters wait for ever: with 500 clients the p99
    is 3 s, and 0.26 s with the queue in front.
    """

    def __init__(self, pool: "asyncpg.Pool[Record]", settings: PostgresSettings) -> None:
        self._pool = pool
        self._limit = FairLimit(BACKEND.name, settings.pool_size, settings.acquire_timeout)
        self._settings = settings
        self._cleaning: set[asyncio.Task[None]] = set()
        self._replaced = 0.0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend a connection for an `async with` block.

        POSTGRES_TIMEOUT bounds each query in the block. Raises BackendUnavailable when no
        connection becomes free, or when the connection is lost inside the block.
        """
        connection = await self._take()
        try:
            yield connection
        except BaseException as error:
            if isinstance(error, REFUSED) and perf_counter() > self._replaced + REPLACE_EVERY:
                # A query replaces each connection when it next needs it.
                self._replaced = perf_counter()
                await self._pool.expire_connections()
            # An interrupted query has to be cancelled, and a transaction to be rolled back. The
            # caller need not wait for that.
            cleaning = asyncio.create_task(self._give_back(connection))
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)
            if isinstance(error, TimeoutError | OSError) or (
                isinstance(error, asyncpg.InterfaceError)
                and not isinstance(error, asyncpg.DataError)
                and _is_closed(connection)
            ):
                raise BackendUnavailable("the connection to postgres failed") from error
            raise
        await self._give_back(connection)

    async def fetch(self, query: str, *args: object) -> list[Record]:
        """Run a query and return its rows."""
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """Run a query and return its first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        """Run a query and return the first column of its first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a command and return its status, such as "INSERT 0 1"."""
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def _take(self) -> Connection:
        await self._limit.acquire()
        try:
            return await self._pool.acquire()
        except BaseException as error:
            self._limit.release()
            if isinstance(error, OSError | TimeoutError | asyncpg.PostgresError):
                reason = f"cannot connect to postgres: {type(error).__name__}"
                raise BackendUnavailable(reason) from error
            raise

    async def _give_back(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection, timeout=self._settings.acquire_timeout)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # asyncpg has closed the connection. The pool opens another one when it needs it.
            log.warning("connection dropped", backend=BACKEND.name, reason=type(error).__name__)
        finally:
            self._limit.release()


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The server has ended the connection, and the pool has removed it.
        return True


@asynccontextmanager
async def connect(settings: PostgresSettings) -> AsyncIterator[Pool]:
    """Open the pool. It connects when a query first needs it."""
    pool = await asyncpg.create_pool(
        **settings.connection_options(),
        min_size=0,
        max_size=settings.pool_size,
        command_timeout=settings.timeout,
    )
    try:
        yield Pool(pool, settings)
    finally:
        try:
            await pool.close()
        except asyncio.CancelledError:
            pool.terminate()
            raise


async def ping() -> None:
    """Run a trivial query."""
    await pool().fetchval("SELECT 1")


UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE

BACKEND = Backend(
    name="postgres",
    settings=PostgresSettings,
    connect=connect,
    ping=ping,
    failures={
        **dict.fromkeys(REFUSED, UNAVAILABLE),
        asyncpg.PostgresConnectionError: UNAVAILABLE,
        # Shutdown, crash, start-up and statement_timeout.
        asyncpg.OperatorInterventionError: UNAVAILABLE,
        # Too many connections, full disk, out of memory.
        asyncpg.InsufficientResourcesError: UNAVAILABLE,
        asyncpg.IdleInTransactionSessionTimeoutError: UNAVAILABLE,
        asyncpg.LockNotAvailableError: UNAVAILABLE,
        # Deadlocks and serialization failures.
        asyncpg.TransactionRollbackError: UNAVAILABLE,
        # The server ended a connection just when a query began.
        asyncpg.InternalClientError: UNAVAILABLE,
        asyncpg.DataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    },
    is_database=True,
)


def pool() -> Pool:
    """Return the pool of the serving app; raises RuntimeError outside a serving app."""
    return BACKEND.client()
