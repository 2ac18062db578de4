"""What is asked of other services: a span for each call, which they continue, and its duration."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from aiohttp import ClientSession, TraceConfig
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from yarl import URL

WAITS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The bounds, in seconds, between which waits are counted."""


@contextmanager
def instrumented(traces: TracerProvider, meters: MeterProvider) -> Iterator[None]:
    """Trace and measure aiohttp's client."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(
        tracer_provider=traces,
        meter_provider=meters,
        url_filter=_without_query,
        trace_configs=[_measured(meters)],
    )
    try:
        yield
    finally:
        instrumentor.uninstrument()


def _without_query(url: URL) -> str:
    """Keep what is searched for, and keys, out of the spans."""
    return str(url.with_user(None).with_query(None))


def _measured(meters: MeterProvider) -> TraceConfig:
    """Count the calls under way, and measure how long they wait for a free connection."""
    meter = meters.get_meter(__name__)
    active = meter.create_up_down_counter(
        "http.client.active_requests", unit="{request}", description="Calls under way."
    )
    waits = meter.create_histogram(
        "http.client.connection.wait_time",
        unit="s",
        description="Time that calls waited because all connections were in use.",
        explicit_bucket_boundaries_advisory=WAITS,
    )

    async def begin(*_: Any) -> None:
        active.add(1)

    async def end(*_: Any) -> None:
        active.add(-1)

    async def wait(_session: ClientSession, call: SimpleNamespace, _params: Any) -> None:
        call.started = perf_counter()

    async def go_on(_session: ClientSession, call: SimpleNamespace, _params: Any) -> None:
        waits.record(perf_counter() - call.started)

    config = TraceConfig()
    config.on_request_start.append(begin)
    config.on_request_end.append(end)
    config.on_request_exception.append(end)
    config.on_connection_queued_start.append(wait)
    config.on_connection_queued_end.append(go_on)
    return config
