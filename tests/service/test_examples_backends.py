"""The overview of the examples: all backends side by side."""

import asyncio
from typing import Any

import pytest
from orders.backends import BACKENDS
from orders.blueprints import examples
from quart.typing import TestClientProtocol as Client


async def test_every_source_answers(client: Client) -> None:
    response = await client.get("/overview")

    report = await response.get_json()
    assert response.status_code == 200
    assert list(report["sources"]) == [backend.name for backend in BACKENDS]
    for source in report["sources"].values():
        assert source["status"] == "ok"
        assert source["answer"] is not None


async def slow() -> dict[str, Any]:
    await asyncio.sleep(0.2)
    return {}


async def fails() -> dict[str, Any]:
    raise RuntimeError("password=secret")


async def hangs() -> dict[str, Any]:
    await asyncio.sleep(60)
    return {}


async def works() -> dict[str, Any]:
    await asyncio.sleep(0)
    return {}


async def test_the_total_is_the_slowest_and_not_the_sum(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "SOURCES", {str(number): slow for number in range(5)})

    report = await (await client.get("/overview")).get_json()

    assert 200 <= report["total_ms"] < 800


async def test_a_source_that_fails_does_not_affect_the_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "TIMEOUT", 0.3)
    monkeypatch.setattr(examples, "SOURCES", {"fails": fails, "hangs": hangs, "works": works})

    response = await client.get("/overview")

    report = await response.get_json()
    states = [source["status"] for source in report["sources"].values()]
    assert response.status_code == 200
    assert states == ["unavailable", "unavailable", "ok"]
    assert "secret" not in str(report)
