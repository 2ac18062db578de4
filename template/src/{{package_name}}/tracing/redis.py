"""Redis: a span for each command, with its name and without keys and values."""

from opentelemetry.instrumentation.redis import RedisInstrumentor


def instrument() -> None:
    """Trace redis-py."""
    RedisInstrumentor().instrument()
