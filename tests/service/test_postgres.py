"""PostgreSQL: the pool against a real server."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest
from dev import postgres as kind
from dev.server import DevServer, Server
from orders.backends import postgres
from orders.core.errors import BackendUnavailable
from quart import Quart

from .load import assert_fair, served_under_load


@pytest.fixture
async def small_app(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Quart]:
    """Serve an app with one connection and short waits."""
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRES_ACQUIRE_TIMEOUT", "0.3")
    monkeypatch.setenv("POSTGRES_TIMEOUT", "0.4")
    app = create_app()
    async with app.test_app():
        yield app


@pytest.fixture
def server(own_server: Callable[[DevServer], Server]) -> Server:
    """Start a server that only this test uses."""
    return own_server(kind)


async def assert_all_are_lent() -> None:
    """Assert that the pool lends no further connection, and how long one waits."""
    for timeout in (None, 0.01):
        async with asyncio.timeout(0.5 if timeout is None else 0.2):
            with pytest.raises(BackendUnavailable):
                await postgres.pool().acquire(timeout=timeout)


async def test_queries(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        pool = postgres.pool()
        row = await pool.fetchrow("SELECT $1::int AS number, $2::text AS text", 1, "Zoë")
        assert row is not None
        assert dict(row) == {"number": 1, "text": "Zoë"}
        assert await pool.fetchval("SELECT count(*) FROM generate_series(1, 3)") == 3
        assert len(await pool.fetch("SELECT generate_series(1, 3)")) == 3
        assert await pool.execute("SET application_name = 'test'") == "SET"
        await pool.executemany("SELECT $1::int", [(1,), (2,)], timeout=1)


async def test_an_error_of_the_block_stays_what_it_is(small_app: Quart) -> None:
    """Also one of a kind that the pool itself may raise."""
    async with small_app.app_context():
        with pytest.raises(FileNotFoundError):
            async with postgres.pool().acquire() as connection:
                await connection.execute("SELECT 1")
                raise FileNotFoundError
        with pytest.raises(TimeoutError):
            async with postgres.pool().acquire(), asyncio.timeout(0.01):
                await asyncio.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            async with postgres.pool().acquire() as connection, connection.transaction():
                raise ConnectionRefusedError
        assert await postgres.pool().fetchval("SELECT 1") == 1


async def test_a_query_that_takes_too_long_is_a_failure_of_the_backend(small_app: Quart) -> None:
    async with small_app.app_context():
        with pytest.raises(BackendUnavailable):
            await postgres.pool().execute("SELECT pg_sleep(5)")
        with pytest.raises(BackendUnavailable):
            async with postgres.pool().acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_sleep(5)")


async def test_a_connection_of_another_pool_is_refused(small_app: Quart) -> None:
    async with small_app.app_context():
        pool = postgres.pool()
        connection = await pool.acquire()
        await pool.release(connection)
        await pool.release(connection)
        other = asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0)
        async with other, other.acquire() as theirs:
            with pytest.raises(asyncpg.InterfaceError):
                await pool.release(theirs)


async def test_an_error_of_the_query_is_no_failure_of_the_backend(small_app: Quart) -> None:
    async with small_app.app_context():
        pool = postgres.pool()
        first = await pool.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(asyncpg.UndefinedTableError):
            await pool.fetch("SELECT * FROM missing")
        assert await pool.fetchval("SELECT pg_backend_pid()") == first


async def test_a_transaction_is_rolled_back_on_an_error(small_app: Quart) -> None:
    async with small_app.app_context():
        pool = postgres.pool()
        await pool.execute("CREATE TEMPORARY TABLE numbers (number int)")
        with pytest.raises(ZeroDivisionError):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO numbers VALUES (1)")
                raise ZeroDivisionError
        assert await pool.fetchval("SELECT count(*) FROM numbers") == 0


async def test_a_transaction_that_is_left_open_reaches_nobody_else(small_app: Quart) -> None:
    async with small_app.app_context():
        pool = postgres.pool()
        async with pool.acquire() as connection:
            await connection.execute("BEGIN; CREATE TEMPORARY TABLE left_open (number int)")
        assert await pool.fetchval("SELECT to_regclass('left_open')") is None


async def test_waiting_for_a_connection_is_bounded(small_app: Quart) -> None:
    async with small_app.app_context():
        async with postgres.pool().acquire():
            async with asyncio.timeout(1):
                with pytest.raises(BackendUnavailable):
                    await postgres.pool().fetchval("SELECT 1")
        assert await postgres.pool().fetchval("SELECT 1") == 1


async def test_a_connection_may_be_acquired_without_a_block(small_app: Quart) -> None:
    """To give it back a second time does no harm."""
    async with small_app.app_context():
        pool = postgres.pool()
        for _ in range(2):
            connection = await pool.acquire()
            try:
                assert await connection.fetchval("SELECT 1") == 1
                await assert_all_are_lent()
            finally:
                await pool.release(connection)
                await pool.release(connection)


async def test_a_query_works_while_an_error_is_handled(small_app: Quart) -> None:
    """That error is none of the connection, and the next query need not wait."""
    async with small_app.app_context():
        pool = postgres.pool()
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(1)
        except TimeoutError:
            assert await pool.fetchval("SELECT 1") == 1
            connection = await pool.acquire()
        await pool.release(connection)
        assert await pool.fetchval("SELECT 1") == 1


async def test_waiting_for_a_connection_is_fair(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "2")
    monkeypatch.setenv("POSTGRES_ACQUIRE_TIMEOUT", "5")
    app = create_app()

    async with app.test_app(), app.app_context():
        served = await served_under_load(lambda: postgres.pool().fetchval("SELECT 1"))

    assert_fair(served)


async def test_a_query_is_bounded_and_cancelled_in_the_server(small_app: Quart) -> None:
    async with small_app.app_context():
        async with asyncio.timeout(2):
            with pytest.raises(BackendUnavailable):
                await postgres.pool().execute("SELECT pg_sleep(60)")
        running = await postgres.pool().fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state = 'active' AND query LIKE $1",
            "SELECT pg_sleep(60)%",
        )

    assert running == 0


async def test_a_cancelled_query_gives_its_connection_back(small_app: Quart) -> None:
    async with small_app.app_context():
        for _ in range(3):
            query = asyncio.create_task(postgres.pool().execute("SELECT pg_sleep(60)"))
            await asyncio.sleep(0.05)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            assert await postgres.pool().fetchval("SELECT 1") == 1


async def test_cancelled_requests_leave_no_connection_behind(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended at all stages: while they wait, connect, query and give back."""
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "3")
    monkeypatch.setenv("POSTGRES_ACQUIRE_TIMEOUT", "0.3")
    app = create_app()
    async with app.test_app(), app.app_context():
        pool = postgres.pool()
        for _ in range(5):
            queries = [
                asyncio.create_task(pool.execute("SELECT pg_sleep(0.01)")) for _ in range(30)
            ]
            for number in range(100):
                await asyncio.sleep(0.001 if number % 10 == 0 else 0)
                queries[number * 7 % 30].cancel()
            await asyncio.wait(queries)
        async with asyncio.timeout(3):
            sleeps = (pool.execute("SELECT pg_sleep(0.1)") for _ in range(3))
            await asyncio.gather(*sleeps)
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(pool.acquire())
            await assert_all_are_lent()


async def test_the_caller_does_not_wait_until_a_query_is_cancelled(
    server: Server, create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a server that does not answer costs no connection."""
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRES_ACQUIRE_TIMEOUT", "0.3")
    app = create_app()
    async with app.test_app(), app.app_context():
        query = asyncio.create_task(postgres.pool().execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.2)
        server.freeze()
        query.cancel()
        await asyncio.wait([query], timeout=0.2)
        assert query.cancelled()
        await asyncio.sleep(0.5)
        with pytest.raises(BackendUnavailable, match="cannot connect"):
            await postgres.pool().fetchval("SELECT 1")


async def test_a_lost_connection_is_replaced(small_app: Quart) -> None:
    async with small_app.app_context():
        pool = postgres.pool()
        first = await pool.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(tuple(postgres.BACKEND.failures)):
            await pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await pool.fetchval("SELECT pg_backend_pid()") != first


@pytest.mark.parametrize("pause", [0.0, 0.1])
async def test_a_connection_that_is_lost_between_two_queries_is_a_failure_of_the_backend(
    pause: float, create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "2")
    app = create_app()
    async with app.test_app(), app.app_context():
        pool = postgres.pool()
        with pytest.raises((BackendUnavailable, *postgres.BACKEND.failures)):
            async with pool.acquire() as connection:
                number = await connection.fetchval("SELECT pg_backend_pid()")
                # What a server does to all connections when it stops.
                await pool.execute("SELECT pg_terminate_backend($1)", number)
                await asyncio.sleep(pause)
                await connection.fetchval("SELECT 1")
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_connection_that_is_lost_after_the_last_query_fails_nobody(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "2")
    app = create_app()
    async with app.test_app(), app.app_context():
        pool = postgres.pool()
        for _ in range(5):
            async with pool.acquire() as connection:
                number = await connection.fetchval("SELECT pg_backend_pid()")
                await pool.execute("SELECT pg_terminate_backend($1)", number)
        assert await pool.fetchval("SELECT 1") == 1


async def test_nothing_of_a_session_reaches_the_next_user(small_app: Quart) -> None:
    async with small_app.app_context():
        pool = postgres.pool()
        async with pool.acquire() as connection:
            await connection.execute("SET search_path = elsewhere")
            await connection.execute("SELECT pg_advisory_lock(1)")
        assert await pool.fetchval("SHOW search_path") != "elsewhere"
        assert await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_the_service_names_itself(app: Quart) -> None:
    async with app.test_app(), app.app_context():
        assert await postgres.pool().fetchval("SHOW application_name") == "orders"


@pytest.mark.parametrize(("pooler", "prepared"), [("false", True), ("true", False)])
async def test_behind_a_pooler_nothing_is_prepared(
    pooler: str, prepared: bool, create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "1")
    monkeypatch.setenv("POSTGRES_POOLER", pooler)
    app = create_app()
    async with app.test_app(), app.app_context():
        pool = postgres.pool()
        assert await pool.fetchval("SELECT 4 + $1::int", 1) == 5
        count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 4 +%'"
        assert bool(await pool.fetchval(count)) == prepared


VALUES = {
    "a number that is too large": ("SELECT $1::bigint", 2**63),
    "a number that is too small": ("SELECT $1::smallint", -(2**15) - 1),
    "the character NUL": ("SELECT $1::text", "a\0b"),
    "half of a surrogate pair": ("SELECT $1::text", "\ud800"),
    "NUL inside JSON": ("SELECT $1::jsonb", '"\\u0000"'),
    "a word for a number": ("SELECT $1::int", "one"),
    "a word for a date": ("SELECT $1::text::date", "yesterday evening"),
    "a wrong UUID": ("SELECT $1::uuid", "1"),
    "a division by zero": ("SELECT 1 / $1::int", 0),
    "a sum that is too large": ("SELECT $1::int + 1", 2**31 - 1),
}


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_cannot_be_stored_is_a_422(name: str, app: Quart) -> None:
    """And the connection is still good."""

    @app.get("/query")
    async def query() -> str:
        return str(await postgres.pool().fetchval(*VALUES[name]))

    async with app.test_app(), app.app_context():
        response = await app.test_client().get("/query")
        assert await postgres.pool().fetchval("SELECT 1") == 1

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
