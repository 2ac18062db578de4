"""MongoDB, through one AsyncMongoClient per process.

    from ..backends import mongo

    await mongo.database().events.insert_one({"kind": "signup"})
    async for event in mongo.database().events.find({"kind": "signup"}):
        ...

The client is PyMongo's own: https://pymongo.readthedocs.io/en/stable/async-tutorial.html
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import perf_counter
from typing import Annotated, Any, TypeAlias

import pymongo
import structlog
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from pymongo import AsyncMongoClient, IndexModel, _csot
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.asynchronous.pool import AsyncConnection, Pool
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
)
from pymongo.uri_parser import parse_uri

from ..core import PROJECT
from .base import REPLACE_EVERY, Backend, FairLimit, PoolSettings, SecretUrl, parsed_by

Document: TypeAlias = dict[str, Any]
Database: TypeAlias = AsyncDatabase[Document]

EXAMPLE = "mongodb://user:password@localhost:27017/database"

RETRY_INDEXES_EVERY = 1.0
"""Seconds between two attempts to create the indexes."""

CLOSE_TIMEOUT = 0.2
"""Seconds that creating indexes may still take when the service stops."""

NOT_AUTHORIZED = 13

REFUSALS = {NOT_AUTHORIZED, 18, 91, 112, 189, 10107, 11600, 11602, 13435, 13436}
"""Codes of a server that refuses: not authorized, shutting down, write conflict, no primary.
https://www.mongodb.com/docs/manual/reference/error-codes/"""

log = structlog.stdlib.get_logger(__name__)


def _parse(url: str) -> None:
    # A look-up of mongodb+srv:// needs the network. Its options are the same.
    parse_uri(url.replace("mongodb+srv://", "mongodb://", 1))
    # A client checks more. It does not connect yet.
    AsyncMongoClient[Document](url)


class MongoSettings(PoolSettings):
    """MONGODB_URI, and the variables that begin with MONGODB_."""

    model_config = SettingsConfigDict(env_prefix="MONGODB_")

    url: Annotated[SecretUrl, parsed_by(_parse, EXAMPLE)] = Field(
        validation_alias="MONGODB_URI", examples=[EXAMPLE]
    )
    """The address of the server, and the database. The default database has the service's name."""


_indexes: dict[str, list[IndexModel]] = {}


def declare_indexes(collection: str, *indexes: IndexModel) -> None:
    """Have indexes of a collection created when the service starts.

    Call it where the collection is used, at import time. Creating an index that exists is free.
    """
    _indexes[collection] = list(indexes)


async def _create_indexes(client: "Client", database: Database) -> None:
    """Create the declared indexes; keep trying until that works."""
    while True:
        try:
            # The index of a large collection takes longer than MONGODB_TIMEOUT.
            with pymongo.timeout(0):
                for collection, indexes in _indexes.items():
                    await database[collection].create_indexes(indexes)
        except Exception as error:  # the next attempt may work, whatever it is
            code = getattr(error, "code", None)
            log.warning("indexes not created yet", reason=type(error).__name__, code=code)
            await asyncio.sleep(RETRY_INDEXES_EVERY)
        else:
            client.has_indexes.set()
            return


class FairPool(Pool):
    """PyMongo's pool, with waits that are fair and bounded.

    PyMongo's own wait must not be reached: on Python 3.11, a request that is cancelled twice in it,
    by a timeout and by a client who leaves, can block the pool for ever.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        size = int(self.opts.max_pool_size)
        self._limit = FairLimit(BACKEND.name, size, self.opts.wait_queue_timeout)
        self._lent: set[AsyncConnection] = set()
        self._replaced = 0.0

    async def _get_conn(self, *args: Any, **options: Any) -> AsyncConnection:
        """Lend a connection; raises BackendUnavailable when none becomes free in time."""
        # A retry by PyMongo has only what is left of MONGODB_TIMEOUT.
        await self._limit.acquire(within=_csot.remaining())
        try:
            connection = await super()._get_conn(*args, **options)
        except BaseException:
            self._limit.release()
            raise
        self._lent.add(connection)
        return connection

    async def checkin(self, conn: AsyncConnection) -> None:
        """Take a connection back. Replace all when the user has lost its rights.

        A user who is dropped and made anew keeps none on the connections that it had.
        """
        code = getattr(sys.exception(), "code", None)
        if code == NOT_AUTHORIZED and perf_counter() > self._replaced + REPLACE_EVERY:
            self._replaced = perf_counter()
            await self.reset_without_pause()
        try:
            await super().checkin(conn)
        finally:
            if conn in self._lent:
                self._lent.remove(conn)
                self._limit.release()


class Client(AsyncMongoClient[Document]):
    """PyMongo's client, which gives up after MONGODB_CONNECT_TIMEOUT when there is no server.

    With `timeoutMS`, PyMongo ignores `serverSelectionTimeoutMS`: while the server is down, every
    operation would wait for MONGODB_TIMEOUT.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.has_indexes = asyncio.Event()
        """Whether the declared indexes exist."""

    async def _select_server(self, *args: Any, **options: Any) -> Any:
        limit = self.options.server_selection_timeout
        with pymongo.timeout(limit):
            selecting = asyncio.create_task(super()._select_server(*args, **options))
        # Read the error even if nobody waits for it, so that asyncio does not report it.
        selecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        # The selection must not be cancelled with the request: on Python 3.11 that can break
        # PyMongo's lock, and later operations would wait for ever.
        await asyncio.wait([selecting], timeout=limit)
        if not selecting.done():
            raise ServerSelectionTimeoutError("no server answers")
        return selecting.result()


@asynccontextmanager
async def connect(settings: MongoSettings) -> AsyncIterator[Database]:
    """Open the client. It connects, and creates the indexes, in the background."""
    client = Client(
        settings.url.get_secret_value(),
        appname=PROJECT["Name"],
        tz_aware=True,
        maxPoolSize=settings.pool_size,
        # With PyMongo's 2, requests that need new connections wait for each other.
        maxConnecting=settings.pool_size,
        waitQueueTimeoutMS=round(settings.acquire_timeout * 1000),
        serverSelectionTimeoutMS=round(settings.connect_timeout * 1000),
        connectTimeoutMS=round(settings.connect_timeout * 1000),
        # After a failed login, PyMongo waits for the next report of the server: 10 s by default.
        heartbeatFrequencyMS=1000,
        timeoutMS=round(settings.timeout * 1000),
        _pool_class=FairPool,
    )
    async with client:
        database = client.get_default_database(PROJECT["Name"])
        creating = asyncio.create_task(_create_indexes(client, database))
        try:
            yield database
        finally:
            # PyMongo leaks a connection that is being made when it is cancelled.
            await asyncio.wait([creating], timeout=CLOSE_TIMEOUT)
            creating.cancel()


async def ping() -> None:
    """Send ping, and wait until the declared indexes exist."""
    client = database().client
    await client.admin.command("ping")
    if isinstance(client, Client):
        await client.has_indexes.wait()


def status_of(error: Exception) -> HTTPStatus:
    """Return the status for an error of the server."""
    refused = isinstance(error, OperationFailure) and (
        error.code in REFUSALS or error.has_error_label("RetryableWriteError")
    )
    return HTTPStatus.SERVICE_UNAVAILABLE if refused else HTTPStatus.INTERNAL_SERVER_ERROR


BACKEND = Backend(
    name="mongo",
    settings=MongoSettings,
    connect=connect,
    ping=ping,
    failures={
        # Refused, lost, no primary, no server in time.
        ConnectionFailure: HTTPStatus.SERVICE_UNAVAILABLE,
        ExecutionTimeout: HTTPStatus.SERVICE_UNAVAILABLE,
        # Not enough replicas confirmed a write in time.
        WriteConcernError: HTTPStatus.SERVICE_UNAVAILABLE,
        # The name in mongodb+srv:// cannot be looked up.
        ConfigurationError: HTTPStatus.SERVICE_UNAVAILABLE,
        OperationFailure: status_of,
        # An integer of more than 64 bits.
        OverflowError: HTTPStatus.UNPROCESSABLE_ENTITY,
    },
    is_database=True,
)


def database() -> Database:
    """Return the database of the serving app; raises RuntimeError outside a serving app."""
    return BACKEND.client()
