"""PostgreSQL: a span for each query, with its text and without its arguments."""

from typing import Any

from asyncpg import Connection
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

reset = Connection.reset


def instrument() -> None:
    """Trace asyncpg."""
    AsyncPGInstrumentor().instrument()  # type: ignore[no-untyped-call]
    Connection.reset = _untraced_reset  # type: ignore[method-assign]


async def _untraced_reset(self: "Connection[Any]", **options: Any) -> None:
    # The pool runs this after each query. It would double the spans.
    with suppress_instrumentation():
        await reset(self, **options)
