"""What small changes in Quart and quart-schema would save of a request, in process, in µs of CPU.

Each change is measured alone, in turn with the libraries as they are: 50 requests at a time, best
of all rounds. `make bench UPSTREAM=1` runs this in a generated service.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from time import thread_time
from typing import Any

import quart_schema.conversion
import uvloop
from pydantic import BaseModel, TypeAdapter
from quart import Quart, Response
from quart.asgi import ASGIHTTPConnection
from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from quart_schema import QuartSchema, validate_request

ROUNDS, REQUESTS, AT_ONCE = 20, 1500, 50

send_in_parts = ASGIHTTPConnection._send_response


async def send_at_once(self: Any, send: Any, response: Any) -> None:
    """Send a complete body in one message, in place of a message and an empty one."""
    body = response.response
    if not isinstance(response, Response) or not isinstance(body, DataBody):
        await send_in_parts(self, send, response)
        return
    headers = encode_headers(response.headers)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    data = body.data[body.begin : body.end]
    await send({"type": "http.response.body", "body": data, "more_body": False})


CHANGES: dict[str, tuple[str, Any, str, Any]] = {
    "a complete body in one message": ("/", ASGIHTTPConnection, "_send_response", send_at_once),
    "a TypeAdapter per model": (
        "/notes",
        quart_schema.conversion,
        "TypeAdapter",
        cache(TypeAdapter),
    ),
}
"""The endpoint that shows a change, what it replaces, and by what."""


class Note(BaseModel):
    """What a client sends."""

    title: str
    body: str = ""


def make_app() -> Quart:
    """Return a service with an endpoint that answers, and one that validates."""
    app = Quart(__name__)
    QuartSchema(app, conversion_preference="msgspec")

    @app.get("/")
    async def constant() -> dict[str, str]:
        return {"hello": "world"}

    @app.post("/notes")
    @validate_request(Note)
    async def create(data: Note) -> dict[str, str]:
        return {"title": data.title}

    return app


async def ask(app: Quart, path: str) -> None:
    """Send a request, and wait for the whole answer."""
    body = b"" if path == "/" else b'{"title": "a", "body": "b"}'
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST" if body else "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    ended = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        elif not message["more_body"]:
            ended.set()

    await app(scope, receive, send)


async def microseconds(app: Quart, path: str) -> float:
    """Return the CPU time of a request."""

    async def ask_many() -> None:
        for _ in range(REQUESTS // AT_ONCE):
            await asyncio.create_task(ask(app, path))

    began = thread_time()
    await asyncio.gather(*(ask_many() for _ in range(AT_ONCE)))
    return (thread_time() - began) / REQUESTS * 1e6


async def main() -> None:
    """Measure every change, and print a table."""
    app = make_app()
    for name in ("Quart", "quart-schema"):
        print(name, version(name))
    for change, (path, owner, attribute, replacement) in CHANGES.items():
        original: Callable[..., Any] = getattr(owner, attribute)
        before, after = [], []
        for _ in range(ROUNDS):
            setattr(owner, attribute, original)
            before.append(await microseconds(app, path))
            setattr(owner, attribute, replacement)
            after.append(await microseconds(app, path))
        setattr(owner, attribute, original)
        print(f"{change}: {min(before):.1f} -> {min(after):.1f} µs")


if __name__ == "__main__":
    uvloop.run(main())
