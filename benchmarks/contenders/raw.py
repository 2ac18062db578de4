"""ASGI without a framework: what the clients and the server allow."""

import gc
import json
from typing import Any

from .clients import Clients

clients = Clients()


async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


ROUTES = {
    "/json": constant,
    "/postgres": clients.row,
    "/mongo": clients.document,
    "/redis": clients.value,
    "/upstream": clients.answer,
    "/all": clients.everything,
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve."""
    if scope["type"] == "lifespan":
        await receive()
        async with clients.opened():
            gc.collect()
            gc.freeze()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = json.dumps(await ROUTES[scope["path"]]()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
