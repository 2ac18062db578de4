"""The servers behind the service: the ones for development, and an upstream that misbehaves."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from aiohttp import web
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from service.kinds import Kind, Server

SERVICE = "orders"
"""By which name the backends know the connections of the service."""


class Backend:
    """One backend of the service, with the server that plays it."""

    def __init__(self, kind: Kind, directory: Path, *, durable: bool = False) -> None:
        """directory: for the server's data. durable: whether these outlive the server."""
        self._kind = kind
        self._durable = durable
        self._directory = directory
        self._server: Server | None = None
        self.name = {"upstream": "http"}.get(kind.NAME, kind.NAME)
        self.variable = kind.VARIABLE

    @property
    def url(self) -> str:
        """Where the server is."""
        assert self._server is not None
        return self._server.url

    async def start(self) -> None:
        """Start the server, again on the same port, and return once it is ready."""
        port = self._server.port if self._server else None
        self._server = await asyncio.to_thread(
            self._kind.start, self._directory, durable=self._durable, port=port
        )

    def with_data(self, directory: Path) -> "Backend":
        """Return another one, which keeps its data in a directory. It has not started."""
        return Backend(self._kind, directory, durable=True)

    async def prepare(self) -> None:
        """Make the tables, if it has any."""
        await asyncio.to_thread(self._kind.prepare, self.url)

    async def kill(self) -> None:
        """Kill the server, and return once it is gone."""
        assert self._server is not None
        await asyncio.to_thread(self._server.kill)

    async def freeze(self) -> None:
        """Stop the server's processes where they are."""
        assert self._server is not None
        self._server.freeze()

    async def thaw(self) -> None:
        """Let them go on."""
        assert self._server is not None
        self._server.thaw()

    async def stop(self) -> None:
        """Stop the server in good order."""
        if self._server is not None:
            self._server.thaw()
            await asyncio.to_thread(self._server.stop)


@asynccontextmanager
async def backends(directory: Path) -> AsyncIterator[dict[str, Backend]]:
    """Start all backends, prepare them, lend them by name, and stop them."""
    kinds: list[Kind] = importlib.import_module("service.backends").KINDS
    found = [Backend(kind, directory / kind.NAME) for kind in kinds]
    try:
        await asyncio.gather(*(backend.start() for backend in found))
        await asyncio.gather(*(backend.prepare() for backend in found))
        yield {backend.name: backend for backend in found}
    finally:
        await asyncio.gather(*(backend.stop() for backend in found))


@dataclass(frozen=True)
class Connections:
    """What the service has open at a backend, by the backend's own account."""

    open: int
    busy: int
    """With a command or a transaction that has not ended."""


async def at_postgres(url: str) -> Connections:
    """Ask pg_stat_activity."""
    connection = await asyncpg.connect(url, timeout=2)
    try:
        row = await connection.fetchrow(
            "SELECT count(*) AS open, count(*) FILTER (WHERE state <> 'idle') AS busy"
            " FROM pg_stat_activity WHERE application_name = $1",
            SERVICE,
        )
        assert row is not None
        return Connections(row["open"], row["busy"])
    finally:
        await connection.close()


async def at_mongo(url: str) -> Connections:
    """Ask $currentOp, which tells the connections of serverStatus().connections apart."""
    async with AsyncMongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=2000) as client:
        stages: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": True, "idleConnections": True, "idleSessions": True}},
            {"$match": {"appName": SERVICE}},
        ]
        connections = [one async for one in await client.admin.aggregate(stages)]
    # The driver keeps one command waiting, on a connection of its own, to hear of changes.
    busy = [
        one
        for one in connections
        if (one.get("active") and "hello" not in one.get("command", {})) or "transaction" in one
    ]
    return Connections(len(connections), len(busy))


async def at_redis(url: str) -> Connections:
    """Ask CLIENT LIST."""
    async with Redis.from_url(url, socket_timeout=2) as client:
        connections = [one for one in await client.client_list() if SERVICE in one["lib-name"]]
    # Queued commands of a transaction, unread input, or unsent output.
    busy = [
        one for one in connections if one["multi"] != "-1" or int(one["qbuf"]) or int(one["oll"])
    ]
    return Connections(len(connections), len(busy))


COUNTED = {"postgres": at_postgres, "mongo": at_mongo, "redis": at_redis}


async def connections(servers: dict[str, Backend]) -> dict[str, Connections]:
    """Return what the service has open at each backend that keeps count."""
    found = await asyncio.gather(*(ask(servers[name].url) for name, ask in COUNTED.items()))
    return dict(zip(COUNTED, found, strict=True))


@asynccontextmanager
async def locked_notes(url: str) -> AsyncIterator[None]:
    """Lock the table, so that all queries of it wait, for the length of the `with` block."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE notes")
            yield
    finally:
        await connection.close()


@dataclass(frozen=True)
class Refusal:
    """A server that runs, and refuses."""

    name: str
    backend: str
    applied: Callable[[str], AbstractAsyncContextManager[None]]
    """Makes the server at a URL refuse, for the length of an `async with` block."""

    of_reads: bool = False
    """Whether the server also refuses, or interrupts, what only reads."""


@asynccontextmanager
async def _postgres(url: str, setting: str, refusing: str, usual: str) -> AsyncIterator[None]:
    """Change a setting of the database, and end the connections, which know the old value."""
    connection = await asyncpg.connect(url)
    name = f'"{await connection.fetchval("SELECT current_database()")}"'
    try:
        await connection.execute(f"ALTER DATABASE {name} SET {setting} = {refusing}")
        await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = $1",
            SERVICE,
        )
        yield
    finally:
        await connection.execute(f"ALTER DATABASE {name} SET {setting} = {usual}")
        await connection.close()


@asynccontextmanager
async def _slow_postgres(url: str) -> AsyncIterator[None]:
    """Let all queries of the table wait, and time out."""
    async with _postgres(url, "statement_timeout", "100", "0"), locked_notes(url):
        yield


@asynccontextmanager
async def _closed_postgres(url: str) -> AsyncIterator[None]:
    """Let the database accept no connections."""
    async with _postgres(url, "statement_timeout", "0", "0"):
        database = urlsplit(url).path.removeprefix("/")
        admin = await asyncpg.connect(urlsplit(url)._replace(path="/template1").geturl())
        try:
            await admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = $1",
                SERVICE,
            )
            yield
        finally:
            await admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
            await admin.close()


@asynccontextmanager
async def _redis(
    url: str, *commands: tuple[str, ...], usual: tuple[str, ...]
) -> AsyncIterator[None]:
    """Change a setting of the server."""
    async with Redis.from_url(url) as client:
        for command in commands:
            await client.execute_command(*command)
        try:
            yield
        finally:
            await client.execute_command(*usual)


@asynccontextmanager
async def _mongo(url: str) -> AsyncIterator[None]:
    """Let the primary step down. Nobody else is there to be elected."""
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        down = {"replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 0, "force": True}
        await client.admin.command(down)
        try:
            yield
        finally:
            await client.admin.command("replSetFreeze", 0)


REFUSALS = [
    Refusal(
        "PostgreSQL read-only",
        "postgres",
        lambda url: _postgres(url, "default_transaction_read_only", "on", "off"),
        of_reads=True,  # the moment in which connections end
    ),
    Refusal("PostgreSQL: statement timeout", "postgres", _slow_postgres, of_reads=True),
    Refusal("PostgreSQL closed", "postgres", _closed_postgres, of_reads=True),
    Refusal("MongoDB without a primary", "mongo", _mongo),
    Refusal(
        "Redis: NOREPLICAS",
        "redis",
        lambda url: _redis(
            url,
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            usual=("CONFIG", "SET", "min-replicas-to-write", "0"),
        ),
    ),
    Refusal(
        "Redis: out of memory",
        "redis",
        lambda url: _redis(
            url, ("CONFIG", "SET", "maxmemory", "1"), usual=("CONFIG", "SET", "maxmemory", "0")
        ),
    ),
    Refusal(
        "Redis: a replica",
        "redis",
        lambda url: _redis(url, ("REPLICAOF", "127.0.0.1", "1"), usual=("REPLICAOF", "NO", "ONE")),
    ),
    Refusal(
        "Redis: another password",
        "redis",
        lambda url: _redis(
            url,
            ("CONFIG", "SET", "requirepass", "another"),
            ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
            usual=("CONFIG", "SET", "requirepass", urlsplit(url).password or ""),
        ),
        of_reads=True,
    ),
]


class Mood(Enum):
    """How the upstream answers."""

    WELL = "well"
    """At once."""
    LATE = "late"
    """After LATE seconds."""
    SILENT = "silent"
    """Not before the client gives up."""
    BROKEN = "broken"
    """With 503, always."""
    RESETTING = "resetting"
    """By resetting the connection, always."""
    MOODY = "moody"
    """With 503 when first asked for a city, and well from then on."""


LATE = 0.7


class Upstream:
    """A web service that answers as it is told to."""

    def __init__(self) -> None:
        """Make one that is well."""
        self.mood = Mood.WELL
        self.waiting = 0
        """Requests that are being served."""
        self.seen: set[str] = set()
        """The ids of all requests."""
        self.url = ""
        self._cities: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Upstream"]:
        """Serve, on a free port."""
        app = web.Application()
        app.router.add_get("/", self._root)
        app.router.add_get("/weather/{city}", self._weather)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _weather(self, request: web.Request) -> web.Response:
        self.seen.add(request.headers.get("X-Request-ID", ""))
        self.waiting += 1
        try:
            return await self._answer(request)
        finally:
            self.waiting -= 1

    async def _answer(self, request: web.Request) -> web.Response:
        city = request.match_info["city"]
        match self.mood:
            case Mood.LATE:
                await asyncio.sleep(LATE)
            case Mood.SILENT:
                await asyncio.sleep(60)
            case Mood.BROKEN:
                return web.Response(status=503)
            case Mood.RESETTING:
                assert request.transport is not None
                request.transport.abort()
            case Mood.MOODY if city not in self._cities:
                self._cities.add(city)
                return web.Response(status=503)
            case _:
                pass
        return web.json_response({"city": city, "temperature_c": 1.0, "conditions": "cloudy"})


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait until an async function returns true; return whether it did so in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            # It is asked of servers elsewhere, which tell nobody when it becomes true.
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            return True
    return False
