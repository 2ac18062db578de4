"""A Redis server that refuses: requests get a 503, and it heals when the cause is gone."""

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from dev import redis as kind
from dev.server import DevServer, Server
from orders.backends import redis
from quart import Quart
from quart.typing import TestClientProtocol as Client
from redis import Redis

CreateApp = Callable[[], Quart]


@asynccontextmanager
async def serving(create_app: CreateApp) -> AsyncIterator[Client]:
    """Serve endpoints that write, one by one and in a pipeline."""
    app = create_app()

    @app.post("/write")
    async def write() -> str:
        return str(await redis.client().incr("written"))

    @app.post("/pipeline")
    async def pipeline() -> str:
        async with redis.client().pipeline() as commands:
            commands.incr("written")
            return str(await commands.execute())

    async with app.test_app():
        client = app.test_client()
        writing = (client.post("/write") for _ in range(3))
        assert {response.status_code for response in await asyncio.gather(*writing)} == {200}
        yield client


async def seconds_until_it_works(client: Client, path: str) -> float:
    """Return the seconds until five requests in a row succeed. No request may get a 500."""
    started = perf_counter()
    in_a_row = 0
    while in_a_row < 5:
        status = (await client.post(path)).status_code
        assert status in {200, 503}
        in_a_row = in_a_row + 1 if status == 200 else 0
        assert perf_counter() - started < 5, "no recovery"
        await asyncio.sleep(0.01)
    return perf_counter() - started


@pytest.fixture
def server(own_server: Callable[[DevServer], Server]) -> Server:
    """Start a server that only this test uses."""
    return own_server(kind)


CAUSES = {
    "too few replicas": (
        ["CONFIG SET min-replicas-to-write 1"],
        ["CONFIG SET min-replicas-to-write 0"],
    ),
    "out of memory": (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
    "a replica after a failover": (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]),
    "no more clients": (
        ["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal SKIPME yes"],
        ["CONFIG SET maxclients 1000"],
    ),
    "another password": (
        ["CONFIG SET requirepass second", "CLIENT KILL TYPE normal SKIPME yes"],
        ["ACL SETUSER default nopass"],
    ),
    "a user without rights": (
        ["ACL SETUSER default -@all +acl"],
        ["ACL SETUSER default +@all"],
    ),
}


@pytest.mark.parametrize("path", ["/write", "/pipeline"])
@pytest.mark.parametrize("cause", CAUSES)
async def test_a_refusal_is_a_503_until_its_cause_is_gone(
    cause: str, path: str, server: Server, create_app: CreateApp
) -> None:
    begin, end = CAUSES[cause]
    with Redis.from_url(server.url) as administrator:

        def run(commands: list[str]) -> None:
            for command in commands:
                administrator.execute_command(*command.split())

        await asyncio.to_thread(administrator.ping)
        async with serving(create_app) as client:
            await asyncio.to_thread(run, begin)
            for _ in range(4):
                response = await client.post(path)
                assert response.status_code == 503
                assert response.headers["Retry-After"] == "1"
            assert (await client.get("/health/live")).status_code == 200

            await asyncio.to_thread(run, end)
            assert await seconds_until_it_works(client, path) < 2


class Address:
    """An address that leads to the primary, whichever server that is."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)
        forward = asyncio.create_task(self._copy(reader, to_writer))
        await self._copy(to_reader, writer)
        forward.cancel()

    async def _copy(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@pytest.fixture
def new_primary(server: Server, tmp_path: Path) -> Iterator[Server]:
    """Start a second server."""
    with kind.start(tmp_path / "new", durable=False) as new_primary:
        yield new_primary


@pytest.mark.parametrize("path", ["/write", "/pipeline"])
async def test_after_a_failover_the_old_primary_is_left(
    path: str,
    server: Server,
    new_primary: Server,
    create_app: CreateApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on as a replica, with open connections to it. No request fails."""
    address = Address(server.port)
    proxy = await asyncio.start_server(address.serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    monkeypatch.setenv(kind.VARIABLE, server.url.replace(str(server.port), str(port)))

    def demote() -> None:
        with Redis.from_url(server.url) as administrator:
            administrator.execute_command("REPLICAOF", "127.0.0.1", "1")

    async with serving(create_app) as client:
        await asyncio.to_thread(demote)
        address.port = new_primary.port
        for _ in range(5):
            assert (await client.post(path)).status_code == 200
    proxy.close()


REPLIES = {
    "LOADING Redis is loading the dataset in memory": 503,
    "MISCONF Errors writing to the AOF file": 503,
    "MASTERDOWN Link with MASTER is down": 503,
    "BUSY Redis is busy running a script": 503,
    "NOREPLICAS Not enough good replicas to write.": 503,
    "READONLY You can't write against a read only replica.": 503,
    "OOM command not allowed when used memory > 'maxmemory'.": 503,
    "CLUSTERDOWN The cluster is down": 503,
    "TRYAGAIN Multiple keys request during rehashing of slot": 503,
    "NOPERM User default has no permissions": 503,
    "NOAUTH Authentication required.": 503,
    "WRONGPASS invalid username-password pair": 503,
    "ERR max number of clients reached": 503,
    "ERR value is not an integer or out of range": 422,
    "ERR increment or decrement would overflow": 422,
    "ERR unknown command": 500,
    "WRONGTYPE Operation against a key holding the wrong kind of value": 500,
}


@pytest.mark.parametrize(("reply", "status"), REPLIES.items())
async def test_the_errors_of_the_server_have_their_status(
    reply: str, status: int, app: Quart
) -> None:
    @app.get("/fail")
    async def fail() -> str:
        script = "return redis.error_reply(ARGV[1])"
        return str(await redis.client().eval(script, 0, reply))

    async with app.test_app(), app.app_context():
        assert (await app.test_client().get("/fail")).status_code == status
        assert await redis.client().ping()


@pytest.fixture
def user(databases: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have the service log in as a user who may read and write, and nothing else."""
    name = f"user_{uuid4().hex}"
    server = os.environ[kind.VARIABLE]
    parts = urlsplit(server)
    with Redis.from_url(server) as administrator:
        administrator.execute_command(
            *("ACL", "SETUSER", name, "on", ">secret", "~*", "+@read", "+@write")
        )
        netloc = f"{name}:secret@{parts.hostname}:{parts.port}"
        monkeypatch.setenv(
            kind.VARIABLE, urlunsplit(parts._replace(netloc=netloc, path="", query=""))
        )
        yield name
        administrator.execute_command("ACL", "DELUSER", name)


async def test_a_user_without_the_commands_client_and_ping(user: str, app: Quart) -> None:
    async with app.test_app(), app.app_context():
        report = await (await app.test_client().get("/health/ready")).get_json()
        assert report["backends"]["redis"]["status"] == "ok"
        client: Any = redis.client()
        assert await client.set(f"of:{user}", "a", ex=5)
        assert await client.get(f"of:{user}") == "a"
        assert await redis.cached(f"cached:{user}", 5, load) == 1
        await client.delete(f"of:{user}", f"cached:{user}")


async def load() -> int:
    return 1
