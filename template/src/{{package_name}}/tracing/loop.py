"""The event loop: how late it wakes up a task, which is how long something has blocked it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import TracerProvider

EVERY = 0.5
"""Seconds between two measurements."""

LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""The bounds, in seconds, between which lags are counted."""


@contextmanager
def instrumented(_traces: TracerProvider, meters: MeterProvider) -> Iterator[None]:
    """Measure the running loop."""
    lag = meters.get_meter(__name__).create_histogram(
        "asyncio.event_loop.lag",
        unit="s",
        description="How late the event loop wakes up a task.",
        explicit_bucket_boundaries_advisory=LAGS,
    )
    measuring = asyncio.create_task(_measure(lag))
    try:
        yield
    finally:
        measuring.cancel()


async def _measure(lag: Histogram) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + EVERY
        await asyncio.sleep(EVERY)
        lag.record(max(0.0, clock() - due))
