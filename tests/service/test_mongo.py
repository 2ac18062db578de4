"""MongoDB: the client against a real server."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.asyncresolver
import pymongo
import pytest
from orders.backends import mongo
from orders.core.errors import BackendUnavailable
from orders.core.settings import InvalidSettings
from pymongo import IndexModel
from pymongo.errors import PyMongoError
from quart import Quart

from .load import assert_fair, served_under_load

CreateApp = Callable[[], Quart]

# For mongodb+srv://, PyMongo reads the configuration of the name servers, once.
dns.asyncresolver.get_default_resolver()


@pytest.fixture
async def small_app(create_app: CreateApp, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Quart]:
    """Serve an app with two connections and short waits."""
    monkeypatch.setenv("MONGODB_POOL_SIZE", "2")
    monkeypatch.setenv("MONGODB_ACQUIRE_TIMEOUT", "0.1")
    app = create_app()
    async with app.test_app(), app.app_context():
        await mongo.database().slow.insert_one({})
        yield app


async def sleep(milliseconds: int) -> None:
    """Keep a connection busy."""
    await mongo.database().slow.find_one({"$where": f"sleep({milliseconds}) || true"})


async def test_transactions(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        things = mongo.database().transactions
        await things.insert_one({"number": 0})
        async with mongo.database().client.start_session() as session:
            with pytest.raises(ZeroDivisionError):
                async with await session.start_transaction():
                    await things.insert_one({"number": 1}, session=session)
                    raise ZeroDivisionError
        assert await things.count_documents({}) == 1


async def test_times_have_a_time_zone(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        inserted = await mongo.database().times.insert_one({})
        assert inserted.inserted_id.generation_time.tzinfo
        options = mongo.database().codec_options
        assert options.tz_aware


async def test_declared_indexes_are_created(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is ready when they exist."""
    monkeypatch.setattr(mongo, "_indexes", {})
    mongo.declare_indexes("indexed", IndexModel("name", unique=True))
    app = create_app()

    async with app.test_app(), app.app_context(), asyncio.timeout(5):
        await mongo.ping()
        indexes = await mongo.database().indexed.index_information()

    assert indexes["name_1"]["unique"]


async def test_an_operation_is_bounded(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_TIMEOUT", "0.4")
    app = create_app()

    async with app.test_app(), app.app_context():
        await mongo.database().slow.insert_one({})
        with pytest.raises(tuple(mongo.BACKEND.failures)) as failed:
            async with asyncio.timeout(2):
                await sleep(60_000)

    assert isinstance(failed.value, PyMongoError)
    assert failed.value.timeout


async def test_an_operation_that_is_out_of_time_is_not_begun(small_app: Quart) -> None:
    async with small_app.app_context():
        with pytest.raises(tuple(mongo.BACKEND.failures)), pymongo.timeout(1e-6):
            await mongo.database().slow.find_one({})


async def test_waiting_for_a_connection_is_bounded(small_app: Quart) -> None:
    async with small_app.app_context():
        found = await asyncio.gather(*(sleep(300) for _ in range(5)), return_exceptions=True)

    refused = [error for error in found if isinstance(error, BackendUnavailable)]
    assert len(refused) == 3, "two had a connection, and the others could not wait so long"


async def test_waiting_for_a_connection_takes_no_more_than_the_operation_may(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_POOL_SIZE", "1")
    monkeypatch.setenv("MONGODB_ACQUIRE_TIMEOUT", "5")
    app = create_app()

    async with app.test_app(), app.app_context():
        await mongo.database().slow.insert_one({})
        slow = asyncio.create_task(sleep(1500))
        await asyncio.sleep(0.1)
        with pytest.raises(BackendUnavailable), pymongo.timeout(0.2):
            async with asyncio.timeout(1):
                await mongo.database().slow.find_one({})
        slow.cancel()


async def test_waiting_for_a_connection_is_fair(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_POOL_SIZE", "2")
    monkeypatch.setenv("MONGODB_ACQUIRE_TIMEOUT", "5")
    app = create_app()

    async with app.test_app(), app.app_context():
        await mongo.ping()
        served = await served_under_load(lambda: mongo.database().fair.find_one({}))

    assert_fair(served)


async def test_the_pool_survives_requests_that_end_early(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_POOL_SIZE", "3")
    monkeypatch.setenv("MONGODB_ACQUIRE_TIMEOUT", "0.2")
    app = create_app()

    async with app.test_app(), app.app_context():
        await mongo.database().slow.insert_one({})
        # Ended twice, by a limit and by a client who leaves, at all stages of an operation.
        for _ in range(5):
            tasks = [asyncio.create_task(sleep(20)) for _ in range(60)]
            for number in range(200):
                await asyncio.sleep(0.001 if number % 10 == 0 else 0)
                tasks[number * 7 % 60].cancel()
            await asyncio.wait(tasks)
        async with asyncio.timeout(2):
            await asyncio.gather(*(mongo.ping() for _ in range(10)))


async def test_the_service_names_itself(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        database = mongo.database()
        found = await database.client.admin.aggregate([{"$currentOp": {"idleConnections": True}}])
        names = {operation.get("appName") async for operation in found}

    assert "orders" in names


VALUES: dict[str, Any] = {
    "a number that is too large": 2**63,
    "a number that is too small": -(2**63) - 1,
    "a large number inside": {"a": [{"b": 2**64}]},
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("operation", ["insert_one", "find_one"])
async def test_a_value_that_cannot_be_stored_is_a_422(
    operation: str, name: str, app: Quart
) -> None:
    @app.get("/operation")
    async def operate() -> str:
        return str(await getattr(mongo.database().values, operation)({"value": VALUES[name]}))

    async with app.test_app():
        response = await app.test_client().get("/operation")

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"


async def test_an_overflow_of_the_services_own_code_is_a_500(app: Quart) -> None:
    @app.get("/overflow")
    async def overflow() -> str:
        return str(math.exp(1000))

    async with app.test_app():
        assert (await app.test_client().get("/overflow")).status_code == 500


GOOD = [
    "mongodb://localhost:27017/database",
    "mongodb://user:p%40ss%23word@a:27017,b:27018/database?replicaSet=rs0",
    "mongodb://localhost",
    "mongodb+srv://user:password@cluster.example.org/database?retryWrites=true&w=majority",
]

WRONG = [
    "localhost:27017",
    "mongo://user:secret@localhost/database",
    "mongodb://user:secret@localhost:port/database",
    "mongodb://user:sec@ret@localhost/database",
    "mongodb://user:secret@localhost:27017,/database",
    "mongodb://user:secret@/database",
    "mongodb+srv://user:secret@cluster.example.org:27017/database",
    "mongodb+srv://user:secret@a.example.org,b.example.org/database",
    "mongodb+srv://user:secret@cluster.example.org/database?directConnection=true",
    "mongodb://user:secret@localhost/database?retryWrite=true",
    "mongodb://user:secret@localhost/database?tls=perhaps",
    "mongodb://user:secret@localhost/database?tls=true&tlsCAFile=/missing",
    "mongodb://localhost/database?authMechanism=SCRAM-SHA-256",
]


@pytest.mark.parametrize("url", GOOD)
async def test_a_good_url_is_accepted(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", url)
    monkeypatch.setenv("MONGODB_CONNECT_TIMEOUT", "0.05")

    async with create_app().test_app():
        pass


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_stops_the_start(
    url: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", url)

    with pytest.raises(InvalidSettings) as stopped:
        create_app()

    assert str(stopped.value) == f"MONGODB_URI: is not a valid URL; for example {mongo.EXAMPLE}"


async def test_a_name_that_cannot_be_looked_up_is_an_unavailable_server(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service starts, and waits for the name server."""
    monkeypatch.setenv("MONGODB_URI", "mongodb+srv://cluster.example.invalid/database")
    monkeypatch.setenv("MONGODB_CONNECT_TIMEOUT", "0.3")
    app = create_app()

    @app.get("/find")
    async def find() -> str:
        return str(await mongo.database().things.find_one({}))

    async with app.test_app():
        client = app.test_client()
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/find")).status_code == 503
