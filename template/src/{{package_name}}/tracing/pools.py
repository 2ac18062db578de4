"""Connection pools: the connections in use, and the waits for one."""

from time import perf_counter

from opentelemetry import metrics

from ..backends.base import FairLimit
from ..core.errors import BackendUnavailable

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Bounds of the histogram, in seconds."""


def instrument() -> None:
    """Measure the limit in front of each pool."""
    meter = metrics.get_meter(__name__)
    count = meter.create_up_down_counter(
        "db.client.connection.count", unit="{connection}", description="Connections in use."
    )
    waits = meter.create_histogram(
        "db.client.connection.wait_time",
        unit="s",
        description="Time to obtain a connection.",
        explicit_bucket_boundaries_advisory=BUCKETS,
    )
    timeouts = meter.create_counter(
        "db.client.connection.timeouts", unit="{timeout}", description="Waits that timed out."
    )
    acquire, release = FairLimit.acquire, FairLimit.release

    def add(limit: FairLimit, change: int) -> None:
        # Without a timeout, it belongs to monitors of a client, and no request waits in it.
        if limit.timeout is not None:
            pool = {"db.client.connection.pool.name": limit.name}
            count.add(change, pool | {"db.client.connection.state": "used"})

    async def measured_acquire(self: FairLimit, within: float | None = None) -> None:
        pool = {"db.client.connection.pool.name": self.name}
        started = perf_counter()
        try:
            await acquire(self, within)
        except BackendUnavailable:
            timeouts.add(1, pool)
            raise
        waits.record(perf_counter() - started, pool)
        add(self, 1)

    def measured_release(self: FairLimit) -> None:
        release(self)
        add(self, -1)

    FairLimit.acquire = measured_acquire  # type: ignore[method-assign]
    FairLimit.release = measured_release  # type: ignore[method-assign]
