"""Requests and WebSockets: a span and a duration for each, named after the route."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from time import perf_counter
from typing import Any, TypeAlias

import structlog
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.url_attributes import URL_QUERY
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.http import sanitize_method
from quart import Quart

from ..core.serving import current_exchange

Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]

FAILURES = {500, 502, 503, 504, 1011}
"""Statuses of refused handshakes, and the close code, that are errors of this service."""

DURATIONS = (0.1, 1, 10, 60, 600, 3600)
"""Bounds of the histogram of WebSockets, in seconds."""


class TracedApp:
    """The ASGI app of a service, with OpenTelemetry's middleware around it."""

    def __init__(self, app: Quart) -> None:
        """Take the place of `app.asgi_app`."""
        self._app = app
        self._service = app.asgi_app
        self._traced = OpenTelemetryMiddleware(
            self._serve, default_span_details=self._describe, exclude_spans=["receive", "send"]
        )
        self._durations = metrics.get_meter(__name__).create_histogram(
            "websocket.server.duration",
            unit="s",
            description="Duration of WebSockets.",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a WebSocket, or the life of the app."""
        if scope["type"] == "lifespan":
            await self._service(scope, receive, send)
        elif _path(scope).startswith("/health/"):
            # Probes come every few seconds. Their pings are no spans either.
            with suppress_instrumentation():
                await self._service(scope, receive, send)
        else:
            await self._traced(scope, receive, send)

    def _describe(self, scope: Scope) -> tuple[str, dict[str, str]]:
        """Return the name of a span, and attributes that the middleware does not know."""
        method = sanitize_method(scope["method"]) if scope["type"] == "http" else "WEBSOCKET"
        name = method.replace("_OTHER", "HTTP")
        # A query may hold what a client searches for, or a key.
        attributes = {URL_QUERY: "REDACTED"} if scope["query_string"] else {}
        if route := self._route(scope):
            return f"{name} {route}", attributes | {HTTP_ROUTE: route}
        return name, attributes

    def _route(self, scope: Scope) -> str | None:
        is_websocket = scope["type"] == "websocket"
        routes = self._app.url_map.bind("")
        try:
            rule, _ = routes.match(
                _path(scope), scope.get("method"), return_rule=True, websocket=is_websocket
            )
        except Exception:  # the service answers it, mostly by 404
            return None
        return rule.rule

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve inside the span. Log lines get its trace ID."""
        span = trace.get_current_span()
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        structlog.contextvars.bind_contextvars(trace_id=trace_id)
        if scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send, span)
        else:
            await self._service(scope, receive, send)

    async def _serve_websocket(
        self, scope: Scope, receive: Receive, send: Send, span: trace.Span
    ) -> None:
        """Record how a WebSocket ends. The middleware gives each one the status 200.

        https://github.com/open-telemetry/opentelemetry-python-contrib/issues/505
        """
        outcome: dict[str, str | int] = {}
        started = perf_counter()

        async def note(message: Any) -> None:
            if message["type"] == "websocket.accept":
                outcome[HTTP_RESPONSE_STATUS_CODE] = HTTPStatus.SWITCHING_PROTOCOLS
            elif "status" in message:
                outcome[HTTP_RESPONSE_STATUS_CODE] = message["status"]
            failure = message.get("status", message.get("code"))
            if failure in FAILURES:
                outcome[ERROR_TYPE] = str(failure)
            await send(message)

        try:
            await self._service(scope, receive, note)
        finally:
            span.set_attributes(outcome)
            if ERROR_TYPE in outcome:
                span.set_status(Status(StatusCode.ERROR))
            if route := current_exchange.get().route:
                outcome[HTTP_ROUTE] = route
            self._durations.record(perf_counter() - started, outcome)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
