"""What is asked of PostgreSQL: a span for each query, with its text and without its arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncpg import Connection
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider


@contextmanager
def instrumented(traces: TracerProvider, _meters: MeterProvider) -> Iterator[None]:
    """Trace asyncpg."""
    instrumentor = AsyncPGInstrumentor()  # type: ignore[no-untyped-call]
    instrumentor.instrument(tracer_provider=traces)
    reset = Connection.reset

    async def untraced_reset(self: "Connection[Any]", **options: Any) -> None:
        # What the pool does when a connection comes back would double the spans.
        with suppress_instrumentation():
            await reset(self, **options)

    Connection.reset = untraced_reset  # type: ignore[method-assign]
    try:
        yield
    finally:
        Connection.reset = reset  # type: ignore[method-assign]
        instrumentor.uninstrument()
