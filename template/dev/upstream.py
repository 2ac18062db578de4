"""A stand-in for the web service at UPSTREAM_URL: a weather service that makes its answers up.

    GET /weather/<city>             the weather, always the same for a city
    GET /weather/<city>?delay=2     the same after 2 seconds (0 to 60)
    GET /weather/<city>?status=503  that status in place of 200
    GET /health                     200

It stands on its own as well: `uv run dev/upstream.py --port 8001`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from dev.server import Server

NAME = "upstream"
TITLE = "Upstream"
VARIABLE = "UPSTREAM_URL"

HOST = "127.0.0.1"
CONDITIONS = ("clear", "cloudy", "foggy", "rainy", "snowy", "sunny", "windy")
COLDEST = -10.0
WARMEST = 35.0
MAX_DELAY = 60.0
STATUSES = range(200, 600)


def start(directory: Path, *, durable: bool, port: int | None = None) -> "Server":  # noqa: ARG001
    """Start the web service, and return once it is ready.

    directory: for its log. durable: no difference, there is no data. port: the one to use, else a
    free one. Raises CannotStart.
    """
    # Run by its path, as below, this file starts fast: without the package and all its clients.
    # -P keeps this folder, whose modules are named like libraries, out of the import path.
    from dev.launch import claimed, launch  # noqa: PLC0415
    from dev.server import Program  # noqa: PLC0415

    def program(port: int) -> Program:
        return Program(
            title=TITLE,
            variable=VARIABLE,
            url=f"http://{HOST}:{port}",
            port=port,
            command=[sys.executable, "-P", __file__, "--port", str(port)],
        )

    with claimed(directory / "upstream.log", TITLE) as log:
        return launch(program, _ask, log, port)


def prepare(_url: str) -> None:
    """Do nothing: there is no state."""


def scratch(url: str, _name: str) -> AbstractContextManager[str]:
    """Lend the URL itself: there is no data that tests could get from each other."""
    return nullcontext(url)


def make_app() -> web.Application:
    """Return the web service, for `web.run_app` or for aiohttp's TestServer."""
    app = web.Application()
    app.router.add_get("/weather/{city}", weather)
    app.router.add_get("/health", health)
    return app


async def weather(request: web.Request) -> web.Response:
    """Answer with the weather in a city, after the delay and with the status that are asked for."""
    try:
        delay = float(request.query.get("delay", "0"))
        status = int(request.query.get("status", "200"))
    except ValueError:
        raise web.HTTPBadRequest(text="delay and status are numbers") from None
    if not 0 <= delay <= MAX_DELAY or status not in STATUSES:
        raise web.HTTPBadRequest(text="delay is from 0 to 60 seconds, status from 200 to 599")
    await asyncio.sleep(delay)
    return web.json_response(forecast(request.match_info["city"]), status=status)


async def health(_request: web.Request) -> web.Response:
    """Answer that all is well, and which process says so."""
    return web.json_response({"status": "ok", "pid": os.getpid()})


def forecast(city: str) -> dict[str, str | float]:
    """Make up the weather in a city, in degrees Celsius and a word."""
    digest = hashlib.sha256(city.casefold().encode()).digest()
    share = int.from_bytes(digest[:4]) / 2**32
    return {
        "city": city,
        "temperature_c": round(COLDEST + share * (WARMEST - COLDEST), 1),
        "conditions": CONDITIONS[digest[4] % len(CONDITIONS)],
    }


def _ask(server: "Server") -> None:
    """Ask for its health; raises an exception as long as the server is not ready."""
    connection = HTTPConnection(HOST, server.port, timeout=1)
    try:
        connection.request("GET", "/health")
        if json.load(connection.getresponse())["pid"] != server.pid:
            raise ConnectionError("another process listens on the port")
    finally:
        connection.close()


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="Made-up weather.")
    parser.add_argument("--port", type=int, default=8001, help="default: %(default)s")
    web.run_app(make_app(), host=HOST, port=parser.parse_args().port, shutdown_timeout=1)


if __name__ == "__main__":
    main()
