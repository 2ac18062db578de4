"""What is asked of Redis: a span for each command, with its name and without keys and values."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider


@contextmanager
def instrumented(traces: TracerProvider, _meters: MeterProvider) -> Iterator[None]:
    """Trace redis-py."""
    instrumentor = RedisInstrumentor()
    instrumentor.instrument(tracer_provider=traces)
    try:
        yield
    finally:
        instrumentor.uninstrument()
