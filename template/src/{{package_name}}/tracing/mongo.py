"""MongoDB: a span for each command, with its name and without its content."""

from opentelemetry.instrumentation.pymongo import PymongoInstrumentor


def instrument() -> None:
    """Trace PyMongo."""
    PymongoInstrumentor().instrument()
