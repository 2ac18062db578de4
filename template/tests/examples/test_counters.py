"""The counters example, through its endpoints."""

import asyncio
from uuid import uuid4

import pytest
from quart.typing import TestClientProtocol as Client


async def test_a_counter_begins_at_zero_and_loses_nothing(client: Client) -> None:
    name = f"test-{uuid4()}"
    path = f"/counters/{name}"

    assert await (await client.get(path)).get_json() == {"name": name, "value": 0}
    answers = await asyncio.gather(*(client.post(path) for _ in range(20)))
    counters = [await answer.get_json() for answer in answers]

    assert sorted(counter["value"] for counter in counters) == list(range(1, 21))
    assert {counter["name"] for counter in counters} == {name}
    assert (await (await client.get(path)).get_json())["value"] == 20


async def test_a_name_that_does_not_fit(client: Client, subtests: pytest.Subtests) -> None:
    for name in ("A", "1", "a" * 65, "a%20b", "a%00b", "%ED%A0%80", "*"):
        with subtests.test(name=name):
            assert (await client.get(f"/counters/{name}")).status_code == 404
            assert (await client.post(f"/counters/{name}")).status_code == 404
