"""The state of the queue, at /health/jobs."""

from time import time
from typing import Any

from pydantic import BaseModel
from quart import Blueprint
from quart_schema import validate_response

from ..backends import redis
from .queue import DEAD, GROUP, LATER, STREAM, join

RECENT = 10_000
"""Milliseconds within which each worker that has time for jobs asks for one."""

blueprint = Blueprint("jobs", __name__, url_prefix="/health")


class Report(BaseModel):
    """How many jobs there are, and for how many seconds the first one has waited."""

    waiting: int
    running: int
    later: int
    dead: int
    oldest_s: float
    workers: int


@blueprint.get("/jobs")
@validate_response(Report)
async def jobs() -> Report:
    """Tell how long the queue of jobs is, and how many workers there are."""
    return await report()


async def report() -> Report:
    """Ask Redis, and return the state of the queue."""
    client = redis.client()
    await join(client)
    async with client.pipeline() as commands:
        commands.xlen(STREAM)
        commands.zcard(LATER)
        commands.xlen(DEAD)
        commands.xinfo_groups(STREAM)
        commands.xinfo_consumers(STREAM, GROUP)
        length, later, dead, (group,), consumers = await commands.execute()
    first: Any = await client.xrange(STREAM, f"({group['last-delivered-id']}", count=1)
    return Report(
        waiting=length - group["pending"],
        running=group["pending"],
        later=later,
        dead=dead,
        oldest_s=max((age(number) for number, _ in first), default=0.0),
        workers=sum(one["pending"] > 0 or one["idle"] < RECENT for one in consumers),
    )


def age(number: str) -> float:
    """Return for how many seconds a job is in the stream. Its number begins with a time."""
    return max(0.0, round(time() - int(number.partition("-")[0]) / 1000, 1))
