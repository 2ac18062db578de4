"""Counters in Redis: read one, increment one."""

import re

from pydantic import BaseModel
from quart import Blueprint, abort
from quart_schema import validate_response

from ..backends import redis

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")

blueprint = Blueprint("counters", __name__, url_prefix="/counters")


class Counter(BaseModel):
    """A counter and its value."""

    name: str
    value: int


@blueprint.get("/<name>")
@validate_response(Counter)
async def read(name: str) -> Counter:
    """Return a counter. A new one is 0."""
    value = await redis.client().get(_key(name))
    return Counter(name=name, value=int(value or 0))


@blueprint.post("/<name>")
@validate_response(Counter)
async def increment(name: str) -> Counter:
    """Add 1 to a counter and return it. Simultaneous requests all count."""
    value = await redis.client().incr(_key(name))
    return Counter(name=name, value=value)


def _key(name: str) -> str:
    if not NAME.fullmatch(name):
        abort(404, "A counter's name has up to 64 of a-z, 0-9, '_', '.', '-', a letter first.")
    return f"counter:{name}"
