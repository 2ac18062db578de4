"""Redis in a trace."""

import asyncio
import os
from urllib.parse import urlsplit

from orders.backends import redis
from quart import Quart
from quart.typing import TestClientProtocol as Client

from .conftest import Recorded


async def test_a_command_is_a_span_without_its_arguments(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/look")
    async def look() -> str:
        return str(await redis.client().get("secret"))

    await client.get("/look")

    span, request = recorded.trace_of("/look")
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id
    assert (span.attributes or {})["db.query.text"] == "GET ?"
    assert "secret" not in span.to_json()
    assert str(urlsplit(os.environ["REDIS_URL"]).password) not in span.to_json()


async def test_the_pool_is_measured(app: Quart, recorded: Recorded) -> None:
    async with app.test_app(), app.app_context():
        await redis.ping()
        await asyncio.sleep(0.1)
        points = recorded.points("db.client.connection.count")

    assert points["redis used"].value == 0
