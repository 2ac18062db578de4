"""Visits: each one is noted after the response, and all are counted every minute.

A job may run twice. Running twice does no harm here: a set has each visitor once, and the second
count replaces the first.
"""

from datetime import UTC, datetime

from ..backends import redis
from .queue import queue

KEPT = 2 * 24 * 3600
"""Seconds that the visitors of a day are kept."""


@queue.task()
async def note(visitor: str, day: str) -> None:
    """Note that somebody came on a day, such as "2026-11-30"."""
    async with redis.client().pipeline() as commands:
        commands.sadd(f"visitors:{day}", visitor)
        commands.expire(f"visitors:{day}", KEPT)
        await commands.execute()


@queue.task(schedule=[{"cron": "* * * * *"}])
async def count() -> None:
    """Count the visitors of today."""
    day = today()
    await redis.client().hset("visitors", day, str(await redis.client().scard(f"visitors:{day}")))


def today() -> str:
    """Return the date in UTC."""
    return datetime.now(UTC).date().isoformat()
