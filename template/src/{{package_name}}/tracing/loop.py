"""The event loop: how late it wakes up a task, because something blocks it."""

import asyncio

from opentelemetry import metrics

EVERY = 0.5
"""Seconds between two measurements."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Bounds of the histogram, in seconds."""


async def measure() -> None:
    """Measure the running event loop until this is cancelled."""
    lag = metrics.get_meter(__name__).create_histogram(
        "asyncio.event_loop.lag",
        unit="s",
        description="How late the event loop wakes up a task.",
        explicit_bucket_boundaries_advisory=BUCKETS,
    )
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + EVERY
        await asyncio.sleep(EVERY)
        lag.record(max(0.0, clock() - due))
