"""A job that the drill adds to its service, and the endpoint that asks for it.

Each run is noted, so that the drill can tell which jobs were lost, and which ran twice.
"""

import asyncio

from orders.backends import redis
from orders.jobs.queue import queue
from quart import Blueprint

blueprint = Blueprint("work", __name__, url_prefix="/tasks")


@queue.task(task_name="drill:work")
async def work(number: int) -> None:
    """Take a moment, and note that it is done."""
    await redis.client().rpush("began", number)
    await asyncio.sleep(0.2)
    await redis.client().rpush("done", number)


@blueprint.post("/<int:number>")
async def add(number: int) -> tuple[str, int]:
    """Add a job."""
    await work.kiq(number)
    return "", 202
