"""Beanie's documents against a real server: they work without a start that waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import pytest
from beanie import Document, Link, SortDirection, TimeSeriesConfig, View
from dev import mongo as kind
from orders.backends import mongo, mongo_models
from pydantic import Field
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError
from quart import Quart
from quart.typing import TestClientProtocol as Client

from .load import assert_fair, served_under_load

CreateApp = Callable[[], Quart]


class Maker(Document):
    name: str

    class Settings:
        name = "makers"


class Thing(Document):
    name: str
    number: int = 0
    maker: Link[Maker] | None = None

    class Settings:
        name = "modelled_things"
        indexes = (IndexModel("name", unique=True),)


class Measurement(Document):
    at: str = Field("")

    class Settings:
        name = "measurements"
        timeseries = TimeSeriesConfig(time_field="at")


class Names(View):
    name: str

    class Settings:
        name = "names"
        source = Thing
        pipeline = ({"$project": {"name": 1}},)


@pytest.fixture(autouse=True)
def documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the service know the documents above."""
    monkeypatch.setattr(mongo_models, "DOCUMENTS", [Maker, Thing, Measurement, Names])


@asynccontextmanager
async def serving(app: Quart) -> AsyncIterator[Client]:
    """Serve endpoints that read and write documents."""

    @app.get("/read")
    async def read() -> str:
        found = Thing.find(Thing.number > 0).sort(("number", SortDirection.DESCENDING))
        return str(await found.to_list())

    @app.get("/write")
    async def write() -> str:
        return str(await Thing(name=uuid4().hex).insert())

    async with app.test_app(), app.app_context():
        yield app.test_client()


async def status(client: Client, path: str) -> int:
    return (await client.get(path)).status_code


async def seconds_until(client: Client, path: str) -> float:
    """Return the seconds until a path works. Before, it may get nothing but a 503."""
    started = perf_counter()
    while (got := await status(client, path)) != 200:
        assert got == 503
        assert perf_counter() - started < 5, "no recovery"
        await asyncio.sleep(0.05)
    return perf_counter() - started


async def test_documents_are_stored_and_found(app: Quart) -> None:
    async with serving(app):
        maker = await Maker(name="Ada").insert()
        things = [Thing(name=uuid4().hex, number=number, maker=maker) for number in (1, 2)]
        await Thing.insert_many(things)

        ours = Thing.find(Thing.maker.id == maker.id, fetch_links=True)  # type: ignore[union-attr]
        found = await ours.sort(("number", SortDirection.DESCENDING)).to_list()

        assert [thing.number for thing in found] == [2, 1]
        assert found[0].maker == maker


async def test_the_service_starts_before_its_server(
    create_app: CreateApp, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is ready when the documents have what they need there."""
    with await asyncio.to_thread(kind.start, open_folder, durable=False) as server:
        port, url = server.port, server.url
    monkeypatch.setenv(kind.VARIABLE, url)
    monkeypatch.setenv("MONGODB_CONNECT_TIMEOUT", "0.3")
    async with serving(create_app()) as client:
        assert [await status(client, path) for path in ("/read", "/write")] == [503, 503]
        assert await status(client, "/health/live") == 200
        assert await status(client, "/health/ready") == 503

        with await asyncio.to_thread(kind.start, open_folder, durable=False, port=port):
            assert await seconds_until(client, "/health/ready") < 2
            assert [await status(client, path) for path in ("/read", "/write")] == [200, 200]
            thing = await Thing(name=uuid4().hex).insert()
            with pytest.raises(DuplicateKeyError):
                await Thing(name=thing.name).insert()
            assert await Names.find(Names.name == thing.name).count() == 1
            found = await mongo.database().list_collections()
            kinds = {each["name"]: each["type"] async for each in found}
            assert kinds["measurements"] == "timeseries"


async def test_a_service_that_is_started_again_finds_all_of_it(create_app: CreateApp) -> None:
    for _ in range(2):
        async with serving(create_app()) as client:
            assert await seconds_until(client, "/health/ready") < 2
            assert await status(client, "/write") == 200


async def test_a_killed_server_fails_fast_and_comes_back(
    create_app: CreateApp, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.to_thread(kind.start, open_folder, durable=False)
    monkeypatch.setenv(kind.VARIABLE, server.url)
    monkeypatch.setenv("MONGODB_CONNECT_TIMEOUT", "0.5")
    async with serving(create_app()) as client:
        await seconds_until(client, "/write")
        await asyncio.to_thread(server.kill)
        for path in ("/read", "/write"):
            started = perf_counter()
            statuses = await asyncio.gather(*(status(client, path) for _ in range(20)))
            assert set(statuses) == {503}
            assert perf_counter() - started < 2

        with await asyncio.to_thread(kind.start, open_folder, durable=False, port=server.port):
            assert await seconds_until(client, "/write") < 2
            assert await seconds_until(client, "/read") < 1


async def test_a_frozen_server_is_given_up_in_time(
    create_app: CreateApp, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_TIMEOUT", "0.5")
    with await asyncio.to_thread(kind.start, open_folder, durable=False) as server:
        monkeypatch.setenv(kind.VARIABLE, server.url)
        async with serving(create_app()) as client:
            await seconds_until(client, "/write")
            await asyncio.to_thread(server.freeze)
            try:
                started = perf_counter()
                assert await status(client, "/read") == 503
                assert perf_counter() - started < 1.5
            finally:
                await asyncio.to_thread(server.thaw)
            assert await seconds_until(client, "/read") < 2


async def test_a_cancelled_transaction_is_rolled_back(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves neither a session nor a connection behind."""
    monkeypatch.setenv("MONGODB_POOL_SIZE", "2")
    monkeypatch.setenv("MONGODB_ACQUIRE_TIMEOUT", "0.5")
    name = uuid4().hex
    app = create_app()

    async def change() -> None:
        client = mongo.database().client
        async with client.start_session() as session, await session.start_transaction():
            await Thing(name=name).insert(session=session)
            await asyncio.sleep(60)

    async with serving(app) as client:
        await seconds_until(client, "/health/ready")
        for _ in range(5):
            changing = asyncio.create_task(change())
            await asyncio.sleep(0.1)
            changing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await changing
        assert await Thing.find(Thing.name == name).count() == 0
        server = await mongo.database().client.admin.command("serverStatus")
        assert server["transactions"]["currentOpen"] == 0
        assert [await status(client, "/write") for _ in range(4)] == [200] * 4


async def test_waiting_for_a_connection_is_fair(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_POOL_SIZE", "2")
    monkeypatch.setenv("MONGODB_ACQUIRE_TIMEOUT", "5")
    async with serving(create_app()):
        await mongo.ping()
        served = await served_under_load(lambda: Thing.find(Thing.number == 1).to_list())

    assert_fair(served)


async def test_an_operation_is_bounded(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_TIMEOUT", "0.4")
    app = create_app()

    @app.get("/slow")
    async def slow() -> str:
        await Thing(name=uuid4().hex).insert()
        return str(await Thing.find({"$where": "sleep(60000) || true"}).to_list())

    async with serving(app) as client:
        started = perf_counter()
        assert await status(client, "/slow") == 503
        assert perf_counter() - started < 2


async def test_a_document_that_is_not_listed_is_a_bug(app: Quart) -> None:
    class Unknown(Document):
        name: str

    @app.get("/unknown")
    async def unknown() -> str:
        return str(await Unknown(name="x").insert())

    async with serving(app) as client:
        assert await status(client, "/unknown") == 500
