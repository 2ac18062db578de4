"""Sessions in a trace."""

import os
from urllib.parse import urlsplit

from orders.backends import postgres
from quart import Quart
from quart.typing import TestClientProtocol as Client
from sqlalchemy import text

from .conftest import Recorded


async def test_each_command_is_a_span_without_its_arguments(
    app: Quart, client: Client, recorded: Recorded
) -> None:
    @app.get("/query")
    async def query() -> str:
        async with postgres.session() as session:
            asked = text("SELECT CAST(:word AS text)").bindparams(word="secret")
            return str(await session.scalar(asked))

    await client.get("/query")
    response = await client.get("/query")

    assert await response.get_data(as_text=True) == "secret"
    *spans, request = recorded.trace_of("/query")
    texts = [(span.attributes or {})["db.query.text"] for span in spans]
    assert texts == ["BEGIN;", "SELECT CAST($1::VARCHAR AS text)", "COMMIT;"]
    for span in spans:
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert "secret" not in span.to_json()
        assert str(urlsplit(os.environ["DATABASE_URL"]).password) not in span.to_json()
