"""MongoDB in a trace."""

import asyncio

from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
from opentelemetry.trace import StatusCode
from orders.backends import mongo
from quart import Quart
from quart.typing import TestClientProtocol as Client

from .conftest import Recorded


async def test_a_command_is_a_span_without_its_content(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/search")
    async def search() -> str:
        return str(await mongo.database().things.find_one({"name": "secret"}))

    # The first one authenticates, too.
    await client.get("/search")
    await client.get("/search")

    span, request = recorded.trace_of("/search")
    attributes = span.attributes or {}
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id
    assert (attributes["db.query.text"], attributes["db.collection.name"]) == ("find", "things")
    assert "secret" not in span.to_json()


async def test_a_cancelled_command_ends_its_span(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    function = {"body": "function() { sleep(2000) }", "args": [], "lang": "js"}
    slow: list[mongo.Document] = [
        {"$documents": [{}]},
        {"$set": {"slow": {"$function": function}}},
    ]

    @app.get("/slow")
    async def wait() -> str:
        await mongo.ping()
        try:
            async with asyncio.timeout(0.3):
                await mongo.database().aggregate(slow)
        except TimeoutError:
            return "given up"
        return "done"

    response = await client.get("/slow")

    assert await response.get_data(as_text=True) == "given up"
    spans = {span.name.rpartition(".")[2]: span for span in recorded.trace_of("/slow")}
    assert spans["ping"].status.status_code is not StatusCode.ERROR
    assert spans["aggregate"].status.status_code is StatusCode.ERROR
    listener = PymongoInstrumentor()._commandtracer_instance
    assert listener is not None
    assert listener._span_dict == {}


async def test_the_pool_is_measured(app: Quart, recorded: Recorded) -> None:
    async with app.test_app(), app.app_context():
        await mongo.ping()
        await asyncio.sleep(0.1)
        points = recorded.points("db.client.connection.count")

    assert points["mongo used"].value == 0
