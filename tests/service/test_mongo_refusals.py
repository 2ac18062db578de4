"""A MongoDB server that refuses: requests get a 503, and it heals when the cause is gone."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dev import mongo as kind
from dev.server import DevServer, Server
from orders.backends import mongo
from pymongo import IndexModel, MongoClient, WriteConcern
from quart import Quart
from quart.typing import TestClientProtocol as Client

CreateApp = Callable[[], Quart]


@pytest.fixture(scope="module")
def administrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoClient[Any]]:
    """Return a client that may do everything, at a server that checks rights.

    It blocks: use it in threads.
    """
    folder = tmp_path_factory.mktemp("mongo")
    with kind.start(folder, durable=True) as server, MongoClient[Any](server.url) as client:
        client.admin.command("createUser", "root", pwd="secret", roles=["root"])
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text("secret")
    url = server.url.replace("//", "//root:secret@")

    def ask(_: str) -> None:
        with MongoClient[Any](url) as client:
            assert client.admin.command("hello")["isWritablePrimary"]

    def start(command: Sequence[str], _: object, **options: Any) -> Server:
        return Server([*command, "--keyFile", str(key)], ask, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "Server", start)
        server = kind.start(folder, durable=True, port=server.port)
    with server, MongoClient[Any](url) as client:
        yield client


class User:
    """A user that may read and write one database, and nothing else."""

    def __init__(self, administrator: MongoClient[Any]) -> None:
        self.name = f"user_{uuid4().hex}"
        self._address = "{}:{}".format(*administrator.address or ())
        self._database = administrator.refusing

    def run(self, command: str, **options: Any) -> None:
        self._database.command(command, self.name, **options)

    def url(self) -> str:
        return f"mongodb://{self.name}:first@{self._address}/refusing?directConnection=true"


@pytest.fixture
def user(administrator: MongoClient[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """Have the service log in as a user of its own."""
    user = User(administrator)
    user.run("createUser", pwd="first", roles=["readWrite"])
    url = user.url()
    monkeypatch.setenv(kind.VARIABLE, url)
    yield user
    user.run("dropUser")


@asynccontextmanager
async def serving(create_app: CreateApp) -> AsyncIterator[Client]:
    """Serve endpoints that read and write."""
    app = create_app()

    @app.post("/write")
    async def write() -> str:
        return str(await mongo.database().refused.insert_one({}))

    @app.post("/read")
    async def read() -> str:
        return str(await mongo.database().refused.find_one({}))

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


@pytest.mark.parametrize("path", ["/read", "/write"])
async def test_a_user_who_loses_rights_gets_a_503_until_they_are_back(
    path: str, user: User, create_app: CreateApp
) -> None:
    async with serving(create_app) as client:
        await asyncio.to_thread(user.run, "updateUser", roles=[])
        for _ in range(3):
            response = await client.post(path)
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"

        await asyncio.to_thread(user.run, "updateUser", roles=["readWrite"])
        assert await seconds_until_it_works(client, path) < 2


async def test_a_wrong_password_is_a_503(user: User, create_app: CreateApp) -> None:
    await asyncio.to_thread(user.run, "updateUser", pwd="second")
    app = create_app()

    @app.post("/read")
    async def read() -> str:
        return str(await mongo.database().refused.find_one({}))

    async with app.test_app():
        client = app.test_client()
        assert (await client.post("/read")).status_code == 503
        await asyncio.to_thread(user.run, "updateUser", pwd="first")
        assert await seconds_until_it_works(client, "/read") < 2


async def test_a_user_who_is_made_anew_is_let_in(user: User, create_app: CreateApp) -> None:
    """Connections of the former user stay without rights. A request replaces all of them."""
    async with serving(create_app) as client:
        await asyncio.to_thread(user.run, "dropUser")
        assert (await client.post("/read")).status_code == 503
        await asyncio.to_thread(user.run, "createUser", pwd="first", roles=["readWrite"])
        assert await seconds_until_it_works(client, "/read") < 2


@pytest.fixture
def server(own_server: Callable[[DevServer], Server]) -> Server:
    """Start a server that only this test uses."""
    return own_server(kind)


async def test_a_primary_that_steps_down(server: Server, create_app: CreateApp) -> None:
    def step_down() -> None:
        with MongoClient[Any](server.url) as client:
            client.admin.command("replSetStepDown", 2, force=True)

    async with serving(create_app) as client:
        await asyncio.to_thread(step_down)
        assert (await client.post("/write")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
        # It is elected again after 2 s.
        await asyncio.sleep(2)
        assert await seconds_until_it_works(client, "/write") < 2


async def test_a_write_that_too_few_replicas_confirm_is_a_503(app: Quart) -> None:
    @app.post("/write")
    async def write() -> str:
        concern = WriteConcern(w=2, wtimeout=50)
        collection = mongo.database().get_collection("refused", write_concern=concern)
        return str(await collection.insert_one({}))

    async with app.test_app():
        assert (await app.test_client().post("/write")).status_code == 503


async def test_what_is_a_bug_stays_a_500(app: Quart) -> None:
    @app.get("/wrong")
    async def wrong() -> str:
        return str(await mongo.database().refused.find_one({"$nonsense": 1}))

    @app.get("/twice")
    async def twice() -> str:
        await mongo.database().refused.insert_many([{"_id": 1}, {"_id": 1}])
        return "done"

    async with app.test_app():
        client = app.test_client()
        assert (await client.get("/wrong")).status_code == 500
        assert (await client.get("/twice")).status_code == 500


async def test_indexes_are_created_when_the_first_attempts_fail(
    user: User, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the error was. Until then, the service is not ready."""
    monkeypatch.setattr(mongo, "_indexes", {})
    monkeypatch.setenv("READINESS_TIMEOUT", "0.2")
    mongo.declare_indexes("late", IndexModel("name", unique=True))
    await asyncio.to_thread(user.run, "updateUser", roles=["read"])
    app = create_app()

    async with app.test_app(), app.app_context():
        client = app.test_client()
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/ready")).status_code == 503

        await asyncio.to_thread(user.run, "updateUser", roles=["readWrite"])
        started = perf_counter()
        while (await client.get("/health/ready")).status_code != 200:
            assert perf_counter() - started < 2
        assert "name_1" in await mongo.database().late.index_information()


class NameServer(asyncio.DatagramProtocol):
    """Answers queries for mongodb+srv:// addresses, or fails."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.fails = True
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        name = query.question[0].name
        if self.fails:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif query.question[0].rdtype == dns.rdatatype.SRV:
            record = f"0 0 {self._port} node.cluster.test."
            response.answer.append(dns.rrset.from_text(name, 1, "IN", "SRV", record))
        self._transport.sendto(response.to_wire(), address)


async def test_a_name_server_that_fails_at_first(
    databases: None, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indexes and requests work when it is back."""
    monkeypatch.setattr(mongo, "_indexes", {})
    mongo.declare_indexes("looked_up", IndexModel("name", unique=True))
    parts = urlsplit(os.environ[kind.VARIABLE])
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(parts.port or 0), ("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    resolver.lifetime = 0.3
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **options: look_up(
            "127.0.0.1" if host == "node.cluster.test" else host, *args, **options
        ),
    )
    url = f"mongodb+srv://a.cluster.test{parts.path}?tls=false"
    monkeypatch.setenv(kind.VARIABLE, url)
    app = create_app()

    @app.get("/find")
    async def find() -> str:
        return str(await mongo.database().things.find_one({}))

    async with app.test_app(), app.app_context():
        client = app.test_client()
        assert (await client.get("/find")).status_code == 503
        assert (await client.get("/health/ready")).status_code == 503
        assert names.asked

        names.fails = False
        started = perf_counter()
        while (await client.get("/health/ready")).status_code != 200:
            assert perf_counter() - started < 3
        assert (await client.get("/find")).status_code == 200
        assert "name_1" in await mongo.database().looked_up.index_information()
    transport.close()
