"""A stand-in for the web service at UPSTREAM_URL: a weather service with invented answers.

GET /weather/<city>             the weather, always the same for a city
GET /weather/<city>?delay=2     the same after 2 seconds
GET /weather/<city>?status=503  with another status
"""

import asyncio
import hashlib

from aiohttp import web

TITLE = "Upstream"
VARIABLE = "UPSTREAM_URL"

CONDITIONS = ("clear", "cloudy", "foggy", "rainy", "snowy", "sunny", "windy")


def application(_url: str) -> web.Application:
    """Return the web service."""
    app = web.Application()
    app.router.add_get("/weather/{city}", weather)
    return app


async def weather(request: web.Request) -> web.Response:
    """Answer with the weather in a city, after `delay` seconds, with the given `status`."""
    await asyncio.sleep(float(request.query.get("delay", "0")))
    status = int(request.query.get("status", "200"))
    return web.json_response(forecast(request.match_info["city"]), status=status)


def forecast(city: str) -> dict[str, str | float]:
    """Invent the weather in a city: from -10 to 35 degrees Celsius, and a word."""
    digest = hashlib.sha256(city.casefold().encode()).digest()
    return {
        "city": city,
        "temperature_c": round(int.from_bytes(digest[:2]) / 2**16 * 45 - 10, 1),
        "conditions": CONDITIONS[digest[2] % len(CONDITIONS)],
    }
