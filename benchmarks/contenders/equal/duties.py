"""What a generated service does for each request, as ASGI middleware.

An ID, security headers, limits to URL, headers, host and body, a deadline, problem documents, and
a line of JSON that a thread writes. What a service does for streams and slow senders is not here.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from queue import SimpleQueue
from random import getrandbits
from threading import Thread
from time import perf_counter
from typing import Any, TypeAlias

import msgspec

Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_TIMEOUT = 15.0
MAX_URL_LENGTH = 4096
MAX_HEADER_SIZE = 64 * 1024
MAX_BODY_SIZE = 1024 * 1024
MAX_LINES = 10_000

HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(r"([\w-]{1,63}(\.[\w-]{1,63}){0,9}\.?|\[[\da-f:.]{2,45}\])(:\d{1,5})?", re.ASCII)

HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The ID of the current request, for its other lines in the log."""


class Log:
    """Lines that a thread writes to standard error. When too many wait, they are dropped."""

    def __init__(self) -> None:
        """Start the thread."""
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        Thread(target=self._run, daemon=True).start()

    def write(self, line: dict[str, Any]) -> None:
        """Queue a line."""
        if self._lines.qsize() < MAX_LINES:
            self._lines.put(msgspec.json.encode(line) + b"\n")

    def _run(self) -> None:
        while True:
            lines = [self._lines.get()]
            while len(lines) < 100 and not self._lines.empty():
                lines.append(self._lines.get())
            sys.stderr.buffer.write(b"".join(lines))
            sys.stderr.buffer.flush()


def problem(status: int, detail: str | None, **members: Any) -> bytes:
    """Return a problem document (RFC 9457)."""
    title = HTTPStatus(status).phrase
    body: bytes = msgspec.json.encode(
        {"title": title, "status": status, "detail": detail} | members
    )
    return body


class Duties:
    """Middleware around an app of any framework."""

    def __init__(self, app: App) -> None:
        """Wrap an app."""
        self._app = app
        self._log = Log()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        own = given if HARMLESS_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        request_id.set(own)
        status = 0

        async def pass_on(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = dict(message["headers"])
                added = [header for header in HEADERS.items() if header[0] not in present]
                added.append((b"x-request-id", own.encode()))
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            if refused := refusal(scope, headers):
                await refuse(pass_on, *refused)
                return
            async with asyncio.timeout(REQUEST_TIMEOUT) as deadline:
                await self._app(scope, receive, pass_on)
        except TimeoutError:
            if status or not deadline.expired():
                raise
            await refuse(pass_on, HTTPStatus.GATEWAY_TIMEOUT, "The request took too long.")
        finally:
            route = getattr(scope.get("route"), "path", None)
            line = {"method": scope["method"], "route": route}
            if route is None:
                line["path"] = scope["path"][:200]
            line["status"] = status or HTTPStatus.INTERNAL_SERVER_ERROR
            line["duration_ms"] = round((perf_counter() - began) * 1000, 1)
            line |= {"request_id": own, "event": "request", "level": "info", "logger": __name__}
            line["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            self._log.write(line)


def refusal(scope: Scope, headers: dict[bytes, bytes]) -> tuple[HTTPStatus, str] | None:
    """Return why a request is not served, as a status and a sentence."""
    if len(scope["path"]) + len(scope["query_string"]) > MAX_URL_LENGTH:
        return HTTPStatus.REQUEST_URI_TOO_LONG, "The URL is too long."
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_SIZE:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large."
    if int(headers.get(b"content-length", 0)) > MAX_BODY_SIZE:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large."
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if host and not HOST.fullmatch(host):
        return HTTPStatus.BAD_REQUEST, "The Host header is not a valid host name."
    return None


async def refuse(send: Send, status: HTTPStatus, detail: str) -> None:
    """Answer with a problem document."""
    body = problem(status, detail)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
