"""Health checks: /health/live for restarts, /health/ready for traffic."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from time import perf_counter
from typing import Any, TypeAlias

import structlog
from quart import Blueprint, Quart, current_app

from .settings import InvalidSettings, ServiceSettings

Ping: TypeAlias = Callable[[], Awaitable[None]]

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("health", __name__, url_prefix="/health")


def init_app(
    app: Quart,
    settings: ServiceSettings,
    pings: Mapping[str, Ping] | None = None,
    required: frozenset[str] = frozenset(),
) -> None:
    """Add the health checks.

    pings: a cheap request to each backend, by name. required: the backends that READINESS_REQUIRES
    names by default. Raises InvalidSettings when it names something else.
    """
    pings = pings or {}
    if settings.readiness_requires:
        required = frozenset(name.strip() for name in settings.readiness_requires.split(","))
        if unknown := required - {*pings, "none"}:
            raise InvalidSettings(f"READINESS_REQUIRES: there is no backend {min(unknown)!r}")
    app.extensions["health"] = (pings, required - {"none"}, settings.readiness_timeout)
    app.register_blueprint(blueprint)


@blueprint.get("/live")
async def live() -> dict[str, str]:
    """Tell whether the process works. If this does not answer, restart the process."""
    return {"status": "ok"}


@blueprint.get("/ready")
async def ready() -> tuple[dict[str, Any], int]:
    """Tell whether the service can do its work. On a 503, send traffic elsewhere."""
    report = await check()
    return report, HTTPStatus.OK if report["status"] == "ok" else HTTPStatus.SERVICE_UNAVAILABLE


async def check() -> dict[str, Any]:
    """Ask all backends at the same time, and return the report. Needs a serving app.

    The report has the "status" of the service, and of each of its "backends" by name: a "status",
    "ok" or "unavailable", and the "latency_ms" of the answer.
    """
    pings, required, limit = current_app.extensions["health"]
    answers = await asyncio.gather(*(_check(name, pings[name], limit) for name in pings))
    backends = dict(zip(pings, answers, strict=True))
    ok = all(backends[name]["status"] == "ok" for name in required)
    return {"status": "ok" if ok else "unavailable", "backends": backends}


async def _check(name: str, ping: Ping, limit: float) -> dict[str, Any]:
    status = "ok"
    started = perf_counter()
    try:
        async with asyncio.timeout(limit):
            await ping()
    except Exception as error:  # whatever the reason, the backend is unavailable
        # The text of an error may hold addresses and user names.
        log.warning("backend unavailable", backend=name, reason=type(error).__name__)
        status = "unavailable"
    return {"status": status, "latency_ms": round((perf_counter() - started) * 1000, 1)}
