"""The readiness check: which backends it needs, and how long it waits."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from orders.core import api, errors, health, serving
from orders.core.settings import InvalidSettings, ServiceSettings
from quart import Quart


async def works() -> None:
    await asyncio.sleep(0)


async def fails() -> None:
    raise RuntimeError("password=secret")


async def hangs() -> None:
    await asyncio.sleep(60)


PINGS = {"works": works, "fails": fails, "hangs": hangs}


@pytest.fixture
def app() -> Quart:
    """Return an app without backends."""
    app = serving.Service("test", ServiceSettings())
    api.init_app(app, app.settings)
    errors.init_app(app)
    return app


async def report_of(app: Quart, requires: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the report of a service whose database is `works`."""
    settings = ServiceSettings(readiness_timeout=0.3, readiness_requires=requires)
    health.init_app(app, settings, PINGS, frozenset({"works"}))
    response = await app.test_client().get("/health/ready")
    return response.status_code, await response.get_json()


@pytest.mark.parametrize(
    ("requires", "status"),
    [
        ("", 200),
        ("works", 200),
        ("none", 200),
        ("fails", 503),
        ("hangs", 503),
        ("works,fails", 503),
        (" works , fails ", 503),
    ],
)
async def test_only_required_backends_make_it_unready(
    requires: str, status: int, app: Quart
) -> None:
    given, report = await report_of(app, requires)

    assert given == status
    assert report["status"] == ("ok" if status == 200 else "unavailable")
    states = {name: backend["status"] for name, backend in report["backends"].items()}
    assert states == {"works": "ok", "fails": "unavailable", "hangs": "unavailable"}
    assert "secret" not in str(report)


async def test_backends_are_asked_side_by_side_for_a_limited_time(app: Quart) -> None:
    settings = ServiceSettings(readiness_timeout=0.1)
    health.init_app(app, settings, {str(number): hangs for number in range(5)})
    started = perf_counter()
    async with app.app_context():
        report = await health.check()

    assert 0.1 <= perf_counter() - started < 0.45
    assert all(backend["latency_ms"] >= 100 for backend in report["backends"].values())


def test_an_unknown_backend_stops_the_start(
    create_app: Callable[[], Quart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READINESS_REQUIRES", "none,mysql")

    with pytest.raises(InvalidSettings, match=r"\AREADINESS_REQUIRES: .*'mysql'"):
        create_app()
