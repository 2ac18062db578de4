"""The metric of the event loop."""

import asyncio
from time import perf_counter

import pytest
from orders.tracing import loop
from quart import Quart

from .conftest import Recorded


async def test_a_blocked_event_loop_shows(
    app: Quart, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "EVERY", 0.01)
    async with app.test_app():
        await asyncio.sleep(0.02)
        end = perf_counter() + 0.1
        while perf_counter() < end:
            pass
        await asyncio.sleep(0.02)
        (lag,) = recorded.points("asyncio.event_loop.lag").values()

    assert 0.05 < lag.max < 10
