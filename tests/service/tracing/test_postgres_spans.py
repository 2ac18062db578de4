"""PostgreSQL in a trace."""

import asyncio
import os
from urllib.parse import urlsplit

from orders.backends import postgres
from quart import Quart
from quart.typing import TestClientProtocol as Client

from .conftest import Recorded


async def test_a_query_is_a_span_without_its_arguments(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/query")
    async def query() -> str:
        return str(await postgres.pool().fetchval("SELECT $1::text", "secret"))

    response = await client.get("/query")

    assert await response.get_data(as_text=True) == "secret"
    span, request = recorded.trace_of("/query")
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id
    assert (span.attributes or {})["db.query.text"] == "SELECT $1::text"
    assert "secret" not in span.to_json()
    assert str(urlsplit(os.environ["DATABASE_URL"]).password) not in span.to_json()


async def test_the_pool_is_measured(app: Quart, recorded: Recorded) -> None:
    async with app.test_app(), app.app_context():
        await postgres.ping()
        await asyncio.sleep(0.1)
        points = recorded.points("db.client.connection.count")

    assert points["postgres used"].value == 0
