"""The generated service, with endpoints that use its accessors and nothing else."""

import asyncio
import os
from typing import Any

from orders import app
from orders.backends import http, mongo, postgres, redis
from quart import Blueprint, Quart

blueprint = Blueprint("bench", __name__)


@blueprint.get("/json")
async def constant() -> dict[str, Any]:
    """Return a constant."""
    return {"hello": "world", "number": 42}


@blueprint.get("/postgres")
async def row() -> dict[str, Any]:
    """Ask PostgreSQL."""
    found = await postgres.pool().fetchrow("SELECT id, message FROM bench WHERE id = $1", 1)
    assert found is not None
    return dict(found)


@blueprint.get("/mongo")
async def document() -> dict[str, Any]:
    """Ask MongoDB."""
    found = await mongo.database().bench.find_one({"_id": 1})
    assert found is not None
    return dict(found)


@blueprint.get("/redis")
async def value() -> dict[str, Any]:
    """Ask Redis."""
    return {"value": await redis.client().get("bench")}


@blueprint.get("/upstream")
async def answer() -> dict[str, Any]:
    """Ask the web service."""
    async with http.session().get(os.environ["SLOW_URL"]) as response:
        found: dict[str, Any] = await response.json()
        return found


@blueprint.get("/all")
async def everything() -> list[Any]:
    """Ask all of them at once."""
    return list(await asyncio.gather(row(), document(), value(), answer()))


def create_app() -> Quart:
    """Return the service with these endpoints."""
    service: Quart = app.create_app()
    service.register_blueprint(blueprint)
    return service
