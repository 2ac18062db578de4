"""Outbound HTTP: a span for each call, which the other service continues, and its duration."""

from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from yarl import URL


def instrument() -> None:
    """Trace and measure aiohttp's client."""
    AioHttpClientInstrumentor().instrument(url_filter=_without_query)


def _without_query(url: URL) -> str:
    return str(url.with_user(None).with_query(None))
