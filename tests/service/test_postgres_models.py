"""SQLAlchemy's sessions against a real server: they keep the promises of the pool."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import pytest
from dev import postgres as kind
from dev.server import DevServer, Server
from orders.backends import postgres
from orders.core.errors import BackendUnavailable
from orders.models.base import relationship
from quart import Quart, abort
from quart.typing import TestClientProtocol as Client
from sqlalchemy import ForeignKey, Integer, bindparam, func, literal, literal_column, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, selectinload

from .conftest import Lines
from .load import assert_fair, served_under_load
from .test_postgres import VALUES, small_app

__all__ = ["small_app"]

CreateApp = Callable[[], Quart]


class Base(DeclarativeBase):
    """Of these tests only: migrations know nothing of their tables."""


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))


async def create_tables() -> None:
    async with postgres.session() as session:
        connection = await session.connection()
        await connection.run_sync(Base.metadata.create_all)


async def scalar(query: str, **values: object) -> object:
    async with postgres.session() as session:
        return await session.scalar(text(query), values)


ACTIVE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep%'
"""

IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


async def assert_clean() -> None:
    """Assert that no query runs on, and that no transaction is open, once all is cleaned up."""
    await asyncio.sleep(0.1)
    assert await postgres.pool().fetchval(IN_TRANSACTION) == 0
    assert await postgres.pool().fetchval(f"{ACTIVE} AND pid <> pg_backend_pid()") == 0


async def test_a_block_is_a_transaction(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        await create_tables()
        author = Author(name=uuid4().hex)
        async with postgres.session() as session:
            session.add(author)
        with pytest.raises(ZeroDivisionError):
            async with postgres.session() as session:
                session.add(Author(name=f"{author.name}-2"))
                await session.flush()
                raise ZeroDivisionError

        async with postgres.session() as session:
            found = await session.scalars(
                select(Author.name).where(Author.name.startswith(author.name))
            )
            assert found.all() == [author.name], "readable after the block, and alone"


async def test_nothing_is_loaded_on_access(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        await create_tables()
        name = uuid4().hex
        async with postgres.session() as session:
            session.add(Author(name=name, books=[Book(), Book()]))
        by_name = select(Author).where(Author.name == name)

        async with postgres.session() as session:
            author = (await session.scalars(by_name)).one()
            with pytest.raises(InvalidRequestError, match="lazy='raise'"):
                print(author.books)
        async with postgres.session() as session:
            author = (await session.scalars(by_name.options(selectinload(Author.books)))).one()
        assert len(author.books) == 2


async def test_a_violated_constraint_is_for_the_handler(app: Quart) -> None:
    @app.post("/authors/<name>")
    async def create(name: str) -> tuple[str, int]:
        try:
            async with postgres.session() as session:
                session.add(Author(name=name))
        except IntegrityError:
            abort(409, "There is such an author.")
        return "", 201

    async with app.test_app(), app.app_context():
        await create_tables()
        client = app.test_client()
        name = uuid4().hex
        statuses = [(await client.post(f"/authors/{name}")).status_code for _ in range(2)]
        await assert_clean()

    assert statuses == [201, 409]


async def test_sessions_and_the_pool_share_a_bounded_wait(small_app: Quart) -> None:
    async with small_app.app_context():
        async with postgres.pool().acquire():
            async with asyncio.timeout(1):
                with pytest.raises(BackendUnavailable):
                    await scalar("SELECT 1")
        async with postgres.session(), asyncio.timeout(1):
            with pytest.raises(BackendUnavailable):
                await postgres.pool().fetchval("SELECT 1")
        assert await scalar("SELECT 1") == 1


async def test_waiting_for_a_session_is_fair(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "2")
    monkeypatch.setenv("POSTGRES_ACQUIRE_TIMEOUT", "5")
    app = create_app()

    async with app.test_app(), app.app_context():
        served = await served_under_load(lambda: scalar("SELECT 1"), seconds=1)

    assert_fair(served)


async def test_a_query_is_bounded_and_cancelled_in_the_server(small_app: Quart) -> None:
    async with small_app.app_context():
        async with asyncio.timeout(2):
            with pytest.raises(BackendUnavailable):
                await scalar("SELECT pg_sleep(60)")
        await assert_clean()
        assert await scalar("SELECT 1") == 1


async def test_a_cancelled_transaction_gives_its_connection_back(small_app: Quart) -> None:
    async def change() -> None:
        async with postgres.session() as session:
            await session.execute(text("CREATE TABLE half_done (number int)"))
            await session.execute(text("SELECT pg_sleep(60)"))

    async with small_app.app_context():
        for _ in range(3):
            changing = asyncio.create_task(change())
            await asyncio.sleep(0.1)
            changing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await changing
            assert await scalar("SELECT to_regclass('half_done')") is None
        await assert_clean()


async def test_cancelled_requests_leave_no_connection_behind(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended at all stages: while they wait, connect, begin, query, commit and give back."""
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "3")
    app = create_app()
    async with app.test_app(), app.app_context():
        for _ in range(5):
            queries = [asyncio.create_task(scalar("SELECT pg_sleep(0.01)")) for _ in range(30)]
            for number in range(100):
                await asyncio.sleep(0.001 if number % 10 == 0 else 0)
                queries[number * 7 % 30].cancel()
            await asyncio.wait(queries)
        async with asyncio.timeout(5):
            await asyncio.gather(*(scalar("SELECT pg_sleep(0.1)") for _ in range(3)))
        await assert_clean()
        count = await postgres.pool().fetchval(CONNECTIONS)

    assert count <= 3 + 1, "those of the sessions, and the one that counts"


async def test_a_lost_connection_is_replaced(small_app: Quart) -> None:
    async with small_app.app_context():
        first = await scalar("SELECT pg_backend_pid()")
        with pytest.raises((BackendUnavailable, *postgres.BACKEND.failures)):
            await scalar("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await scalar("SELECT pg_backend_pid()") != first


async def test_idle_connections_that_are_lost_cost_no_request(
    create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "3")
    app = create_app()
    async with app.test_app(), app.app_context():
        await asyncio.gather(*(scalar("SELECT pg_sleep(0.1)") for _ in range(3)))
        await postgres.pool().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.1)
        assert [await scalar("SELECT 1") for _ in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("pause", [0.0, 0.1])
async def test_a_connection_that_is_lost_inside_a_block_is_a_failure_of_the_backend(
    pause: float, app: Quart
) -> None:
    async with app.test_app(), app.app_context():
        with pytest.raises((BackendUnavailable, *postgres.BACKEND.failures)) as failed:
            async with postgres.session() as session:
                number = await session.scalar(text("SELECT pg_backend_pid()"))
                # What a server does to all connections when it stops.
                await postgres.pool().execute("SELECT pg_terminate_backend($1)", number)
                await asyncio.sleep(pause)
                await session.scalar(text("SELECT 1"))
        if isinstance(failed.value, DBAPIError):
            status = postgres.BACKEND.failures[DBAPIError]
            assert callable(status)
            assert status(failed.value) == 503
        assert await scalar("SELECT 1") == 1


async def test_an_error_of_the_block_stays_what_it_is(small_app: Quart) -> None:
    """Also one of a kind that a session itself may raise."""
    async with small_app.app_context():
        with pytest.raises(FileNotFoundError):
            async with postgres.session() as session:
                await session.scalar(text("SELECT 1"))
                raise FileNotFoundError
        with pytest.raises(TimeoutError):
            async with postgres.session(), asyncio.timeout(0.01):
                await asyncio.sleep(1)
        assert await scalar("SELECT 1") == 1


async def test_nothing_of_a_session_reaches_the_next_one(small_app: Quart) -> None:
    async with small_app.app_context():
        async with postgres.session() as session:
            await session.execute(text("SET search_path = elsewhere"))
            await session.execute(text("SELECT pg_advisory_lock(1)"))
        assert await scalar("SHOW search_path") != "elsewhere"
        assert await scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_json_is_the_same_in_the_pool(small_app: Quart) -> None:
    """SQLAlchemy changes how its connections read JSON."""
    query = """SELECT CAST('{"a": 1}' AS jsonb)"""
    async with small_app.app_context():
        async with postgres.session() as session:
            assert await session.scalar(select(literal({"a": 1}, JSONB))) == {"a": 1}
        assert await postgres.pool().fetchval(query) == '{"a": 1}'


async def test_the_service_names_itself(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        assert await scalar("SHOW application_name") == "orders"


@pytest.mark.parametrize(("pooler", "prepared"), [("false", True), ("true", False)])
async def test_behind_a_pooler_no_statement_keeps_a_name(
    pooler: str, prepared: bool, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRES_POOLER", pooler)
    app = create_app()
    async with app.test_app(), app.app_context():
        assert await scalar("SELECT 4 + CAST(:number AS int)", number=1) == 5
        names = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 4 +%'"
        assert bool(await scalar(f"{names} AND name <> ''")) == prepared


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_cannot_be_stored_is_a_422(name: str, app: Quart) -> None:
    """And the connection is still good."""
    query, value = VALUES[name]
    # Two colons begin an argument in SQLAlchemy's text.
    query = re.sub(r"\$1::(\w+)", r"CAST(:value AS \1)", query)
    query = re.sub(r"(CAST\(.*\))::(\w+)", r"CAST(\1 AS \2)", query)

    @app.get("/query")
    async def use() -> str:
        return str(await scalar(query, value=value))

    async with app.test_app(), app.app_context():
        response = await app.test_client().get("/query")
        assert await scalar("SELECT 1") == 1

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"


async def test_the_log_shows_no_arguments(
    app: Quart, logged: Callable[[], Awaitable[Lines]]
) -> None:
    @app.get("/query")
    async def fail() -> str:
        async with postgres.session() as session:
            quotient = literal_column("1") / bindparam("zero", 0, Integer)
            return str(await session.scalar(select(quotient, func.length(bindparam("x", "hush")))))

    async with app.test_app():
        assert (await app.test_client().get("/query")).status_code == 422

    (line,) = [each for each in await logged() if each["event"] == "request failed"]
    assert "division by zero" in line["reason"]
    assert "hush" not in line["reason"]


async def seconds_until_recovered(client: Client) -> float:
    started = perf_counter()
    while (await client.get("/session")).status_code != 200:
        assert perf_counter() - started < 5, "no recovery"
        await asyncio.sleep(0.05)
    return perf_counter() - started


def with_endpoint(app: Quart) -> Client:
    @app.get("/session")
    async def use() -> str:
        return str(await scalar("SELECT 1"))

    return app.test_client()


async def test_a_killed_server_fails_fast_and_comes_back(
    create_app: CreateApp, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.to_thread(kind.start, open_folder, durable=False)
    monkeypatch.setenv(kind.VARIABLE, server.url)
    app = create_app()
    async with app.test_app(), app.app_context():
        client = with_endpoint(app)
        assert await ask(client, 20) == {200}
        await asyncio.to_thread(server.kill)
        for number in (1, 1, 20):
            started = perf_counter()
            assert await ask(client, number) == {503}
            assert perf_counter() - started < 2

        with await asyncio.to_thread(kind.start, open_folder, durable=False, port=server.port):
            assert await seconds_until_recovered(client) < 2
            assert await ask(client, 20) == {200}
            await assert_clean()


async def ask(client: Client, number: int) -> set[int]:
    """Return the statuses of so many requests at once."""
    responses = await asyncio.gather(*(client.get("/session") for _ in range(number)))
    return {response.status_code for response in responses}


@pytest.fixture
def server(own_server: Callable[[DevServer], Server]) -> Server:
    """Start a server that only this test uses."""
    return own_server(kind)


async def test_a_frozen_server_is_given_up_in_time(
    create_app: CreateApp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_TIMEOUT", "0.5")
    monkeypatch.setenv("POSTGRES_CONNECT_TIMEOUT", "0.5")
    monkeypatch.setenv("POSTGRES_ACQUIRE_TIMEOUT", "0.5")
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "3")
    app = create_app()
    async with app.test_app(), app.app_context():
        client = with_endpoint(app)
        assert await ask(client, 3) == {200}
        await asyncio.to_thread(server.freeze)
        try:
            for _ in range(3):
                started = perf_counter()
                assert await ask(client, 5) == {503}
                assert perf_counter() - started < 1.5
        finally:
            await asyncio.to_thread(server.thaw)
        assert await seconds_until_recovered(client) < 2
        await asyncio.sleep(1)
        assert await ask(client, 5) == {200}
        await assert_clean()
        assert int(await postgres.pool().fetchval(CONNECTIONS)) <= 4


async def test_a_frozen_server_does_not_hold_up_the_end(
    create_app: CreateApp, server: Server
) -> None:
    app = create_app()
    async with app.test_app():
        assert await ask(with_endpoint(app), 5) == {200}
        await asyncio.to_thread(server.freeze)
        started = perf_counter()
    assert perf_counter() - started < 2
    await asyncio.to_thread(server.thaw)


async def test_clients_who_leave_are_no_errors(
    app: Quart, logged: Callable[[], Awaitable[Lines]]
) -> None:
    """Whatever is being done for them: the log is for what somebody should look at."""
    async with app.test_app(), app.app_context():
        for number in range(300):
            asking = asyncio.create_task(scalar("SELECT 1"))
            for _ in range(number % 60):
                await asyncio.sleep(0)
            await asyncio.sleep(0.0001 * (number % 30))
            asking.cancel()
            await asyncio.wait([asking])
        await assert_clean()

    # asyncio may report what the servers of the tests before have left.
    lines = [line for line in await logged() if line["logger"] != "asyncio"]
    assert [line for line in lines if line["level"] in {"warning", "error"}] == []
