"""A PostgreSQL server that refuses sessions: requests get a 503, and it heals by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from dev import postgres as kind
from orders.backends import postgres
from quart.typing import TestClientProtocol as Client
from sqlalchemy import text

from .test_postgres_refusals import (
    CAUSES,
    ERRORS,
    CreateApp,
    Database,
    database,
    seconds_until_all_work,
)

__all__ = ["database"]


@asynccontextmanager
async def serving(
    database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """Serve endpoints that write, with three connections that are open already."""
    monkeypatch.setenv(kind.VARIABLE, database.url)
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "3")
    app = create_app()

    @app.post("/write")
    async def write() -> str:
        async with postgres.session() as session:
            await session.execute(text("SELECT * FROM things"))
            await session.execute(text("INSERT INTO things VALUES (1)"))
        return "written"

    @app.get("/slow")
    async def slow() -> str:
        async with postgres.session() as session:
            return str(await session.scalar(text("SELECT pg_sleep(0.2)")))

    async with app.test_app(), app.app_context():
        await postgres.pool().execute("CREATE TABLE things (number int)")
        client = app.test_client()
        warming = (client.get("/slow") for _ in range(3))
        assert {response.status_code for response in await asyncio.gather(*warming)} == {200}
        yield client


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_refusal_is_a_503_until_its_cause_is_gone(
    cause: str, database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(database, create_app, monkeypatch) as client:
        await database.refuse(cause)

        for _ in range(6):
            response = await client.post("/write")
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"

        await database.execute(*CAUSES[cause][1])
        assert await seconds_until_all_work(client, "/write") < 2


async def test_after_a_failover_not_every_connection_fails_once(
    database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions of a demoted primary go on, and refuse to write."""
    async with serving(database, create_app, monkeypatch) as client:
        # A session would lose this state when its connection is given back.
        monkeypatch.setattr(asyncpg.Connection, "get_reset_query", lambda _: "")

        async def demote() -> None:
            async with postgres.session() as session:
                await session.execute(text("SET default_transaction_read_only = on"))
                await session.commit()
                await session.execute(text("SELECT pg_sleep(0.1)"))

        await asyncio.gather(*(demote() for _ in range(3)))
        statuses = [(await client.post("/write")).status_code for _ in range(10)]

    assert statuses == [503] + [200] * 9


async def test_the_errors_of_the_server_have_their_status(
    create_app: CreateApp, subtests: pytest.Subtests
) -> None:
    """The same as without sessions."""
    app = create_app()

    @app.get("/raise/<code>")
    async def fail(code: str) -> str:
        command = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
        async with postgres.session() as session:
            return str(await session.execute(text(command)))

    async with app.test_app():
        for code, status in ERRORS.items():
            with subtests.test(code=code):
                assert (await app.test_client().get(f"/raise/{code}")).status_code == status


async def test_a_table_may_change_under_a_running_service(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction cannot be repeated: at most one request per connection gets a 503."""
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "2")
    table = f"changing_{uuid4().hex}"
    app = create_app()

    @app.get("/read")
    async def read() -> str:
        async with postgres.session() as session:
            return str((await session.execute(text(f"SELECT * FROM {table}"))).all())

    async with app.test_app(), app.app_context():
        client = app.test_client()
        pool = postgres.pool()
        await pool.execute(f"CREATE TABLE {table} (number int)")
        # Both connections have prepared the statement.
        await asyncio.gather(*(client.get("/read") for _ in range(6)))
        await pool.execute(f"ALTER TABLE {table} ADD COLUMN text text")
        statuses = [(await client.get("/read")).status_code for _ in range(6)]

    assert statuses[1:] == [200] * 5
    assert statuses[0] in {200, 503}
