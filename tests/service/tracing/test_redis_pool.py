"""The metrics of a connection pool, with the limit that all pools have."""

import asyncio

import pytest
from orders.backends.base import FairLimit
from orders.core.errors import BackendUnavailable

from .conftest import Recorded


async def test_use_and_waits_are_measured(recorded: Recorded) -> None:
    limit = FairLimit("of-the-test", 1, 0.1)
    await limit.acquire()
    with pytest.raises(BackendUnavailable):
        await limit.acquire()
    waiting = asyncio.create_task(limit.acquire())
    await asyncio.sleep(0.05)
    limit.release()
    await waiting

    assert recorded.points("db.client.connection.timeouts")["of-the-test"].value == 1
    assert recorded.points("db.client.connection.count")["of-the-test used"].value == 1
    limit.release()
    assert recorded.points("db.client.connection.count")["of-the-test used"].value == 0


async def test_waits_are_measured(recorded: Recorded) -> None:
    limit = FairLimit("of-the-test", 1, 1)
    await limit.acquire()
    waiting = asyncio.create_task(limit.acquire())
    await asyncio.sleep(0.05)
    limit.release()
    await waiting
    limit.release()

    wait = recorded.points("db.client.connection.wait_time")["of-the-test"]
    assert wait.count == 2
    assert 0.04 < wait.max < 1
