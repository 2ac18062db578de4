"""A blueprint that the drill adds to its service: an event stream and a WebSocket."""

import asyncio
from collections.abc import AsyncIterator

from orders.backends import postgres
from quart import Blueprint, Response, stream_with_context, websocket

blueprint = Blueprint("streams", __name__, url_prefix="/streams")


@blueprint.get("/notes")
async def notes() -> Response:
    """Send the number of notes, again and again."""

    @stream_with_context
    async def events() -> AsyncIterator[str]:
        while True:
            count = await postgres.pool().fetchval("SELECT count(*) FROM notes")
            yield f"data: {count}\n\n"
            await asyncio.sleep(0.1)

    return Response(events(), content_type="text/event-stream")


@blueprint.websocket("/echo")
async def echo() -> None:
    """Send every message back."""
    while True:
        await websocket.send(await websocket.receive())
