"""Request handling: limits, request IDs, security headers, deadlines and the access log.

`Service` is Quart with these. What applies to requests, streams and WebSockets alike happens
around Quart, in ASGI. Hooks of Quart are the better place for what belongs to some endpoints.
"""

import asyncio
import gc
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, partial
from http import HTTPStatus
from io import BytesIO
from time import perf_counter
from typing import Any, TypeAlias

import structlog
from quart import Quart, Request, Websocket, abort, request, websocket
from quart.formparser import FormDataParser
from quart.typing import ResponseReturnValue
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from werkzeug.exceptions import GatewayTimeout
from werkzeug.sansio.utils import host_is_trusted

from . import errors, logs
from .settings import ServiceSettings

Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]

HEADERS = {
    # A response is for its client only, unless the handler says otherwise.
    b"cache-control": b"no-store",
    # JSON needs no scripts, styles, images or frames. A page sets a policy of its own.
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
"""Headers of every response that does not set them. The proxy that ends TLS adds HSTS."""

CORS = [
    (b"access-control-allow-headers", b"*, Authorization"),
    (b"access-control-allow-methods", b"*"),
    (b"access-control-expose-headers", b"*"),
]
"""What pages of CORS_ORIGINS may send and read. Cookies stay out of it."""

HOST = re.compile(r"([\w-]{1,63}(\.[\w-]{1,63}){0,9}\.?|\[[\da-f:.]{2,45}\])(:\d{1,5})?", re.ASCII)

CLIENT_LEFT = 499
"""The status in the log when the client left before the response, as in nginx."""

MAX_PATH_LOGGED = 200

GOING_AWAY, RESTARTING = 1001, 1012
"""Close codes of a WebSocket after STREAM_TIMEOUT, and on SIGTERM."""

WEBSOCKET_QUEUE = 4
"""Messages, of 16 MiB at most, that a WebSocket handler may have waiting."""

log = structlog.stdlib.get_logger(__name__)


class JsonRequest(Request):
    """Quart's request, with 400 for a body that is not JSON or UTF-8, and uploads in memory."""

    # Quart writes uploads of more than 500 kB to files, which blocks. MAX_BODY_SIZE bounds them.
    form_data_parser_class = partial(FormDataParser, stream_factory=lambda *_: BytesIO())  # type: ignore[assignment]

    async def get_data(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().get_data(*args, **options)
        except UnicodeDecodeError:
            abort(400, "The body is not valid UTF-8.")

    def on_json_loading_failed(self, *_: Any) -> Any:
        abort(400, "The body is not valid JSON.")


class BoundedWebsocket(Websocket):
    """Quart's WebSocket, which says when the handler has read a message: see Exchange.serve."""

    async def receive(self, *args: Any) -> Any:
        message = await super().receive(*args)
        current_exchange.get().unread.release()
        return message


class Service(Quart):
    """Quart with limits, request IDs, security headers, deadlines and an access log."""

    request_class = JsonRequest
    websocket_class = BoundedWebsocket

    def __init__(self, name: str, settings: ServiceSettings) -> None:
        super().__init__(name, static_folder=None)
        self.extensions["settings"] = self.settings = settings
        self.config["MAX_CONTENT_LENGTH"] = settings.max_body_size
        # Quart would cut streams after 60 s and log nothing. STREAM_TIMEOUT takes its place.
        self.config["RESPONSE_TIMEOUT"] = None
        self.trusted_hosts = _listed(settings.trusted_hosts)
        self.cors_origins = {each.rstrip("/").encode() for each in _listed(settings.cors_origins)}
        bound_connections(settings)

    async def __call__(self, *args: Any) -> None:
        # A pipelined request begins with the context of the request before it.
        structlog.contextvars.clear_contextvars()
        await super().__call__(*args)

    async def asgi_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().asgi_app(scope, receive, send)
        else:
            await Exchange(self, scope, send).serve(super().asgi_app, receive)

    async def preprocess_request(self, *args: Any) -> ResponseReturnValue | None:
        current_exchange.get().enter(request)
        return await super().preprocess_request(*args)

    async def dispatch_request(self, *args: Any) -> ResponseReturnValue:
        """Run the handler; raises GatewayTimeout, and cancels its waits, after REQUEST_TIMEOUT."""
        try:
            async with asyncio.timeout(self.settings.request_timeout) as deadline:
                return await super().dispatch_request(*args)
        except TimeoutError as error:
            if deadline.expired():
                raise GatewayTimeout(errors.DETAILS[HTTPStatus.GATEWAY_TIMEOUT]) from error
            raise

    async def preprocess_websocket(self, *args: Any) -> ResponseReturnValue | None:
        current_exchange.get().enter(websocket)
        return await super().preprocess_websocket(*args)

    async def handle_websocket_exception(self, *args: Any) -> Any:
        current_exchange.get().failed = True
        return await super().handle_websocket_exception(*args)


class Exchange:
    """One request or WebSocket: its ID, its limits, its headers and its line in the log."""

    def __init__(self, app: Service, scope: Scope, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._send = send
        self._headers = dict(scope["headers"])
        self._started = perf_counter()
        self._request_id = b""
        self._status = 0
        self._ended = ""
        self._handler: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.route: str | None = None
        self.failed = False
        # What hooks add to the line in the log.
        self.line: dict[str, Any] = {}
        self.unread: asyncio.Semaphore

    async def serve(self, app: Callable[..., Awaitable[None]], receive: Receive) -> None:
        """Have the app serve, and log how it ended."""
        given = self._headers.get(b"x-request-id", b"").decode("latin-1")
        self._request_id = logs.start_request(given).encode()
        current_exchange.set(self)

        async def receive_bounded() -> Any:
            # Quart reads ahead without a limit. Here a fast client waits for the handler.
            await self.unread.acquire()
            message = await receive()
            if message["type"] != "websocket.receive":
                self.unread.release()
            if message.get("code") == RESTARTING:
                self._ended = "shutdown"
            return message

        try:
            if refusal := self._refusal():
                await self._refuse(*refusal)
            elif self._scope["type"] == "websocket":
                self.unread = asyncio.Semaphore(WEBSOCKET_QUEUE)
                await app(self._scope, receive_bounded, self._pass_on)
            else:
                await app(self._scope, receive, self._pass_on)
            if self._ended in {"timeout", "shutdown"}:
                await self._cut_off()
        except Exception:
            self._ended = "error"
            raise
        finally:
            if self._timer:
                self._timer.cancel()
                event_streams.discard(self)
            self._log()

    def enter(self, handled: Request | Websocket) -> None:
        """Note the route, and the task that runs the handler."""
        self._handler = asyncio.current_task()
        if handled.url_rule:
            self.route = handled.url_rule.rule

    def end(self, why: str) -> None:
        """End a stream now; why: "timeout" or "shutdown", for the log."""
        if not self._ended and self._handler:
            self._ended = why
            # Not the task of `serve`: Quart's tasks for the request would go on without it.
            self._handler.cancel()

    def _refusal(self) -> tuple[HTTPStatus, str] | None:
        """Return why no endpoint may serve this, as a status and a sentence."""
        path, settings = self._scope["path"], self._app.settings
        if len(path) + len(self._scope["query_string"]) > settings.max_url_length:
            return HTTPStatus.REQUEST_URI_TOO_LONG, "The URL is too long."
        header_size = sum(len(name) + len(value) for name, value in self._scope["headers"])
        if header_size > settings.max_header_size:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large."
        host = self._headers.get(b"host", b"").decode("latin-1").lower()
        if host and not HOST.fullmatch(host):
            return HTTPStatus.BAD_REQUEST, "The Host header is not a valid host name."
        # Probes use the IP address of the process.
        is_probe = path.removeprefix(self._scope.get("root_path", "")).startswith("/health/")
        trusted = self._app.trusted_hosts
        if trusted and not is_probe and not host_is_trusted(host, trusted):
            return HTTPStatus.BAD_REQUEST, "This host is not served here."
        return None

    async def _refuse(self, status: HTTPStatus, detail: str) -> None:
        body = errors.document(status, detail)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
        ]
        kind = "http.response" if self._scope["type"] == "http" else "websocket.http.response"
        await self._pass_on({"type": f"{kind}.start", "status": status, "headers": headers})
        await self._pass_on({"type": f"{kind}.body", "body": body, "more_body": False})

    async def _pass_on(self, message: Any) -> None:
        """Send a message of the app to the client, and note what it means for the log."""
        kind = message["type"]
        if kind.endswith("response.start"):
            self._status = message["status"]
            headers = message["headers"]
            present = dict(headers)
            headers += [header for header in HEADERS.items() if header[0] not in present]
            if origins := self._app.cors_origins:
                headers.append((b"vary", b"Origin"))
                origin = self._headers.get(b"origin")
                if origin and not origins.isdisjoint({origin, b"*"}):
                    headers += [(b"access-control-allow-origin", origin), *CORS]
            headers.append((b"x-request-id", self._request_id))
            if b"content-length" not in present:
                self._bound_stream()
            if present.get(b"content-type", b"").startswith(b"text/event-stream"):
                event_streams.add(self)
        elif kind == "websocket.accept":
            self._status = HTTPStatus.SWITCHING_PROTOCOLS
            self._bound_stream()
        elif kind == "websocket.close":
            if self.failed and self._status == HTTPStatus.SWITCHING_PROTOCOLS:
                message["code"] = 1011
            self._ended = "error" if self.failed else "complete"
        elif kind.endswith("response.body") and not message.get("more_body"):
            self._ended = "complete"
        await self._send(message)

    def _bound_stream(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._app.settings.stream_timeout, self.end, "timeout")

    async def _cut_off(self) -> None:
        """Tell the client that the service ends a stream or a WebSocket."""
        kind = self._scope["type"]
        if kind == "websocket" and self._ended == "timeout":
            with suppress(OSError):
                await self._send({"type": "websocket.close", "code": GOING_AWAY})
        elif kind == "http" and self._ended == "shutdown":
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        # Otherwise the server closes the connection: a WebSocket with RESTARTING, and a response so
        # that the client sees that something is missing.

    def _log(self) -> None:
        kind = self._scope["type"]
        line: dict[str, Any] = {"method": self._scope["method"]} if kind == "http" else {}
        line["route"] = self.route
        if self.route is None:
            line["path"] = self._scope["path"][:MAX_PATH_LOGGED]
        line["status"] = self._status or (500 if self._ended == "error" else CLIENT_LEFT)
        if self._ended != "complete":
            line["ended"] = self._ended or "client left"
        line["duration_ms"] = round((perf_counter() - self._started) * 1000, 1)
        logs.log_access("request" if kind == "http" else "websocket", line | self.line)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.lower().split(",") if part.strip()]


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")

event_streams: set[Exchange] = set()
"""The event streams that are open: they may have no end of their own."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP connection, with limits for headers and slow clients.

    uvicorn has no options for them: 50 MB of one header took 3.4 s of CPU, and a client that sent
    slowly, or nothing, kept its connection. It waits for event streams as for other responses.
    """

    max_header_size = 64 * 1024
    timeout = 15.0

    _is_in_headers = True
    _header_size = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.timeout, self._expire)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers, self._header_size = True, 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.timeout, self._expire)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._header_size += len(data)
        if self._is_in_headers and self._header_size > self.max_header_size:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.transport.write(f"HTTP/1.1 {status} {status.phrase}\r\n".encode())
            self.transport.write(b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        super().on_message_complete()

    def shutdown(self) -> None:
        super().shutdown()
        for stream in event_streams:
            stream.end("shutdown")

    def _expire(self) -> None:
        if not self.transport.is_closing():
            log.info("connection closed", reason="no complete request in time")
            self.transport.close()


def bound_connections(settings: ServiceSettings) -> None:
    """Have uvicorn use BoundedProtocol, whose class cannot be named on its command line."""
    BoundedProtocol.max_header_size = settings.max_header_size
    BoundedProtocol.timeout = settings.request_timeout + 1
    HttpToolsProtocol.__new__ = lambda *_, **__: object.__new__(BoundedProtocol)  # type: ignore[method-assign, assignment]


@cache
def freeze_startup_objects() -> None:
    """Exclude objects created at startup from garbage collection, once per process.

    A full collection would otherwise pause all requests for up to 0.1 s: without it, reads per CPU
    second rise by 17 to 23 %, and the p99 falls from 41 to 6 ms (Python 3.11).
    """
    gc.collect()
    gc.freeze()
