"""Quart as its documentation begins, on Hypercorn; with the same tuned clients as the others."""

from collections.abc import AsyncIterator
from typing import Any

from quart import Quart

from .clients import Clients

app = Quart(__name__)
clients = Clients()


@app.while_serving
async def lifespan() -> AsyncIterator[None]:
    """Open the clients."""
    async with clients.opened():
        yield


@app.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@app.get("/postgres")
async def row() -> dict[str, Any]:
    """Ask PostgreSQL."""
    return await clients.row()


@app.get("/mongo")
async def document() -> dict[str, Any]:
    """Ask MongoDB."""
    return await clients.document()


@app.get("/redis")
async def value() -> dict[str, Any]:
    """Ask Redis."""
    return await clients.value()


@app.get("/upstream")
async def answer() -> dict[str, Any]:
    """Ask the web service."""
    return await clients.answer()


@app.get("/all")
async def everything() -> list[Any]:
    """Ask all of them at once."""
    return await clients.everything()
