"""A PostgreSQL server that refuses: requests get a 503, and it heals when the cause is gone."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from dev import postgres as kind
from orders.backends import postgres
from quart import Quart
from quart.typing import TestClientProtocol as Client

CreateApp = Callable[[], Quart]


@dataclass(frozen=True)
class Database:
    """A database and a role that no other test uses."""

    name: str
    url: str
    """For the role."""

    administrator: str
    """The URL of another database, for the administrator."""

    async def execute(self, *commands: str) -> None:
        """Run commands as the administrator."""
        connection = await asyncpg.connect(self.administrator)
        try:
            for command in commands:
                await connection.execute(command.format(name=f'"{self.name}"'))
        finally:
            await connection.close()

    async def disconnect_all(self) -> None:
        """End the connections of the role, as a failover does."""
        await self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.name}'"
        )

    async def refuse(self, cause: str) -> None:
        """Refuse from now on, for one of CAUSES."""
        begin, _ = CAUSES[cause]
        if cause == "a database that is away":
            # A database in use cannot be renamed.
            await self.execute("ALTER ROLE {name} NOLOGIN")
            await self.disconnect_all()
            await asyncio.sleep(0.1)
            await self.execute(*begin, "ALTER ROLE {name} LOGIN")
        else:
            await self.execute(*begin)
            await self.disconnect_all()


@pytest.fixture
def database(databases: None) -> Iterator[Database]:
    """Return a new database and its role."""
    name = f"refusing_{uuid4().hex}"
    server = os.environ[kind.VARIABLE]
    with kind.scratch(server, name) as url:
        parts = urlsplit(url)
        netloc = f"{name}:first@{parts.hostname}:{parts.port}"
        database = Database(name, urlunsplit(parts._replace(netloc=netloc)), server)
        asyncio.run(
            database.execute(
                "CREATE ROLE {name} LOGIN PASSWORD 'first'",
                "ALTER DATABASE {name} OWNER TO {name}",
            )
        )
        yield database
    asyncio.run(database.execute("DROP ROLE {name}"))


@asynccontextmanager
async def serving(
    database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """Serve endpoints that write, with a pool of three connections that are open already."""
    monkeypatch.setenv(kind.VARIABLE, database.url)
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "3")
    app = create_app()

    @app.post("/write")
    async def write() -> str:
        await postgres.pool().execute("INSERT INTO things VALUES (1)")
        return "written"

    @app.post("/transaction")
    async def transaction() -> str:
        async with postgres.pool().acquire() as connection, connection.transaction():
            await connection.fetch("SELECT * FROM things")
            await connection.execute("INSERT INTO things VALUES (1)")
        return "written"

    @app.get("/slow")
    async def slow() -> str:
        return str(await postgres.pool().fetchval("SELECT pg_sleep(0.2)"))

    async with app.test_app(), app.app_context():
        await postgres.pool().execute("CREATE TABLE things (number int)")
        client = app.test_client()
        warming = (client.get("/slow") for _ in range(3))
        assert {response.status_code for response in await asyncio.gather(*warming)} == {200}
        yield client


async def seconds_until_all_work(client: Client, path: str) -> float:
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


CAUSES = {
    "a read-only primary": (
        ["ALTER DATABASE {name} SET default_transaction_read_only = on"],
        ["ALTER DATABASE {name} RESET default_transaction_read_only"],
    ),
    "a wrong password": (
        ["ALTER ROLE {name} PASSWORD 'second'"],
        ["ALTER ROLE {name} PASSWORD 'first'"],
    ),
    "no login": (["ALTER ROLE {name} NOLOGIN"], ["ALTER ROLE {name} LOGIN"]),
    "too many connections": (
        ["ALTER ROLE {name} CONNECTION LIMIT 0"],
        ["ALTER ROLE {name} CONNECTION LIMIT -1"],
    ),
    "a database that takes none": (
        ["ALTER DATABASE {name} ALLOW_CONNECTIONS false"],
        ["ALTER DATABASE {name} ALLOW_CONNECTIONS true"],
    ),
    "a database that is away": (
        ['ALTER DATABASE {name} RENAME TO "away"'],
        ['ALTER DATABASE "away" RENAME TO {name}'],
    ),
}


@pytest.mark.parametrize("path", ["/write", "/transaction"])
@pytest.mark.parametrize("cause", CAUSES)
async def test_a_refusal_is_a_503_until_its_cause_is_gone(
    cause: str,
    path: str,
    database: Database,
    create_app: CreateApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(database, create_app, monkeypatch) as client:
        await database.refuse(cause)

        for _ in range(6):
            response = await client.post(path)
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"
        assert (await client.get("/health/live")).status_code == 200

        await database.execute(*CAUSES[cause][1])
        assert await seconds_until_all_work(client, path) < 2


async def test_after_a_failover_not_every_connection_fails_once(
    database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions of a demoted primary go on, and refuse to write."""
    async with serving(database, create_app, monkeypatch) as client:
        # A session would lose this state when its connection is given back.
        monkeypatch.setattr(asyncpg.Connection, "get_reset_query", lambda _: "")

        async def demote() -> None:
            async with postgres.pool().acquire() as connection:
                await connection.execute("SET default_transaction_read_only = on")
                await asyncio.sleep(0.1)

        await asyncio.gather(*(demote() for _ in range(3)))
        statuses = [(await client.post("/write")).status_code for _ in range(10)]

    assert statuses == [503] + [200] * 9


async def test_a_server_that_goes_on_refusing_is_not_flooded_with_connections(
    database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(database, create_app, monkeypatch) as client:
        await database.refuse("a read-only primary")
        # The pool notices that the connections are lost.
        await asyncio.sleep(0.1)
        numbers = set()
        for _ in range(20):
            assert (await client.post("/write")).status_code == 503
            numbers.add(await postgres.pool().fetchval("SELECT pg_backend_pid()"))

    assert len(numbers) <= 2 * 3, "those of before, and those that replaced them"


async def test_a_statement_timeout_of_the_server_is_a_503(
    database: Database, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.execute("ALTER ROLE {name} SET statement_timeout = '100ms'")
    monkeypatch.setenv(kind.VARIABLE, database.url)
    app = create_app()

    @app.get("/slow")
    async def slow() -> str:
        return str(await postgres.pool().fetchval("SELECT pg_sleep(5)"))

    async with app.test_app():
        assert (await app.test_client().get("/slow")).status_code == 503


ERRORS = {
    "57014": 503,  # query_canceled
    "57P01": 503,  # admin_shutdown
    "57P03": 503,  # cannot_connect_now
    "53100": 503,  # disk_full
    "53200": 503,  # out_of_memory
    "53300": 503,  # too_many_connections
    "25006": 503,  # read_only_sql_transaction
    "55P03": 503,  # lock_not_available
    "40001": 503,  # serialization_failure
    "40P01": 503,  # deadlock_detected
    "08006": 503,  # connection_failure
    "28P01": 503,  # invalid_password
    "22003": 422,  # numeric_value_out_of_range
    "22P02": 422,  # invalid_text_representation
    "23505": 500,  # unique_violation: the handler has to expect it
    "42601": 500,  # syntax_error
    "42501": 500,  # insufficient_privilege
}


async def test_the_errors_of_the_server_have_their_status(
    create_app: CreateApp, subtests: pytest.Subtests
) -> None:
    app = create_app()

    @app.get("/raise/<code>")
    async def fail(code: str) -> str:
        command = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
        return await postgres.pool().execute(command)

    async with app.test_app():
        for code, status in ERRORS.items():
            with subtests.test(code=code):
                assert (await app.test_client().get(f"/raise/{code}")).status_code == status


@pytest.mark.parametrize("path", ["/read", "/transaction"])
async def test_a_table_may_change_under_a_running_service(
    path: str, create_app: CreateApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction cannot be repeated: at most one request gets a 503."""
    monkeypatch.setenv("POSTGRES_POOL_SIZE", "2")
    table = f"changing_{uuid4().hex}"
    app = create_app()

    @app.get("/read")
    async def read() -> str:
        return str(await postgres.pool().fetch(f"SELECT * FROM {table}"))

    @app.get("/transaction")
    async def transaction() -> str:
        async with postgres.pool().acquire() as connection, connection.transaction():
            return str(await connection.fetch(f"SELECT * FROM {table}"))

    async with app.test_app(), app.app_context():
        client = app.test_client()
        pool = postgres.pool()
        await pool.execute(f"CREATE TABLE {table} (number int)")
        # Both connections have prepared the statement.
        await asyncio.gather(*(client.get(path) for _ in range(6)))
        await pool.execute(f"ALTER TABLE {table} ADD COLUMN text text")
        statuses = [(await client.get(path)).status_code for _ in range(6)]

    assert statuses[1:] == [200] * 5
    assert statuses[0] in {200, 503}
